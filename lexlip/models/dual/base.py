"""Dual encoders: models that embed texts and pictures in one space, behind one protocol.

`lexlip.models.dual.open_dual_encoder` opens one. Some can do more: `SeesPatches`, `AttendsText`.
Nothing here imports torch.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


class Vocabulary(Protocol):
    """As much of a tokenizer as the choice of a lexicon needs."""

    def get_vocab(self) -> Mapping[str, int]:
        """Return each token with its id."""


class DualEncoder(Protocol):
    """Texts and pictures to unit vectors of one space.

    d is the width of a vector. Texts longer than `max_text_length` are cut, as their model's own
    preprocessing does it.
    """

    @property
    def family(self) -> str:
        """The kind of model: ``"clip"``, ``"siglip"``, ``"chinese-clip"`` ..."""

    @property
    def name_or_path(self) -> str:
        """The folder or hub name that the encoder was opened from."""

    @property
    def width(self) -> int:
        """Numbers of a vector, d."""

    @property
    def max_text_length(self) -> int:
        """Longest text in tokens, special tokens included."""

    @property
    def fingerprint(self) -> str:
        """sha256 over weights, vocabulary and picture preprocessing.

        Untrained numbers such as position ids have no part in it, so that it outlives a copy and
        another version of the library that loads them.
        """

    @property
    def prompt(self) -> str:
        """The sentence that a word is embedded in, with ``{}`` for the word."""

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of languages that the text encoder has learned, the main one first: a hint."""

    @property
    def tokenizer(self) -> Vocabulary:
        """The tokenizer of texts."""

    @property
    def image_side(self) -> int | None:
        """Pixels that the shorter side of a picture is decoded to at least; None for all."""

    def prepare_image(self, image: Any) -> Any:
        """One picture as the encoder sees it: small, and what `embed_image` takes too."""

    def embed_text(self, texts: Sequence[str], batch_size: int = 128) -> Vectors:
        """Texts to unit vectors, float32 [N, d]."""

    def embed_image(self, images: Sequence[Any], batch_size: int = 32) -> Vectors:
        """Pictures (paths, bytes, arrays or PIL) to unit vectors, float32 [N, d]."""

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write a complete folder that opens again without a network connection."""


@runtime_checkable
class SeesPatches(Protocol):
    """Pictures to a vector a patch."""

    def embed_patches(
        self, images: Sequence[Any], batch_size: int = 32
    ) -> tuple[Vectors, tuple[int, int]]:
        """Pictures to unit vectors of their patches, by MaskCLIP.

        Returns
        -------
        float32 [N, rows * columns, d]
            Row by row. They can be compared with vectors of texts.
        (int, int)
            Rows and columns.
        """


@runtime_checkable
class AttendsText(Protocol):
    """Texts to what the encoder attends to."""

    def text_attention(self, text: str) -> list[tuple[str, float]]:
        """Share of each word in what the text's summary position attends to in the last layer.

        Heads are averaged, the pieces of a word added up, special tokens left out; the shares add
        up to 1. Empty for a text without words.
        """

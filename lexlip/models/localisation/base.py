"""Pooled models: what places of words are read from, of a network or of its export; no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lexlip.lexicon import Lexicon
from lexlip.models.windows import Windows

Numbers = NDArray[np.float32]


class PooledPicture(NamedTuple):
    """Logits of one picture, over the allow-list (Va words).

    Attributes
    ----------
    pooled : float32 [Va]
        Best logit of each word.
    winner : int [Va]
        Patch that has it.
    logits : float32 [P, Va]
        Of all patches.
    """

    pooled: Numbers
    winner: NDArray[Any]
    logits: Numbers


class PooledText(NamedTuple):
    """Logits of one text that fits into the model, over the allow-list.

    Attributes
    ----------
    pooled : float32 [Va]
    winner : int [Va]
        Position of a token.
    boosts : float32 [Va]
        What a word has more because the text contains it, 0 or more.
    """

    pooled: Numbers
    winner: NDArray[Any]
    boosts: Numbers


class ReadText(NamedTuple):
    """Tokens of a text, and the words that they make up.

    Attributes
    ----------
    ids : list of int
        Of L tokens.
    words : tuple of str
        As written in the text.
    numbers : list of int
        Number of the word that each token belongs to; -1 for [CLS] and other special tokens.
    """

    ids: list[int]
    words: tuple[str, ...]
    numbers: list[int]

    @classmethod
    def of(cls, text: str, encoding: Any) -> ReadText:
        """Join the pieces of a `tokenizers.Encoding` to words."""
        found: dict[int, tuple[int, int]] = {}
        for word, (first, last) in zip(encoding.word_ids, encoding.offsets, strict=True):
            if word is not None:
                found[word] = (found.get(word, (first, last))[0], last)
        order = {word: number for number, word in enumerate(sorted(found))}
        words = tuple(text[first:last].strip() for _, (first, last) in sorted(found.items()))
        numbers = [-1 if word is None else order[word] for word in encoding.word_ids]
        return cls(list(encoding.ids), words, numbers)


class Pools(Protocol):
    """A model whose weights are maxima over the positions of a picture or a text."""

    @property
    def lexicon(self) -> Lexicon:
        """The vocabulary and its allow-list."""

    @property
    def image_side(self) -> int | None:
        """Pixels that the shorter side of a picture is decoded to at least; None for all."""

    @property
    def patch_grid(self) -> int:
        """Rows and columns that patches are averaged to; 0 for the trunk's own."""

    @property
    def summary_token(self) -> int | None:
        """Id of the token that summarises a text; None for the last one."""

    def windows(self, texts: Any) -> Windows:
        """Divide texts into parts that fit into the model."""

    def seen(self, image: Any) -> NDArray[np.uint8]:
        """One picture as the model sees it, uint8 [3, H, W]."""

    def pixel_values(self, images: Sequence[Any]) -> Numbers:
        """Pictures as the network takes them, float32 [B, 3, H, W]."""

    def weights_of_pixels(self, pixel_values: Numbers) -> Numbers:
        """Pixel values to weights over the allow-list, float32 [B, Va]."""

    def pool_picture(self, image: Any) -> PooledPicture:
        """Return the logits of one picture."""

    def read_text(self, text: str) -> ReadText:
        """Return the tokens of a text, cut to what the model reads."""

    def pool_words(self, ids: Sequence[int]) -> PooledText:
        """Return the logits of a text's tokens."""

    def attention_of(self, ids: Sequence[int]) -> Numbers:
        """Attention of the last layer, the mean of its heads, float32 [L, L]."""


def saturated(logits: Numbers) -> Numbers:
    """w = log(1 + relu(s)), as `lexlip.models.pooling.log_saturate`.

    Examples
    --------
    >>> saturated(np.array([-3.0, 0.0, 1.0])).round(3).tolist()
    [0.0, 0.0, 0.693]
    """
    return np.log1p(np.maximum(logits, 0))

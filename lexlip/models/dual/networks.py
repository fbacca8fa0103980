"""Dual encoders that are torch networks: fingerprint, batches and unit vectors."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from lexlip.data.in_order import in_batches
from lexlip.models.dual.base import Vectors
from lexlip.models.runtime import on_device
from lexlip.models.towers import batches


def network_fingerprint(
    network: nn.Module, vocabulary: Mapping[str, int], settings: Mapping[str, Any]
) -> str:
    """Return the sha256 of a network's trained weights, a vocabulary and some settings."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        if tensor.is_floating_point():  # whole numbers are tables that nobody trained
            digest.update(name.encode())
            digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    for token, index in sorted(vocabulary.items()):
        digest.update(f"{token}\t{index}\n".encode())
    digest.update(json.dumps(settings, sort_keys=True).encode())
    return digest.hexdigest()


class Prepared(NamedTuple):
    """A picture as a network sees it: what the vision tower takes, of a batch of one."""

    inputs: dict[str, Tensor]


def joined(prepared: Sequence[Prepared]) -> dict[str, Tensor]:
    """Join pictures to a batch."""
    names = prepared[0].inputs
    return {name: torch.cat([one.inputs[name] for one in prepared]) for name in names}


class Frozen(ABC):
    """A frozen network with a tokenizer: what all dual encoders of torch share.

    Parameters
    ----------
    name : str
        Folder or hub name.
    network : nn.Module
    tokenizer : object with get_vocab
    width : int
        Numbers of a vector.
    max_text_length : int
        In tokens.
    """

    family: str
    prompt: str
    languages: tuple[str, ...]

    def __init__(
        self, name: str, network: nn.Module, tokenizer: Any, width: int, max_text_length: int
    ) -> None:
        self.name_or_path, self.tokenizer = name, tokenizer
        self.network = on_device(network.eval().requires_grad_(False))
        self.width, self.max_text_length = width, max_text_length

    @abstractmethod
    def preprocessing(self) -> Mapping[str, Any]:
        """Settings that decide how pictures become pixels, as JSON can hold them."""

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over trained weights, vocabulary and picture preprocessing."""
        return network_fingerprint(self.network, self.tokenizer.get_vocab(), self.preprocessing())


class Network(Frozen):
    """A network that is given tokens and pixels.

    A subclass says how texts and pictures go in: `tokens`, `pixels`, `text_features` and
    `image_features`.
    """

    @abstractmethod
    def tokens(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Texts to what the text tower takes."""

    @abstractmethod
    def pixels(self, images: Sequence[Any]) -> dict[str, Tensor]:
        """Pictures (paths, bytes, arrays or PIL) to what the vision tower takes."""

    @abstractmethod
    def text_features(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Tokens to vectors of any length, [B, d]."""

    @abstractmethod
    def image_features(self, pixels: Mapping[str, Tensor]) -> Tensor:
        """Pixels to vectors of any length, [B, d]."""

    @torch.no_grad()
    def embed_text(self, texts: Sequence[str], batch_size: int = 128) -> Vectors:
        """Texts to unit vectors, float32 [N, d]."""
        parts = (self._placed(self.tokens(part)) for part in batches(texts, batch_size))
        return self._rows(map(self.text_features, parts))

    @property
    @abstractmethod
    def image_side(self) -> int | None:
        """Pixels that the shorter side of a picture is decoded to at least; None for all."""

    def prepare_image(self, image: Any) -> Prepared:
        """Return one picture of any kind as the network sees it, for the methods that take some.

        It is small: prepare pictures one by one, in threads, and embed many together.
        """
        return image if isinstance(image, Prepared) else Prepared(self.pixels([image]))

    @torch.no_grad()
    def embed_image(self, images: Sequence[Any], batch_size: int = 32) -> Vectors:
        """Pictures (paths, bytes, arrays or PIL) to unit vectors, float32 [N, d]."""
        with closing(in_batches(self.prepare_image, images, batch_size)) as prepared:
            return self._rows(self.image_features(self._placed(joined(part))) for part in prepared)

    def _placed(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Inputs on the network's device."""
        device = next(self.network.parameters()).device
        return {name: part.to(device) for name, part in inputs.items()}

    def _rows(self, parts: Iterable[Tensor]) -> Vectors:
        """Batches of vectors to unit rows [N, d]."""
        rows = [normalize(part.float(), dim=-1).cpu().numpy() for part in parts]
        return np.concatenate([np.zeros((0, self.width), np.float32), *rows])

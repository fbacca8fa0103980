"""Texts to tokens and pictures to pixels, saved with the checkpoint that was trained on them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoImageProcessor, AutoTokenizer

from lexlip.data.images import read_image
from lexlip.models.pixels import Prepared, side_of


class Processor:
    """A tokenizer and a picture preprocessor with one `save_pretrained`.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerFast
    image_processor : PIL-backed transformers image processor
        Pictures are resized to its size whole (squeezed, never cropped: what stands at the border
        is searched for as well).
    """

    def __init__(self, tokenizer: Any, image_processor: Any) -> None:
        self.tokenizer = tokenizer
        self.image_processor = image_processor

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str]) -> Processor:
        """Load both from a checkpoint folder or the hub."""
        tokenizer = AutoTokenizer.from_pretrained(name)
        return cls(tokenizer, AutoImageProcessor.from_pretrained(name, backend="pil"))

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write tokenizer and preprocessor files."""
        self.tokenizer.save_pretrained(folder)
        self.image_processor.save_pretrained(folder)

    def tokenize(self, texts: Sequence[str], max_length: int) -> dict[str, Tensor]:
        """Texts to ``input_ids`` and ``attention_mask``, int64 [B, L], padded to the longest."""
        tokens = self.tokenizer(
            list(texts), truncation=True, max_length=max_length, padding=True, return_tensors="pt"
        )
        return {k: tokens[k] for k in ("input_ids", "attention_mask")}

    @property
    def image_side(self) -> int | None:
        """Pixels that the shorter side of a picture is decoded to at least; None for all.

        `GAP` times the sides that the model reads, so that it makes no difference to its words.
        """
        return side_of(self.image_processor.to_dict())

    def prepare(self, image: Any) -> Prepared:
        """Return one picture of any kind as the model sees it.

        Raises
        ------
        LexLIPError
            When it cannot be read.
        """
        if isinstance(image, Prepared):
            return image
        output = self.image_processor(
            [read_image(image, at_least=self.image_side)],
            do_rescale=False,
            do_normalize=False,
            return_tensors="np",
        )
        pixels = np.asarray(output["pixel_values"])[0]
        return Prepared(pixels.round().clip(0, 255).astype(np.uint8))

    def resize(self, images: Sequence[Any]) -> np.ndarray:
        """Pictures to resized bytes, uint8 [B, 3, H, W]: what a pixel cache holds."""
        return np.stack([self.prepare(image).pixels for image in images])

    def normalise(self, pixels: np.ndarray | Tensor) -> Tensor:
        """Bytes [B, 3, H, W] to float32 pixel values."""
        mean = torch.tensor(self.image_processor.image_mean).view(3, 1, 1)
        std = torch.tensor(self.image_processor.image_std).view(3, 1, 1)
        return (torch.as_tensor(pixels).float() / 255 - mean) / std

    def pixels(self, images: Sequence[Any]) -> Tensor:
        """Pictures of any kind, prepared ones too, to pixel values, float32 [B, 3, H, W]."""
        return self.normalise(self.resize(images))

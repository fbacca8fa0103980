"""Pooled logits of a LexLIP network, for the places of words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lexlip.models.localisation.base import Numbers, PooledPicture, PooledText, ReadText
from lexlip.models.pooling import log_saturate


class PooledNetwork:
    """The part of a LexLIP that is a `lexlip.models.localisation.base.Pools`."""

    @property
    def patch_grid(self: Any) -> int:
        """Rows and columns that patches are averaged to; 0 for the trunk's own."""
        return self.vision.grid

    @property
    def summary_token(self: Any) -> int | None:
        """Id of [CLS]; None for a tokenizer without one."""
        return self.tokenizer.cls_token_id

    def seen(self: Any, image: Any) -> NDArray[np.uint8]:
        """One picture as the model sees it, uint8 [3, H, W]."""
        return self._processor.resize([image])[0]

    def pixel_values(self: Any, images: Sequence[Any]) -> Numbers:
        """Pictures as the network takes them, float32 [B, 3, H, W]."""
        return self._processor.pixels(images).numpy()

    @torch.no_grad()
    def weights_of_pixels(self: Any, pixel_values: Numbers) -> Numbers:
        """Pixel values to weights over the allow-list, float32 [B, Va]."""
        pixels = torch.from_numpy(pixel_values).to(self.device, self.dtype)
        pooled = self.pool_image(self.vision.features(pixels))[0]
        return log_saturate(pooled).float().cpu().numpy()

    @torch.no_grad()
    def pool_picture(self: Any, image: Any) -> PooledPicture:
        """Return the logits of one picture, and the winners of the model's own pooling."""
        hidden = self.vision(self.vision.features(self.pixels([image])))
        pooled, winner = self.image_head.pool(hidden)
        logits = self.image_head.logits(hidden[0])
        return PooledPicture(_numbers(pooled[0]), _numbers(winner[0]), _numbers(logits))

    def read_text(self: Any, text: str) -> ReadText:
        """Return the tokens of a text, cut to what the model reads."""
        limit = self.config.max_text_length
        return ReadText.of(
            text, self.tokenizer(text, truncation=True, max_length=limit).encodings[0]
        )

    @torch.no_grad()
    def pool_words(self: Any, ids: Sequence[int]) -> PooledText:
        """Return the logits of a text's tokens."""
        tokens = self._row(ids)
        positions = self.text.positions(**tokens)
        pooled, winner = self.text_head.pool(self.text(**tokens), positions)
        boosts = torch.zeros_like(pooled[0])
        if self.config.own_word_boost:
            own = self.own_words(tokens["input_ids"], positions)[0]
            boosts = torch.relu(self.own_word_boost) * own
        return PooledText(_numbers(pooled[0]), _numbers(winner[0]), _numbers(boosts))

    @torch.no_grad()
    def attention_of(self: Any, ids: Sequence[int]) -> Numbers:
        """Attention of the last layer, the mean of its heads, float32 [L, L]."""
        output = self.text.trunk(**self._row(ids), output_attentions=True)
        return _numbers(output.attentions[-1][0].mean(0))

    def _row(self: Any, ids: Sequence[int]) -> dict[str, torch.Tensor]:
        row = torch.tensor([list(ids)], device=self.device)
        return {"input_ids": row, "attention_mask": torch.ones_like(row)}


def _numbers(tensor: torch.Tensor) -> NDArray[Any]:
    whole = not tensor.is_floating_point()
    return (tensor if whole else tensor.float()).cpu().numpy()

"""The control: CLIP's recipe (Radford et al., 2021) on LexLIP's own towers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from lexlip.models.config import LexLIPConfig
from lexlip.models.pretrained import TwoTowers
from lexlip.models.windows import pool_vectors


class DenseDualEncoder(TwoTowers):
    """The same towers, neck and data, but one unit vector instead of words.

    Token and patch states are averaged over the positions that LexLIP pools over, projected
    linearly to ``config.dense_size`` and normalised; the temperature is learned.
    """

    def __init__(self, config: LexLIPConfig) -> None:
        super().__init__(config)
        width = config.text_config.hidden_size  # type: ignore[union-attr]
        self.image_projection = nn.Linear(width, config.dense_size, bias=False)
        self.text_projection = nn.Linear(width, config.dense_size, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(np.log(1 / 0.07), dtype=torch.float32))
        self.post_init()

    def embed_text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Token ids [B, L] to unit vectors [B, d]."""
        hidden = self.text(input_ids, attention_mask)
        mask = self.text.positions(input_ids, attention_mask).unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)
        return normalize(self.text_projection(mean).float(), dim=-1)

    def embed_image(self, features: Tensor, kept: Tensor | None = None) -> Tensor:
        """Trunk features [B, 1 + P, Dv] to unit vectors [B, d]; `kept` as in `VisionTower`."""
        mean = self.vision(features, kept).mean(1)
        return normalize(self.image_projection(mean).float(), dim=-1)

    @torch.no_grad()
    def encode_query(self, texts: Sequence[str], batch_size: int = 128) -> np.ndarray:
        """Texts to unit rows, float32 [N, d]; a long text is the mean of its windows."""
        parts, counts = self.windows(texts)
        rows = [self.embed_text(**tokens) for tokens in self._text_batches(parts, batch_size)]
        return pool_vectors(torch.cat(rows).cpu().numpy(), counts)

    @torch.no_grad()
    def encode_document(self, images: Sequence[Any], batch_size: int = 32) -> np.ndarray:
        """Pictures to unit rows, float32 [N, d]."""
        parts = [self.embed_image(f) for f in self._image_features(images, batch_size)]
        return torch.cat(parts).cpu().numpy()

    @torch.no_grad()
    def encode_features(self, features: Any, batch_size: int = 256) -> np.ndarray:
        """Cached trunk features [N, 1 + P, Dv] to unit rows, float32 [N, d]."""
        parts = []
        for start in range(0, len(features), batch_size):
            part = np.asarray(features[start : start + batch_size], dtype=np.float32)
            parts.append(self.embed_image(torch.as_tensor(part, device=self.device)))
        return torch.cat(parts).cpu().numpy()

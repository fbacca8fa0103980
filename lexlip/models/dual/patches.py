"""Patches of pictures in the space of the whole, by MaskCLIP (Zhou, Loy and Dai, ECCV 2022).

The last attention of a vision tower mixes all patches into the vector of the picture. Without the
mixing, each patch goes the same way alone: its value vector through the output projection and what
follows. Its vector then lies in the space of texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from lexlip.errors import LexLIPError
from lexlip.models.dual.base import Vectors
from lexlip.models.dual.transformers_models import TransformersDual
from lexlip.models.towers import batches

Grid = tuple[int, int]


class WithPatches(TransformersDual):
    """A dual encoder of transformers whose patches can be had."""

    @torch.no_grad()
    def embed_patches(
        self, images: Sequence[Any], batch_size: int = 32
    ) -> tuple[Vectors, tuple[int, int]]:
        """Pictures to unit vectors of their patches; see `lexlip.models.dual.base.SeesPatches`.

        Raises
        ------
        LexLIPError
            For pictures whose patches make different grids: give these one at a time.
        """
        rows: list[Vectors] = []
        grids: list[Grid] = []
        for part in batches(images, batch_size):
            pixels = self._placed(self.pixels(part))
            grids += self.grids(pixels)
            if len(set(grids)) > 1:
                raise LexLIPError(
                    f"these pictures have patches in different grids ({grids[0][0]} x "
                    f"{grids[0][1]} and others): give one at a time"
                )
            vectors = self.patch_features(pixels)[:, : grids[0][0] * grids[0][1]]
            rows.append(normalize(vectors.float(), dim=-1).cpu().numpy())
        if not rows:
            return np.zeros((0, 0, self.width), np.float32), (0, 0)
        return np.concatenate(rows), grids[0]

    def grids(self, pixels: Mapping[str, Tensor]) -> list[Grid]:
        """Rows and columns of patches of each picture."""
        size = self.network.config.vision_config.patch_size
        count, _, height, width = pixels["pixel_values"].shape
        return [(height // size, width // size)] * count

    def patch_features(self, pixels: Mapping[str, Tensor]) -> Tensor:
        """Pixels to vectors of patches, [B, P, d], of any length."""
        raise NotImplementedError


class ClassTokenDual(WithPatches):
    """A dual encoder whose picture vector is that of a class token: CLIP and most of its kin."""

    def patch_features(self, pixels: Mapping[str, Tensor]) -> Tensor:
        """Values of the last block, through its projection, the final norm and the head."""
        tower = self.network.vision_model
        last = tower.encoder.layers[-1]
        before = tower(**pixels, output_hidden_states=True).hidden_states[-2]
        values = last.self_attn.out_proj(last.self_attn.v_proj(last.layer_norm1(before)))
        return self.network.visual_projection(tower.post_layernorm(values[:, 1:]))


class PoolingHeadDual(WithPatches):
    """A dual encoder whose picture vector is pooled by attention: SigLIP.

    Its last attention is that of the pooling head, so each patch goes through the head alone.
    """

    def patch_features(self, pixels: Mapping[str, Tensor]) -> Tensor:
        """States of patches, each pooled as if it were the only one."""
        tower = self.network.vision_model
        states = tower(**pixels).last_hidden_state
        return tower.head(states.flatten(0, 1)[:, None]).unflatten(0, states.shape[:2])


class NaflexDual(PoolingHeadDual):
    """A SigLIP 2 that keeps the proportions of a picture: each has its own grid."""

    def grids(self, pixels: Mapping[str, Tensor]) -> list[Grid]:
        """Rows and columns of patches of each picture."""
        return [(int(rows), int(columns)) for rows, columns in pixels["spatial_shapes"]]

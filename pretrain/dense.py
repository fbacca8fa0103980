"""The control: a dense dual encoder trained by CLIP's recipe on the same towers and data.

python -m pretrain.dense --config flickr8k-tiny --run runs/flickr8k-tiny
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lexlip.dense import DenseDualEncoder
from pretrain import build, loop, objectives
from pretrain.masking import kept_patches
from pretrain.settings import Settings


class DenseTask(loop.Task):
    """In-batch InfoNCE with a learned temperature, clamped at 100 as in CLIP."""

    def __init__(self, model: DenseDualEncoder, settings: Settings) -> None:
        super().__init__()
        self.model, self.stage = model, settings.dense
        self.weights = {"contrast": 1.0}

    def forward(self, batch: Mapping[str, Any], generator: torch.Generator) -> dict[str, Tensor]:
        """The contrastive loss of one batch."""
        features = loop.features(self.model, batch["pictures"])
        kept = kept_patches(features.shape[1] - 1, self.stage.kept_patches, generator)
        image = self.model.embed_image(features, kept)
        captions = batch["captions"]
        text = self.model.embed_text(captions["input_ids"], captions["attention_mask"])
        # The same mercy for captions of one picture that LexLIP gets, so that the comparison is
        # one of representations.
        same = objectives.no_negative(batch["owner"], batch["text"])
        scaled = text * self.model.logit_scale.clamp(max=math.log(100)).exp()
        return {"contrast": objectives.contrast(scaled, image, 1.0, same)}


def main(config: str, run: str, resume: bool, overrides: list[str]) -> None:
    """Train the control of `config` and leave the checkpoint in ``<run>/dense``."""
    bench = loop.Workbench.open(config, overrides)
    model = build.build(bench.settings, bench.texts, DenseDualEncoder)
    task = DenseTask(model, bench.settings)
    loop.train(task, bench, bench.settings.dense, f"{run}/dense", resume=resume)


if __name__ == "__main__":
    loop.cli(main)

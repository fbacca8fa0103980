"""The control: a dense dual encoder trained by CLIP's recipe on the same towers and data.

python -m pretrain.dense --config flickr8k-tiny --run runs/flickr8k-tiny
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lexlip.models.dense_control import DenseDualEncoder
from pretrain import build, loop, objectives
from pretrain.momentum import MomentumEncoder
from pretrain.settings import Settings
from pretrain.task import draw_patches, features, for_captions, mean_of_looks

WEIGHTS = {
    "contrast": 1.0,
    "looks": 0.0,  # the vector of one look with the mean of dense.looks of them
    "taught": 0.0,  # scores of a batch with those of the momentum encoder, which has all looks
}


class DenseTask(loop.Task):
    """In-batch InfoNCE with a learned temperature, clamped at 100 as in CLIP."""

    takes_looks = True

    def __init__(self, model: DenseDualEncoder, settings: Settings) -> None:
        super().__init__()
        self.model, self.stage = model, settings.dense
        self.weights = loop.merge_weights(WEIGHTS, settings.dense.weights)
        if self.stage.looks:
            self.slow = MomentumEncoder(model, self.stage.momentum)

    def draw(self, batch: Mapping[str, Any], generator: torch.Generator) -> dict[str, Any]:
        """Draw the kept patches."""
        kept = draw_patches(self.model, batch["pictures"], self.stage.kept_patches, generator)
        return {**batch, "shared": {"kept": kept}}

    def encode(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Unit vectors of pictures, and of captions times the inverse temperature."""
        captions = batch["captions"]
        image = self.model.embed_image(
            features(self.model, batch["pictures"]), batch["shared"]["kept"]
        )
        text = self.model.embed_text(captions["input_ids"], captions["attention_mask"])
        scale = self.model.logit_scale.clamp(max=math.log(100)).exp()
        return {"image": for_captions(image, len(text)), "text": text * scale}

    @torch.no_grad()
    def keys(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Unit vectors of the momentum encoder: the mean over looks, and captions."""
        if not self.stage.looks:
            return {}
        slow, captions = self.slow.model, batch["captions"]
        text = slow.embed_text(captions["input_ids"], captions["attention_mask"])
        image = objectives.unit(mean_of_looks(slow.embed_image, slow, batch["looks"]))
        return {"image_key": for_captions(image, len(text)), "text_key": text}

    def losses(self, batch: Mapping[str, Any], rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The contrastive loss of the whole batch."""
        # The same mercy for captions of one picture that LexLIP gets, so that the comparison is
        # one of representations.
        same = objectives.no_negative(batch["owner"], batch["text"])
        more = {}
        if self.stage.looks:
            image, text = rows["image_key"], rows["text_key"]
            # Queries come multiplied by the inverse temperature, keys do not.
            scale = self.model.logit_scale.detach().clamp(max=math.log(100)).exp()
            more["looks"] = 1 - (rows["image"] * image).sum(-1).mean()
            scores, teacher = rows["text"] @ rows["image"].T, text @ image.T * scale
            more["taught"] = objectives.taught(scores, teacher, same)
        return more | {"contrast": objectives.contrast(rows["text"], rows["image"], 1.0, same)}

    def after_step(self) -> None:
        """Move the momentum encoder."""
        if self.stage.looks:
            self.slow.update(self.model)


def main(config: str, run: str, resume: bool, overrides: list[str]) -> None:
    """Train the control of `config` and leave the checkpoint in ``<run>/dense``."""
    bench = loop.Workbench.open(config, overrides)
    model = build.build(bench.settings, bench.texts, DenseDualEncoder)
    task = DenseTask(model, bench.settings)
    loop.train(task, bench, bench.settings.dense, f"{run}/dense", resume=resume)


app = loop.job(main)

if __name__ == "__main__":
    app()

"""Stage 2: momentum lexicon contrast against queues (LexLIP section 3.3).

python -m pretrain.stage2 --config flickr8k-tiny --run runs/flickr8k-tiny
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lexlip.models.lexlip import LexLIP
from lexlip.models.pooling import log_saturate
from pretrain import build, loop, objectives
from pretrain.momentum import MomentumEncoder, Queue
from pretrain.settings import Settings
from pretrain.steering import Steering, count
from pretrain.task import draw_patches, features, for_captions, mean_of_looks
from pretrain.validate import TERMS

WEIGHTS = {
    "contrast": 1.0,  # with keys of the momentum encoder, which take no gradient
    # Ours: live pictures with live captions of the batch, so that a pair moves from both sides.
    # After 96 steps on Flickr8k, lr=1e-4: R@1 21.5 and R@10 62.0 without, 23.0 and 64.5 with 1.
    "batch_contrast": 0.0,
    # Scores of a batch with those of the momentum encoder, whose pictures have stage2.looks. After
    # 96 steps with data.crops=4: R@1 24.3 and R@10 67.0 without, 23.7 and 66.7 with five looks.
    "taught": 0.0,
    "image_grounding": 1.0,  # contrast alone forgets what the words mean
    "text_grounding": 1.0,
    "image_sparsity": 3e-3,
    "text_sparsity": 3e-3,
}


class Stage2(loop.Task):
    """Model, momentum encoder and one queue a modality."""

    takes_looks = True

    def __init__(self, model: LexLIP, settings: Settings) -> None:
        super().__init__()
        self.model, self.stage = model, settings.stage2
        self.slow = MomentumEncoder(model, settings.stage2.momentum)
        size, width = settings.stage2.queue_size, model.config.lexicon_size
        dtype = torch.bfloat16 if settings.precision == "bf16" else torch.float32
        self.images, self.texts = Queue(size, width, dtype), Queue(size, width, dtype)
        self.weights = loop.merge_weights(WEIGHTS, settings.stage2.weights)
        self.steering = Steering.of(settings.sparsity, self.weights)

    def draw(self, batch: Mapping[str, Any], generator: torch.Generator) -> dict[str, Any]:
        """Draw the kept patches."""
        kept = draw_patches(self.model, batch["pictures"], self.stage.kept_patches, generator)
        return {**batch, "shared": {"kept": kept}}

    def encode(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Raw pooled logits of pictures and captions."""
        captions = batch["captions"]
        image, _ = self.model.pool_image(
            features(self.model, batch["pictures"]), batch["shared"]["kept"]
        )
        text, _, _ = self.model.pool_text(captions["input_ids"], captions["attention_mask"])
        return {"image": for_captions(image, len(text)), "text": text}

    @torch.no_grad()
    def keys(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Unit vectors of the momentum encoder, which sees all patches."""
        slow, captions = self.slow.model, batch["captions"]
        if self.stage.looks:
            image = mean_of_looks(self._looked, slow, batch["looks"])
            # Some looks each add some words: as many stay as an index keeps.
            image = objectives.kept(image, TERMS)
        else:
            image = self._looked(features(slow, batch["pictures"]))
        text, _, _ = slow.pool_text(captions["input_ids"], captions["attention_mask"])
        keys = {
            "image_key": objectives.unit(for_captions(image, len(text))),
            "text_key": objectives.unit(log_saturate(text)),
        }
        return keys | (self._terms(batch) if self.steering.due(self.step) else {})

    def _looked(self, seen: Tensor) -> Tensor:
        """Words of the momentum encoder from trunk features [b, 1 + P, Dv]."""
        return log_saturate(self.slow.model.pool_image(seen)[0])

    def _terms(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Terms of each picture and caption as a search would see them: all patches, no dropout."""
        model, captions, mode = self.model, batch["captions"], self.model.training
        model.eval()
        image, _ = model.pool_image(features(model, batch["pictures"]))
        text, _, _ = model.pool_text(captions["input_ids"], captions["attention_mask"])
        model.train(mode)
        return {"image_terms": count(for_captions(image, len(text))), "text_terms": count(text)}

    def losses(self, batch: Mapping[str, Any], rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Contrast of the whole batch with keys and queues and in itself, grounding, sparsity."""
        image, text = rows["image"], rows["text"]
        w_image, w_text = log_saturate(image), log_saturate(text)
        q_image, q_text = objectives.unit(w_image), objectives.unit(w_text)
        owner, same_text = batch["owner"], batch["text"]
        # The batch's other keys are negatives too: with small batches the queue alone would leave
        # the freshest ones unused.
        in_batch = objectives.no_negative(owner, same_text)
        contrast = []
        for query, key, queue in (
            (q_text, rows["image_key"], self.images),
            (q_image, rows["text_key"], self.texts),
        ):
            same = torch.cat([in_batch, queue.no_negative(owner, same_text)], dim=1)
            negatives = [key, queue.keys]
            contrast.append(
                objectives.queue_contrast(query, key, negatives, self.stage.temperature, same)
            )
        teacher = rows["text_key"] @ rows["image_key"].T
        hot = 1 / self.stage.temperature
        taught = objectives.taught(q_text @ q_image.T * hot, teacher * hot, in_batch)
        self.fresh = rows["image_key"], rows["text_key"], owner, same_text
        self.terms = {k: rows[k].mean().item() for k in rows if k.endswith("_terms")}
        return {
            "contrast": (contrast[0] + contrast[1]) / 2,
            "batch_contrast": objectives.contrast(
                q_text, q_image, self.stage.temperature, in_batch
            ),
            "taught": taught,
            "image_grounding": objectives.grounding(image, batch["words"]),
            "text_grounding": objectives.grounding(text, batch["words"]),
            "image_sparsity": objectives.flops(w_image),
            "text_sparsity": objectives.flops(w_text),
        }

    def factor(self, loss: str, ramped: float) -> float:
        """Factor on the weight of a loss: steered where a budget is set."""
        steered = self.steering.factor(loss.removesuffix("_sparsity"))
        return super().factor(loss, ramped) if steered is None else steered

    def report(self) -> dict[str, float]:
        """Terms at the last count, and the factors."""
        return self.steering.report()

    def after_step(self) -> None:
        """Enqueue the batch's keys, which the backward pass may not meet, move the momentum encoder
        and steer: once per optimiser step and never in evaluation.
        """
        k_image, k_text, owner, text = self.fresh
        self.images.push(k_image, owner, text)
        self.texts.push(k_text, owner, text)
        self.slow.update(self.model)
        if self.terms:
            self.steering.update(self.terms, self.progress)


def main(config: str, run: str, resume: bool, overrides: list[str]) -> None:
    """Train stage 2 from ``<run>/stage1`` and leave the checkpoint in ``<run>/stage2``."""
    bench = loop.Workbench.open(config, overrides)
    start = loop.Checkpoint(f"{run}/stage1")
    start.require(1)
    model = build.load(start.path, bench.settings, LexLIP)
    task = Stage2(model, bench.settings)
    loop.train(task, bench, bench.settings.stage2, f"{run}/stage2", resume=resume)


app = loop.job(main)

if __name__ == "__main__":
    app()

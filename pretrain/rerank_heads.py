"""The dense branch: tokens and Gaussians for rerankers, trained from stage 2's checkpoint.

python -m pretrain.rerank_heads --config flickr8k-tiny --run runs/flickr8k-tiny
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn

from lexlip.errors import LexLIPError
from lexlip.models.dense_branch import Dense
from lexlip.models.lexlip import LexLIP
from lexlip.models.pooling import log_saturate
from lexlip.models.scores import gaussian
from lexlip.models.scores.late import late_interaction
from lexlip.models.scores.naaf import naaf
from pretrain import build, loop, objectives, stage2
from pretrain import rerank_objectives as rerank
from pretrain.cache import cached_states
from pretrain.data import Pairs, Tokens
from pretrain.masking import kept_patches
from pretrain.settings import Settings
from pretrain.task import for_captions
from pretrain.validate import validate_heads

TOKEN_LOSSES = {
    "late_contrast": 1.0,  # FILIP
    "naaf": 0.0,  # five times as dear as FILIP's, pair for pair
}
GAUSSIAN_LOSSES = {
    "closed_form": 1.0,  # PCME++
    "soft_contrast": 0.0,  # PCME, by samples
    "kl": 1e-4,  # keeps variances from vanishing
    "uniformity": 0.0,
}


class HeadsTask(loop.Task):
    """A model whose heads learn, and whose towers do not unless the settings say so.

    Parameters
    ----------
    model : LexLIP
        With heads.
    settings : Settings
    captions : list of str
        The distinct captions of training, in the order in which `Pairs` numbers them: a frozen
        text tower reads each of them once.
    """

    def __init__(self, model: LexLIP, settings: Settings, captions: list[str]) -> None:
        super().__init__()
        assert model.heads is not None
        self.model, self.settings, self.stage = model, settings, settings.heads
        self.captions = captions
        stage, config = settings.heads, model.config
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / stage.token_temperature)))
        self.miner = rerank.ThresholdMiner(stage.naaf_alpha)
        # Stage 2's losses are kept so that the words do not drift.
        lexical = {**stage2.WEIGHTS, **settings.stage2.weights}
        del lexical["batch_contrast"]  # there is no queue here: contrast is within the batch
        self.weights = loop.merge_weights(
            {**TOKEN_LOSSES, **GAUSSIAN_LOSSES, **lexical}, stage.weights
        )
        self.ramps = False
        absent = [
            *(lexical if stage.freeze_towers else ()),
            *(() if config.token_size else TOKEN_LOSSES),
            *(() if config.gaussian_size else GAUSSIAN_LOSSES),
        ]
        self.weights |= dict.fromkeys(absent, 0.0)
        if stage.freeze_towers:
            model.requires_grad_(False)
            model.heads.requires_grad_(True)

    def train(self, mode: bool = True) -> HeadsTask:
        """Frozen towers stay in evaluation: no dropout, and no batch changes their statistics."""
        super().train(mode)
        if self.stage.freeze_towers:
            self.model.vision.eval()
            self.model.text.eval()
        return self

    @cached_property
    def states(self) -> np.ndarray:
        """Frozen text states of all captions, float16 [M, L, D]."""
        model, settings = self.model, self.settings
        length = settings.model.max_text_length
        tokens = Tokens.of(self.captions, model.processor.tokenizer, length)
        was = model.training
        states = cached_states(model.eval(), tokens, model.heads.depth, settings.data.cache)
        self.train(was)
        return states

    def forward(self, batch: Mapping[str, Any], generator: torch.Generator) -> dict[str, Tensor]:
        """Losses of one batch, before their weights; those of weight 0 are left out."""
        model, stage = self.model, self.stage
        tokens = {k: batch["captions"][k] for k in ("input_ids", "attention_mask")}
        positions = model.text.positions(**tokens)
        if stage.freeze_towers:
            length = tokens["input_ids"].shape[1]
            lower = self.states[batch["text"].cpu().numpy(), :length].astype(np.float32)
            hidden, states = None, torch.from_numpy(lower).to(model.device)
        else:
            hidden, states = model.text.states(**tokens, below=(0, model.heads.depth))
        with torch.set_grad_enabled(torch.is_grad_enabled() and not stage.freeze_towers):
            features = for_captions(loop.features(model, batch["pictures"]), len(batch["owner"]))
        kept = kept_patches(features.shape[1] - 1, stage.kept_patches, generator)
        if stage.kept_words < 1:
            draw = torch.rand(positions.shape, generator=generator).to(positions.device)
            positions = positions & (draw < stage.kept_words)
        text = model.heads.of_text(states, tokens["attention_mask"], positions)
        image = model.heads.of_image(model.vision, features, kept)
        same = objectives.no_negative(batch["owner"], batch["text"])

        losses: dict[str, Tensor] = {}
        if model.config.token_size:
            losses |= self._token_losses(image, text, same)
        if model.config.gaussian_size:
            losses |= self._gaussian_losses(features, kept, image, text, same, generator)
        if hidden is not None:
            pooled = model.pool_hidden(hidden, **tokens)[0]
            losses |= self._lexical_losses(batch, model.pool_image(features, kept)[0], pooled, same)
        return losses

    def _token_losses(self, image: Dense, text: Dense, same: Tensor) -> dict[str, Tensor]:
        """FILIP and NAAF; the threshold is measured whichever of them trains."""
        pair = (image.tokens, image.mask, text.tokens, text.mask)
        i2t, t2i = late_interaction(*pair)
        scale = self.log_scale.clamp(max=math.log(100)).exp()
        losses = {"late_contrast": rerank.late_contrast(i2t, t2i, scale, same)}
        self.mined = (t2i.detach(), *(part.detach() for part in pair))
        if self.weights["naaf"]:
            rows = slice(self.stage.naaf_rows or None)
            v, a, u, b = (part[rows] for part in pair)
            scores = naaf(v, a, u, b, self.miner.threshold.item())
            losses["naaf"] = rerank.hinge(scores, same[rows, rows])
        return losses

    def _gaussian_losses(
        self,
        features: Tensor,
        kept: Tensor | None,
        image: Dense,
        text: Dense,
        same: Tensor,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """PCME++ and PCME."""
        heads, stage, weights = self.model.heads, self.stage, self.weights
        of_image = (image.mean, image.log_variance)
        of_text = (text.mean, text.log_variance)
        losses: dict[str, Tensor] = {}
        if weights["closed_form"]:
            match, (mean, log_variance) = same.float(), of_image
            if count := int(stage.mixed * len(same)):
                mixed = rerank.mix(features, min(count, len(same) // 2), generator)
                again = heads.of_image(self.model.vision, mixed.features, kept)
                rest = len(mixed.share)
                mean = torch.cat([again.mean, mean[rest:]])
                log_variance = torch.cat([again.log_variance, log_variance[rest:]])
                match = rerank.mixed_match(match, mixed.share)
            losses["closed_form"] = rerank.closed_form(
                gaussian.csd(mean, log_variance, *of_text),
                match,
                heads.match_scale,
                heads.match_shift,
                smoothing=stage.label_smoothing,
            )
        if weights["kl"]:
            losses["kl"] = rerank.kl_to_standard(*of_image) + rerank.kl_to_standard(*of_text)
        if weights["soft_contrast"] or weights["uniformity"]:
            seen, said = (rerank.draw(*of, stage.samples, generator) for of in (of_image, of_text))
            logits = rerank.sample_logits(seen, said, heads.sample_scale, heads.sample_shift)
            losses["soft_contrast"] = rerank.soft_contrast(logits, same)
            everything = torch.cat([seen.flatten(0, 1), said.flatten(0, 1)])
            few = torch.randperm(len(everything), generator=generator)[:128]
            losses["uniformity"] = rerank.uniformity(everything[few.to(everything.device)])
        return losses

    def _lexical_losses(
        self, batch: Mapping[str, Any], image: Tensor, text: Tensor, same: Tensor
    ) -> dict[str, Tensor]:
        """Stage 2's losses against the batch, so that words of trained towers do not drift."""
        w_image, w_text = log_saturate(image), log_saturate(text)
        return {
            "contrast": objectives.contrast(
                objectives.unit(w_text), objectives.unit(w_image), self.stage.temperature, same
            ),
            "image_grounding": objectives.grounding(image, batch["words"]),
            "text_grounding": objectives.grounding(text, batch["words"]),
            "image_sparsity": objectives.flops(w_image),
            "text_sparsity": objectives.flops(w_text),
        }

    def after_step(self) -> None:
        """Measure NAAF's threshold on the batch; the model's config carries it."""
        if self.model.config.token_size:
            self.miner.update(*self.mined)
            if self.miner.updates:
                self.model.config.naaf_threshold = round(self.miner.safe.item(), 6)

    def validate(self, dev: Pairs, relevant: csr_array, texts: list[str]) -> dict[str, float]:
        """Recall of words and of each head alone."""
        return validate_heads(self.model, dev, relevant, texts)


def main(config: str, run: str, resume: bool, overrides: list[str]) -> None:
    """Train the heads of `config` from ``<run>/stage2``, into the checkpoint ``<run>/heads``."""
    bench = loop.Workbench.open(config, overrides)
    settings, stage = bench.settings, bench.settings.heads
    if not (stage.token_size or stage.gaussian_size):
        raise LexLIPError("no head to train: set heads.token_size or heads.gaussian_size")
    start = loop.Checkpoint(f"{run}/stage2")
    start.require(2)
    if stage.freeze_towers:  # then their features can be cached
        settings = replace(settings, model=replace(settings.model, freeze_vision=True))
        bench = replace(bench, settings=settings)
    model = build.load(start.path, settings, LexLIP)
    torch.manual_seed(settings.seed)
    model.add_heads(stage.token_size, stage.gaussian_size, stage.token_count, stage.layers)
    captions = [c for captions in bench.train.captions for c in captions]
    task = HeadsTask(model, settings, list(dict.fromkeys(captions)))
    loop.train(task, bench, stage, f"{run}/heads", resume=resume)


app = loop.job(main)

if __name__ == "__main__":
    app()

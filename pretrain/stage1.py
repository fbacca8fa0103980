"""Stage 1: lexicon-bottlenecked masked language modelling (LexLIP section 3.2).

python -m pretrain.stage1 --config flickr8k-tiny --run runs/flickr8k-tiny
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lexlip.model import LexLIP
from lexlip.pooling import log_saturate
from pretrain import build, loop, objectives
from pretrain.data import join
from pretrain.decoder import WeakDecoder
from pretrain.masking import Masker, kept_patches
from pretrain.settings import Settings

# All at 1 in the paper, where the gradient of the contrast was divided by eight GPUs.
WEIGHTS = {
    "self_mlm": 1.0,  # the text encoder guesses its own masked words
    "image_bottleneck": 1.0,  # a picture's words help the weak decoder guess the caption
    "text_bottleneck": 1.0,  # a masked caption's words do
    "contrast": 1.0,
    "image_grounding": 1.0,  # words must be able to say the captions
    "text_grounding": 1.0,
    "image_sparsity": 3e-3,  # on raw weights, ramped: unit rows would bind nothing
    "text_sparsity": 3e-3,
}


class Stage1(loop.Task):
    """Model, weak decoder and all objectives: a batch in, named losses out."""

    def __init__(self, model: LexLIP, settings: Settings) -> None:
        super().__init__()
        self.model, self.stage = model, settings.stage1
        width = model.words.shape[1]
        self.decoder = WeakDecoder(width, max(1, width // 32))
        assert model.processor is not None
        table = torch.from_numpy(model.lexicon.compact)
        self.mask = Masker(model.processor.tokenizer.mask_token_id, table)
        self.weights = loop.merge_weights(WEIGHTS, settings.stage1.weights)

    def forward(self, batch: Mapping[str, Any], generator: torch.Generator) -> dict[str, Tensor]:
        """Losses of one batch, before their weights."""
        model, stage = self.model, self.stage
        tokens = {k: batch["captions"][k] for k in ("input_ids", "attention_mask")}
        features = loop.features(model, batch["pictures"])
        kept = kept_patches(features.shape[1] - 1, stage.kept_patches, generator)
        image, _ = model.pool_image(features, kept)
        text, _, _ = model.pool_text(**tokens)
        losses = self._masked_language(batch, image, generator)

        w_image, w_text = log_saturate(image), log_saturate(text)
        same = objectives.no_negative(batch["owner"], batch["text"])
        losses["contrast"] = objectives.contrast(
            objectives.unit(w_text), objectives.unit(w_image), stage.temperature, same
        )
        losses["image_grounding"] = objectives.grounding(image, batch["words"])
        losses["text_grounding"] = objectives.grounding(text, batch["words"])
        losses["image_sparsity"] = objectives.flops(w_image)
        losses["text_sparsity"] = objectives.flops(w_text)
        return losses

    def _masked_language(
        self, batch: Mapping[str, Any], image: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The three masked-language losses: self, and through each bottleneck.

        Masked are the paired captions (or the first of them) and captions that have no picture:
        another pass through the text tower and one through the decoder, the dearest of a step.
        """
        model, stage = self.model, self.stage
        paired = {k: v[: stage.masked_rows or None] for k, v in batch["captions"].items()}
        pairs = len(paired["input_ids"])
        captions = join(paired, batch["extra"]) if "extra" in batch else paired
        ids, numbers, attention = (captions[k] for k in ("input_ids", "word_ids", "attention_mask"))
        light, labels = self.mask(ids, numbers, stage.encoder_mask, generator)
        heavy, hidden_labels = self.mask(ids, numbers, stage.decoder_mask, generator)

        text, _, hidden = model.pool_text(light, attention)
        guessed = model.text_head.logits(hidden[labels >= 0])
        own = objectives.masked_language(guessed, labels[labels >= 0])

        # One decoder, one caption, two sources: the caption's own words, then its picture's.
        from_text, from_image = self.decoder(
            model,
            [text, image[:pairs]],
            [heavy, heavy[:pairs]],
            [attention, attention[:pairs]],
            [hidden_labels, hidden_labels[:pairs]],
        )
        return {"self_mlm": own, "text_bottleneck": from_text, "image_bottleneck": from_image}


def main(config: str, run: str, resume: bool, overrides: list[str]) -> None:
    """Train stage 1 of `config` and leave the checkpoint in ``<run>/stage1``."""
    bench = loop.Workbench.open(config, overrides)
    model = build.build(bench.settings, bench.texts, LexLIP)
    task = Stage1(model, bench.settings)
    loop.train(task, bench, bench.settings.stage1, f"{run}/stage1", resume=resume)


if __name__ == "__main__":
    loop.cli(main)

"""Stage 1: lexicon-bottlenecked masked language modelling (LexLIP section 3.2).

python -m pretrain.stage1 --config flickr8k-tiny --run runs/flickr8k-tiny
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lexlip.models.lexlip import LexLIP
from lexlip.models.pooling import log_saturate
from pretrain import build, loop, objectives
from pretrain.data import join
from pretrain.decoder import WeakDecoder
from pretrain.masking import Masker
from pretrain.settings import Settings
from pretrain.task import draw_patches, features, for_captions

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
    """Model, weak decoder and all objectives."""

    def __init__(self, model: LexLIP, settings: Settings) -> None:
        super().__init__()
        self.model, self.stage = model, settings.stage1
        width = model.words.shape[1]
        self.decoder = WeakDecoder(width, max(1, width // 32))
        assert model.processor is not None
        table = torch.from_numpy(model.lexicon.compact)
        self.mask = Masker(model.processor.tokenizer.mask_token_id, table)
        self.weights = loop.merge_weights(WEIGHTS, settings.stage1.weights)

    def draw(self, batch: Mapping[str, Any], generator: torch.Generator) -> dict[str, Any]:
        """Draw the kept patches and the masked words.

        Masked are the paired captions (or the first of them) and captions that have no picture:
        another pass through the text tower and one through the decoder, the dearest of a step.
        """
        stage = self.stage
        kept = draw_patches(self.model, batch["pictures"], stage.kept_patches, generator)
        paired = {k: v[: stage.masked_rows or None] for k, v in batch["captions"].items()}
        captions = join(paired, batch["extra"]) if "extra" in batch else paired
        ids, numbers = captions["input_ids"], captions["word_ids"]
        light, labels = self.mask(ids, numbers, stage.encoder_mask, generator)
        heavy, hidden_labels = self.mask(ids, numbers, stage.decoder_mask, generator)
        pairs = len(paired["input_ids"])
        masked = {"light": light, "labels": labels, "heavy": heavy, "hidden_labels": hidden_labels}
        masked["attention"] = captions["attention_mask"]
        counts = {
            "self_mlm": _words(labels),
            "text_bottleneck": _words(hidden_labels),
            "image_bottleneck": _words(hidden_labels[:pairs]),
        }
        return {
            **batch,
            "masked": {k: v[:pairs] for k, v in masked.items()},
            "masked_extra": {k: v[pairs:] for k, v in masked.items()},
            "shared": {"kept": kept, "counts": counts},
        }

    def encode(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Raw pooled logits of pictures and of captions that nothing masks."""
        captions = batch["captions"]
        image, _ = self.model.pool_image(
            features(self.model, batch["pictures"]), batch["shared"]["kept"]
        )
        text, _, _ = self.model.pool_text(captions["input_ids"], captions["attention_mask"])
        return {"image": for_captions(image, len(text)), "text": text}

    def own_losses(self, batch: Mapping[str, Any], rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The three masked-language losses: self, and through each bottleneck."""
        model, counts = self.model, batch["shared"]["counts"]
        paired, extra = batch["masked"], batch["masked_extra"]
        pairs = len(paired["light"])
        masked = {k: torch.cat([paired[k], extra[k]]) for k in paired}
        heavy, hidden_labels, attention = (
            masked[k] for k in ("heavy", "hidden_labels", "attention")
        )
        if not len(heavy):  # these rows have no caption to guess
            return dict.fromkeys(counts, rows["image"].sum() * 0.0)

        text, _, hidden = model.pool_text(masked["light"], attention)
        chosen = masked["labels"] >= 0
        guessed = model.text_head.logits(hidden[chosen])
        own = objectives.masked_language(guessed, masked["labels"][chosen])

        # One decoder, one caption, two sources: the caption's own words, then its picture's.
        from_text, from_image = self.decoder(
            model,
            [text, rows["image"][:pairs]],
            [heavy, heavy[:pairs]],
            [attention, attention[:pairs]],
            [hidden_labels, hidden_labels[:pairs]],
        )
        # A mean over these rows' masked words counts as much as they have of the batch's.
        return {
            "self_mlm": own * (_words(masked["labels"]) / max(1, counts["self_mlm"])),
            "text_bottleneck": from_text
            * (_words(hidden_labels) / max(1, counts["text_bottleneck"])),
            "image_bottleneck": from_image
            * (_words(hidden_labels[:pairs]) / max(1, counts["image_bottleneck"])),
        }

    def losses(self, batch: Mapping[str, Any], rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Contrast, grounding and sparsity of the whole batch."""
        image, text = rows["image"], rows["text"]
        w_image, w_text = log_saturate(image), log_saturate(text)
        same = objectives.no_negative(batch["owner"], batch["text"])
        contrast = objectives.contrast(
            objectives.unit(w_text), objectives.unit(w_image), self.stage.temperature, same
        )
        return {
            "contrast": contrast,
            "image_grounding": objectives.grounding(image, batch["words"]),
            "text_grounding": objectives.grounding(text, batch["words"]),
            "image_sparsity": objectives.flops(w_image),
            "text_sparsity": objectives.flops(w_text),
        }


def _words(labels: Tensor) -> int:
    """Words to be guessed."""
    return int((labels >= 0).sum())


def main(config: str, run: str, resume: bool, overrides: list[str]) -> None:
    """Train stage 1 of `config` and leave the checkpoint in ``<run>/stage1``."""
    bench = loop.Workbench.open(config, overrides)
    model = build.build(bench.settings, bench.texts, LexLIP)
    task = Stage1(model, bench.settings)
    loop.train(task, bench, bench.settings.stage1, f"{run}/stage1", resume=resume)


app = loop.job(main)

if __name__ == "__main__":
    app()

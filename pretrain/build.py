"""Settings to a fresh model: towers by name, folder or shape, the lexicon, calibrated heads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertTokenizer,
)
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from lexlip.lexicon import Lexicon
from lexlip.models.config import LexLIPConfig
from lexlip.models.dense_control import DenseDualEncoder
from lexlip.models.lexlip import LexLIP
from lexlip.models.pretrained import TwoTowers
from lexlip.models.processing import Processor
from lexlip.models.trunks import copy_weights, freeze_lowest
from lexlip.models.trunks import side as one_side
from lexlip.models.word_tokenizer import word_tokenizer
from lexlip.settings import resolve
from pretrain.settings import Settings

DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "attention_dropout", "dropout")


def caption_tokenizer(texts: Sequence[str]) -> BertTokenizer:
    """A tokenizer whose vocabulary is the words of the captions themselves."""
    backend = word_tokenizer(()).backend_tokenizer
    words: set[str] = set()
    for text in texts:
        normal = backend.normalizer.normalize_str(text)
        words.update(word for word, _ in backend.pre_tokenizer.pre_tokenize_str(normal))
    return word_tokenizer(words)


def processor_for(settings: Settings, texts: Sequence[str]) -> Processor:
    """Tokenizer and picture preprocessing that belong to the chosen towers."""
    model, names = settings.model, settings.model.pretrained
    if "text" in names:
        tokenizer = AutoTokenizer.from_pretrained(resolve(names["text"]))
    else:
        tokenizer = caption_tokenizer(texts)
    if tokenizer.mask_token is None:  # CLIP's has none; stage 1 cannot do without
        tokenizer.add_special_tokens({"mask_token": "[MASK]"})
    if "vision" in names:
        images = AutoImageProcessor.from_pretrained(resolve(names["vision"]), backend="pil")
    else:
        images = ViTImageProcessorPil(image_mean=[0.5] * 3, image_std=[0.5] * 3)
    size = {"height": model.image_size, "width": model.image_size}
    # Squeeze, never crop: what stands at the border is searched for as well.
    images.size, images.do_center_crop = size, False
    images.do_resize = images.do_rescale = images.do_normalize = True
    return Processor(tokenizer, images)


def _shape(settings: Settings, side: str, **extra: Any) -> Any:
    """Configuration of one tower, of a dual encoder's the side that is wanted."""
    chosen = getattr(settings.model, side)
    if side not in settings.model.pretrained:
        return AutoConfig.for_model(**{**chosen, **extra})
    changes = {} if isinstance(chosen, str) else {k: v for k, v in chosen.items() if k != "name"}
    config = one_side(AutoConfig.from_pretrained(resolve(settings.model.pretrained[side])), side)
    for key, value in changes.items():
        setattr(config, key, value)
    return config


def config_for(settings: Settings, processor: Processor, lexicon: Lexicon) -> LexLIPConfig:
    """The model's shape, without dropout, which belongs to a stage and not to a checkpoint."""
    model, tokenizer = settings.model, processor.tokenizer
    vision = _shape(settings, "vision")
    vision.image_size = model.image_size
    text = _shape(settings, "text", vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
    text.vocab_size = max(text.vocab_size, len(tokenizer))
    for shape in (vision, text):
        for name in DROPOUTS:
            if hasattr(shape, name):
                setattr(shape, name, 0.0)
    special = (i for i in tokenizer.all_special_ids if i != tokenizer.mask_token_id)
    return LexLIPConfig(
        vision_config=vision.to_dict(),
        text_config=text.to_dict(),
        lexicon_size=len(lexicon),
        patch_grid=model.patch_grid,
        neck_layers=model.neck_layers,
        neck_heads=model.neck_heads,
        neck_positions=model.neck_positions,
        own_word_boost=model.own_word_boost,
        max_text_length=model.max_text_length,
        excluded_token_ids=sorted(special),
        dense_size=model.dense_size,
    )


def _load_trunks(model: TwoTowers, settings: Settings) -> None:
    for side, tower in (("vision", model.vision), ("text", model.text)):
        if side in settings.model.pretrained:
            name = resolve(settings.model.pretrained[side])
            config = one_side(AutoConfig.from_pretrained(name), side)
            weights = AutoModel.from_pretrained(name, config=config)
            if side == "text" and weights.config.vocab_size < tower.trunk.config.vocab_size:
                weights.resize_token_embeddings(tower.trunk.config.vocab_size)
            copy_weights(weights, tower.trunk)
    freeze(model, settings)


def freeze(model: TwoTowers, settings: Settings) -> None:
    """Hold still what the settings say: vision trunk, its lowest layers, word embeddings."""
    if settings.model.freeze_vision:
        model.vision.trunk.requires_grad_(False)
    freeze_lowest(model.vision.trunk, settings.model.freeze_layers)
    if settings.model.freeze_embeddings:
        model.text.trunk.get_input_embeddings().requires_grad_(False)


def _load_language_head(model: LexLIP, name: str | None) -> None:
    """Start from the text model's own masked-language head, or from the identity.

    A text model without such a head (a sentence encoder) still ranks words well by the product
    of its hidden states with its word vectors: a bias of 12 before the GELU makes the transform
    linear, and LayerNorm removes it again.
    """
    transform = model.text_head.transform
    model.text_head.words.data = model.words.detach().clone()
    if name and type(model.config.text_config) in MODEL_FOR_MASKED_LM_MAPPING:
        language, report = AutoModelForMaskedLM.from_pretrained(
            resolve(name), output_loading_info=True
        )
        own = any("transform" in key for key in report["missing_keys"])
        head = getattr(getattr(language, "cls", None), "predictions", None)
        if head is not None and not own:
            transform.load_state_dict(head.transform.state_dict())
            model.text_head.words.data = head.decoder.weight.data[model.lexicon_ids].clone()
            model.text_head.bias.data = head.decoder.bias.data[model.lexicon_ids].clone()
            return
    nn.init.eye_(transform.dense.weight)
    nn.init.constant_(transform.dense.bias, 12.0)


@torch.no_grad()
def calibrate(model: LexLIP, texts: Sequence[str], active: int = 128, spread: float = 1.5) -> None:
    """Scale and shift both heads so that training starts sparse, but with no head dead.

    Over the lexicon the pooled logits of texts get standard deviation `spread` (what a trained
    masked-language head shows); biases let the `active` best words of an item pass the relu, or
    a quarter of a small lexicon. Were they all below zero, no gradient would ever lift one.
    Pictures are stood in for by noise: the neck is random at this point anyway.
    """
    assert model.processor is not None
    tokens = model.processor.tokenize(list(texts)[:256], model.config.max_text_length)
    positions = model.text.positions(**tokens)
    hidden, head = model.text(**tokens), model.text_head
    deviation = head.pool(hidden, positions)[0].std().clamp(min=1e-3)
    head.transform.LayerNorm.weight.mul_(spread / deviation)
    model.start_image_head()
    assert model.processor is not None
    size = model.processor.image_processor.size["height"]
    noise = model.vision.features(torch.randn(16, 3, size, size))
    share = min(0.25, active / model.config.lexicon_size)
    for head, states, mask in (
        (model.text_head, hidden, positions),
        (model.image_head, model.vision(noise), None),
    ):
        pooled = head.pool(states, mask)[0]
        head.bias.sub_(torch.quantile(pooled, 1 - share, dim=1).mean())


def build(settings: Settings, texts: Sequence[str], kind: type[TwoTowers]) -> Any:
    """A model at step 0 of stage 1 (or of the dense control), from its settings.

    Parameters
    ----------
    settings : Settings
    texts : sequence of str
        All training captions: they decide which vocabulary ids are alive.
    kind : LexLIP or DenseDualEncoder
    """
    torch.manual_seed(settings.seed)
    processor = processor_for(settings, texts)
    ids = processor.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    lexicon = Lexicon.from_tokenizer(
        processor.tokenizer, ids, settings.words.min_count, settings.words.stop_words
    )
    model = kind(config_for(settings, processor, lexicon))
    model.processor = processor
    _load_trunks(model, settings)
    if isinstance(model, LexLIP):
        model.lexicon_ids.copy_(torch.from_numpy(lexicon.ids))
        _load_language_head(model, settings.model.pretrained.get("text"))
        calibrate(model, texts)
    return model


def load(folder: str | Path, settings: Settings, kind: type[TwoTowers]) -> Any:
    """A finished checkpoint as the start of the next stage, frozen as the settings say.

    Pictures may have another size from now on (``model.image_size``).
    """
    model = kind.from_pretrained(folder)
    model.resize_images(settings.model.image_size)
    freeze(model, settings)
    return model


__all__ = ["DenseDualEncoder", "LexLIP", "build", "calibrate", "caption_tokenizer", "load"]

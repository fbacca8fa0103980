"""Dual encoders of transformers: each with its own tokenizer call, preprocessing and limits."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoTokenizer,
    BlipForImageTextRetrieval,
    PreTrainedConfig,
    PreTrainedModel,
)

from lexlip.data.images import read_image
from lexlip.errors import LexLIPError
from lexlip.models.dual.attention import shares, token_spans, word_spans
from lexlip.models.dual.families import Family, habits_of, text_limit
from lexlip.models.dual.networks import Network
from lexlip.models.pixels import side_of

# The settings of transformers' picture preprocessors that change pixels.
SETTINGS = (
    "do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor",
    "rescale_offset", "do_normalize", "image_mean", "image_std", "do_pad", "include_top",
    "patch_size", "max_num_patches",
)  # fmt: skip


class TransformersDual(Network):
    """A model of transformers with ``get_text_features`` and ``get_image_features``.

    Parameters
    ----------
    name : str
        Folder or hub name.
    model : PreTrainedModel
    tokenizer : PreTrainedTokenizer
    image_processor : PIL-backed transformers image processor
        Pictures are cropped or squeezed as it says: the encoder was trained on its output.
    habits : Family, optional
        By default those of the model type.
    """

    network: Any

    def __init__(
        self,
        name: str,
        model: PreTrainedModel,
        tokenizer: Any,
        image_processor: Any,
        habits: Family | None = None,
    ) -> None:
        kind = type(tokenizer).__name__
        self.habits = habits or habits_of(model.config.model_type, kind, len(tokenizer))
        self.family, self.prompt = self.habits.name, self.habits.prompt
        self.languages = self.habits.languages
        self.image_processor = image_processor
        self._eager = threading.Lock()
        limit = text_limit(model.config.to_dict(), tokenizer.model_max_length, self.habits)
        super().__init__(name, model, tokenizer, 0, limit)
        with torch.no_grad():
            self.width = self.text_features(self._placed(self.tokens([""]))).shape[1]

    @property
    def model(self) -> PreTrainedModel:
        """The network as transformers knows it."""
        return self.network

    def tokens(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Texts to ``input_ids``, int64 [B, L], and ``attention_mask`` where there is one."""
        tokens = self._tokenize(texts)
        names = ("input_ids",) if self.habits.padded else ("input_ids", "attention_mask")
        return {name: tokens[name] for name in names}

    def _tokenize(self, texts: Sequence[str], **more: Any) -> Any:
        return self.tokenizer(
            [text.lower() for text in texts] if self.habits.lower else list(texts),
            padding="max_length" if self.habits.padded else True,
            truncation=True,
            max_length=self.max_text_length,
            return_tensors="pt",
            **more,
        )

    @property
    def image_side(self) -> int | None:
        """Pixels that the shorter side of a picture is decoded to at least; None for all."""
        return side_of(self.image_processor.to_dict())

    def pixels(self, images: Sequence[Any]) -> dict[str, Tensor]:
        """Pictures to ``pixel_values`` and what else the vision tower takes."""
        pictures = [read_image(image, None, self.image_side) for image in images]
        return dict(self.image_processor(pictures, return_tensors="pt"))

    def text_features(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Tokens to vectors [B, d]."""
        return _features(self.text_output(tokens))

    def text_output(self, tokens: Mapping[str, Tensor], **more: Any) -> Any:
        """Tokens to what transformers returns for them."""
        return self.network.get_text_features(**tokens, **more)

    def image_features(self, pixels: Mapping[str, Tensor]) -> Tensor:
        """Pixels to vectors [B, d]."""
        return _features(self.network.get_image_features(**pixels))

    @torch.no_grad()
    def text_attention(self, text: str) -> list[tuple[str, float]]:
        """Share of each word in the last layer; see `lexlip.models.dual.base.AttendsText`."""
        tokens = self._placed(self.tokens([text]))
        ids = tokens["input_ids"][0].tolist()
        at = {"start": 0, "last": len(ids) - 1}.get(self.habits.summary)
        if at is None:  # the end of the text; CLIP's padding is the same token
            at = ids.index(self.tokenizer.eos_token_id)
        usual = self.network.config._attn_implementation
        with self._eager:  # the faster kinds of attention keep no weights
            self.network.set_attn_implementation("eager")
            try:
                layers = self.text_output(tokens, output_attentions=True).attentions
            finally:
                self.network.set_attn_implementation(usual)
        weights = layers[-1][0].mean(0)[at].tolist()
        offsets = None
        if self.tokenizer.is_fast:
            offsets = self._tokenize([text], return_offsets_mapping=True)["offset_mapping"][0]
        spans = token_spans(self.tokenizer, text, ids, offsets)
        words = [text[first:last] for first, last in word_spans(text)]
        return list(zip(words, shares(text, spans, weights), strict=True))

    def preprocessing(self) -> Mapping[str, Any]:
        """Settings of the picture preprocessor that change pixels."""
        return settings_of(self.image_processor)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write weights, tokenizer and picture preprocessing: the folder is complete.

        Beside them the graphs for onnxruntime, where the model can be exported.
        """
        from lexlip.models.dual.export import export_beside

        self.network.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        self.image_processor.save_pretrained(folder)
        export_beside(self, folder)


class BlipDual(TransformersDual):
    """A BLIP for retrieval: the vectors of its contrastive stage, not its matching head."""

    def text_features(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Tokens to vectors [B, d]."""
        return self.network.text_proj(self.text_output(tokens).last_hidden_state[:, 0])

    def text_output(self, tokens: Mapping[str, Tensor], **more: Any) -> Any:
        """Tokens to what the text tower returns for them."""
        return self.network.text_encoder(**tokens, **more)

    def image_features(self, pixels: Mapping[str, Tensor]) -> Tensor:
        """Pixels to vectors [B, d]."""
        states = self.network.vision_model(**pixels).last_hidden_state
        return self.network.vision_proj(states[:, 0])


def open_transformers(
    name: str | os.PathLike[str], parts: Mapping[str, Any] | None = None
) -> TransformersDual:
    """Open a dual encoder of transformers.

    Parameters
    ----------
    name : str or path
        A folder, or a name on the hub.
    parts : mapping, optional
        Keyword arguments for transformers, such as ``subfolder``.

    Raises
    ------
    LexLIPError
        When files are missing or corrupted, or weights are missing.
    """
    parts = dict(parts or {})
    try:
        config, _ = PreTrainedConfig.get_config_dict(name, **parts)
        load: Callable[..., Any] = AutoModel.from_pretrained
        options: dict[str, Any] = {"dtype": torch.float32, "use_safetensors": True}
        if config["model_type"] == "aimv2":
            # Faster kinds of attention look ahead in a text that needs no padding.
            options["attn_implementation"] = "eager"
        if config["model_type"] == "blip":
            load = BlipForImageTextRetrieval.from_pretrained
        model, report = load(name, output_loading_info=True, **options, **parts)
        tokenizer = AutoTokenizer.from_pretrained(name, **parts)
        image_processor = AutoImageProcessor.from_pretrained(name, backend="pil", **parts)
    except Exception as error:  # of all kinds, for settings that make no sense
        reason = " ".join(str(error).split())[:200]
        raise LexLIPError(
            f"{name}: cannot be opened: give a complete folder with weights, tokenizer and "
            f"preprocessing ({reason})"
        ) from error
    if report["missing_keys"]:  # transformers would leave them random
        raise LexLIPError(
            f"{name}: {min(report['missing_keys'])} and others are missing: give a checkpoint "
            "whose texts and pictures were trained together"
        )
    return _class(config["model_type"])(str(name), model, tokenizer, image_processor)


def _class(model_type: str) -> type[TransformersDual]:
    from lexlip.models.dual import patches

    if model_type in CLASS_TOKEN:
        return patches.ClassTokenDual
    others = {"blip": BlipDual, "siglip": patches.PoolingHeadDual, "siglip2": patches.NaflexDual}
    return others.get(model_type, TransformersDual)


CLASS_TOKEN = {"altclip", "chinese_clip", "clip", "clipseg", "metaclip_2", "owlv2", "owlvit"}
"""Model types whose vision towers are built as CLIP's, with a class token."""


def _features(output: Any) -> Tensor:
    """A plain tensor up to transformers 4; since 5 an output object that holds it."""
    features = getattr(output, "pooler_output", output)
    return features[:, 0] if features.ndim == 3 else features  # FLAVA: all positions


def settings_of(image_processor: Any) -> Mapping[str, Any]:
    """Return the settings of a picture preprocessor that change pixels, as JSON can hold them."""
    settings = image_processor.to_dict() if hasattr(image_processor, "to_dict") else {}
    return {name: _plain(settings[name]) for name in SETTINGS if settings.get(name) is not None}


def _plain(setting: Any) -> Any:
    """A setting as JSON can hold it, whatever class transformers has for it."""
    if isinstance(setting, Mapping):
        return {str(k): _plain(v) for k, v in setting.items() if v is not None}
    if isinstance(setting, list | tuple):
        return [_plain(part) for part in setting]
    if isinstance(setting, bool | str | None):
        return setting
    return float(setting)

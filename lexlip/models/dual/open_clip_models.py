"""Dual encoders of open_clip, where open_clip_torch is installed (extra ``open-clip``).

A checkpoint has open_clip_config.json and its weights in safetensors. Pickled weights are refused.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from lexlip.data.images import read_image
from lexlip.errors import LexLIPError
from lexlip.models.dual.base import Vocabulary
from lexlip.models.dual.files import OPEN_CLIP, find_file, read_json
from lexlip.models.dual.networks import Network
from lexlip.models.pixels import GAP
from lexlip.storage.files import write_json

WEIGHTS = "open_clip_model.safetensors"


def open_open_clip(name: str | os.PathLike[str]) -> OpenClipDual:
    """Open a checkpoint of open_clip.

    Parameters
    ----------
    name : str or path
        A folder, or a name on the hub.

    Raises
    ------
    LexLIPError
        When open_clip_torch is missing, weights are pickled or missing, or files are corrupted.
    """
    if find_file(name, WEIGHTS) is None:
        raise LexLIPError(
            f"{name}: {WEIGHTS} is missing, and pickled weights (.bin, .pt) are not read: give a "
            "checkpoint with weights in safetensors"
        )
    try:
        import open_clip
    except ImportError as error:
        raise LexLIPError(
            f"{name} is a checkpoint of open_clip, which is not installed: "
            "pip install 'lexlip[open-clip]'"
        ) from error
    place = f"local-dir:{name}" if Path(name).is_dir() else f"hf-hub:{name}"
    try:
        model, transform = open_clip.create_model_from_pretrained(place, precision="fp32")
        tokenizer = open_clip.get_tokenizer(place)
    except Exception as error:  # the library raises of all kinds
        reason = " ".join(str(error).split())[:200]
        raise LexLIPError(f"{name}: open_clip cannot open it ({reason})") from error
    return OpenClipDual(str(name), model, transform, tokenizer, read_json(name, OPEN_CLIP))


class OpenClipDual(Network):
    """A model of open_clip, with its own tokenizer and transform.

    Parameters
    ----------
    name : str
        Folder or hub name.
    model : open_clip.CLIP, open_clip.CustomTextCLIP or CoCa
    transform : callable
        PIL picture to pixels.
    tokenizer : open_clip tokenizer
    config : mapping
        Content of open_clip_config.json.
    """

    family, prompt, languages = "open-clip", "a photo of a {}", ("en",)
    network: Any

    def __init__(
        self, name: str, model: Any, transform: Any, tokenizer: Any, config: Mapping[str, Any]
    ) -> None:
        self.transform, self.read, self.config = transform, tokenizer, config
        shape = config["model_cfg"]
        super().__init__(
            name, model, _vocabulary(tokenizer), shape["embed_dim"], tokenizer.context_length
        )

    def tokens(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Texts to ``text``, int64 [B, L]: as long as the model's context."""
        return {"text": self.read(list(texts))}

    @property
    def image_side(self) -> int | None:
        """Pixels that the shorter side of a picture is decoded to at least; None for all."""
        size = self.config["model_cfg"]["vision_cfg"].get("image_size", 224)
        return GAP * max(size if isinstance(size, list | tuple) else [size])

    def pixels(self, images: Sequence[Any]) -> dict[str, Tensor]:
        """Pictures to ``image``, float32 [B, 3, H, W]."""
        pictures = [read_image(image, None, self.image_side) for image in images]
        return {"image": torch.stack([self.transform(picture) for picture in pictures])}

    def text_features(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Tokens to vectors [B, d]."""
        return self.network.encode_text(**tokens)

    def image_features(self, pixels: Mapping[str, Tensor]) -> Tensor:
        """Pixels to vectors [B, d]."""
        return self.network.encode_image(**pixels)

    def preprocessing(self) -> Mapping[str, Any]:
        """Settings of the transform."""
        return self.config.get("preprocess_cfg") or {}

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write weights, settings and tokenizer: the folder is complete."""
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        tensors = {key: part.clone() for key, part in self.network.state_dict().items()}
        save_file(tensors, target / WEIGHTS)
        write_json(target / OPEN_CLIP, dict(self.config))
        if hasattr(self.read, "save_pretrained"):  # open_clip brings CLIP's own tokenizer with it
            self.read.save_pretrained(str(target))


class _Encoder:
    """The vocabulary of open_clip's own tokenizer."""

    def __init__(self, table: Mapping[str, int]) -> None:
        self.table = table

    def get_vocab(self) -> Mapping[str, int]:
        """Return each token with its id."""
        return self.table


def _vocabulary(tokenizer: Any) -> Vocabulary:
    own = getattr(tokenizer, "encoder", None)
    return tokenizer.tokenizer if own is None else _Encoder(own)

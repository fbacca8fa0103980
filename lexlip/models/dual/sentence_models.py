"""Dual encoders of sentence-transformers, such as clip-ViT-B-32.

Where the folder holds nothing but a dual encoder of transformers, it is opened without the library.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image

from lexlip.data.images import ENOUGH, read_image
from lexlip.data.in_order import in_batches
from lexlip.errors import LexLIPError
from lexlip.models.dual.base import DualEncoder, Vectors
from lexlip.models.dual.families import FAMILIES
from lexlip.models.dual.files import modules_of, read_json
from lexlip.models.dual.networks import Frozen
from lexlip.models.dual.transformers_models import open_transformers, settings_of
from lexlip.models.pixels import side_of
from lexlip.models.runtime import device_name

TRUST = "LEXLIP_TRUST_REMOTE_CODE"
"""Environment variable; 1 lets checkpoints run the Python code that they bring."""


def open_sentence_transformers(name: str | os.PathLike[str]) -> DualEncoder:
    """Open a dual encoder of sentence-transformers.

    Parameters
    ----------
    name : str or path
        A folder, or a name on the hub.

    Raises
    ------
    LexLIPError
        When files are missing or corrupted, or sentence-transformers is needed and missing.
    """
    (_, path), *others = modules_of(name)
    inner = read_json(name, f"{path}/config.json" if path else "config.json") or {}
    plain = all(kind.endswith(".Normalize") for kind, _ in others)
    if plain and inner.get("model_type") in FAMILIES:
        if Path(name).is_dir():
            encoder = open_transformers(Path(name) / path)
        else:
            encoder = open_transformers(name, {"subfolder": path} if path else {})
        encoder.name_or_path = str(name)
        return encoder
    return SentenceDual(str(name), load_sentence_transformers(name, "SentenceTransformer"))


def load_sentence_transformers(name: str | os.PathLike[str], kind: str) -> Any:
    """Load a model with the library: a ``SentenceTransformer`` or a ``SparseEncoder``.

    Raises
    ------
    LexLIPError
        When the library is missing, the checkpoint is corrupted, or brings code of its own that
        was not allowed.
    """
    try:
        import sentence_transformers
    except ImportError as error:
        raise LexLIPError(
            f"{name} is a {kind} of sentence-transformers, which is not installed: "
            "pip install 'lexlip[st]'"
        ) from error
    trusted = os.environ.get(TRUST) == "1"
    load: Callable[..., Any] = getattr(sentence_transformers, kind)
    try:
        device = None if device_name() == "auto" else device_name()  # None lets the library choose
        weights = {"use_safetensors": True}
        return load(str(name), device=device, trust_remote_code=trusted, model_kwargs=weights)
    except Exception as error:  # the library, and code that checkpoints bring, raise of all kinds
        if "trust_remote_code" in str(error) and not trusted:
            raise LexLIPError(
                f"{name} brings its own Python code, which can do anything on this machine: read "
                f"it, then allow it with {TRUST}=1"
            ) from error
        reason = " ".join(str(error).split())[:200]
        raise LexLIPError(f"{name}: sentence-transformers cannot open it ({reason})") from error


def as_text(text: str) -> Any:
    """Give a text to sentence-transformers so that it stays a text.

    The library takes a path or an address of a picture for the picture: a query could make a
    server read files.
    """
    from sentence_transformers.base.modality import infer_modality

    return text if infer_modality(text) == "text" else {"text": text}


def picture_settings(model: Any) -> dict[str, Any]:
    """Return the settings of a model's picture preprocessor, as far as the library knows them."""
    processor = getattr(model[0], "processor", None)
    return dict(settings_of(getattr(processor, "image_processor", processor)))


class SentenceDual(Frozen):
    """A SentenceTransformer that reads texts and pictures.

    Texts are encoded as queries, and pictures as documents, with the model's own prompts.

    Parameters
    ----------
    name : str
        Folder or hub name.
    model : sentence_transformers.SentenceTransformer
    """

    family, prompt, languages = "sentence-transformers", "a photo of a {}", ("en",)
    network: Any

    def __init__(self, name: str, model: Any) -> None:
        config = getattr(getattr(model[0], "model", None), "config", None)
        shape = getattr(config, "text_config", config)
        limits = (model.max_seq_length, getattr(shape, "max_position_embeddings", None))
        limit = min((int(number) for number in limits if number), default=512)
        if model.max_seq_length and model.max_seq_length > limit:  # longer texts would be errors
            model.max_seq_length = limit
        super().__init__(name, model, model.tokenizer, 0, limit)
        self.width = self.embed_text([""]).shape[1]

    def embed_text(self, texts: Sequence[str], batch_size: int = 128) -> Vectors:
        """Texts to unit vectors, float32 [N, d]."""
        return self._rows(self.network.encode_query, list(map(as_text, texts)), batch_size)

    def embed_image(self, images: Sequence[Any], batch_size: int = 32) -> Vectors:
        """Pictures (paths, bytes, arrays or PIL) to unit vectors, float32 [N, d]."""
        none = np.zeros((0, self.width), np.float32)
        with closing(in_batches(self.prepare_image, images, batch_size)) as prepared:
            rows = [self._rows(self.network.encode_document, p, batch_size) for p in prepared]
        return np.concatenate([none, *rows])

    @property
    def image_side(self) -> int | None:
        """Pixels that the shorter side of a picture is decoded to at least; None for all."""
        processor = getattr(self.network[0], "processor", None)
        found: Any = getattr(processor, "image_processor", processor)
        return side_of(found.to_dict()) if hasattr(found, "to_dict") else ENOUGH

    def prepare_image(self, image: Any) -> Image:
        """Return one picture of any kind, decoded at the scale that the model needs."""
        return read_image(image, None, self.image_side)

    def _rows(self, encode: Callable[..., Any], items: list[Any], batch_size: int) -> Vectors:
        if not items:
            return np.zeros((0, self.width), np.float32)
        settings = {"normalize_embeddings": True, "show_progress_bar": False}
        return np.asarray(encode(items, batch_size=batch_size, **settings), np.float32)

    def preprocessing(self) -> Mapping[str, Any]:
        """Settings that decide about pixels, and the prompts of texts and pictures."""
        return picture_settings(self.network) | {"prompts": self.network.prompts}

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write all modules: the folder is complete."""
        self.network.save_pretrained(str(folder), create_model_card=False)

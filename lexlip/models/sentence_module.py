"""A model with words as a module of sentence-transformers' SparseEncoder.

`lexlip.sentence_transformers` has what people use.
"""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from sentence_transformers.base.modality import infer_modality
from sentence_transformers.base.modules import InputModule
from torch import Tensor, nn
from torch.nn.functional import normalize

from lexlip.data.given import as_picture
from lexlip.data.in_order import in_batches
from lexlip.errors import LexLIPError, check_count
from lexlip.impacts import document_rows
from lexlip.models.exported import ExportedLexLIP
from lexlip.models.fingerprints import check_same
from lexlip.models.levels import has_levels
from lexlip.models.lexlip import LexLIP
from lexlip.models.pooling import log_saturate
from lexlip.models.query_table import QueryTable, is_table
from lexlip.models.sentence_files import (
    DEFAULTS,
    OWN,
    SENTENCE_FILES,
    SETTINGS,
    read_settings,
    write_sentence_files,
)
from lexlip.models.speaker import (
    FIND_TERMS,
    EncodesImages,
    HasVectors,
    KeepsLengths,
    bank_of,
    levelled,
)
from lexlip.storage.files import read_json, write_json

TERMS = 64
"""Terms of a document where a model with vectors is given no other number."""

_PLACE = ("subfolder", "token", "cache_folder", "revision", "local_files_only")


class LexLIPModule(InputModule):
    """A speaker as the only module of a SparseEncoder.

    A `LexLIP` is a network in it: it follows the device, and `SparseEncoderTrainer` can train it.
    All other speakers encode as they do without sentence-transformers.

    Parameters
    ----------
    model : Speaker
    max_terms : int, optional
        Heaviest words of a document that are kept. All by default; 64 of a model with vectors.
    query_terms : int, optional
        Heaviest words of a query that are kept. All by default; 128 of a model with vectors.
    normalise : bool, optional
        Bring vectors to length one, so that a product is the cosine that training optimised. False
        by default for a model whose lengths count.
    signed : bool
        Of a model with vectors: queries have all words, of either sign.
    table : bool or QueryTable
        Texts go through the checkpoint's query table.

    Raises
    ------
    LexLIPError
        For a setting that the model has no use for, and a table of another model.
    """

    __module__ = "lexlip.sentence_transformers"  # what modules.json names

    config_file_name = OWN
    config_keys = list(DEFAULTS)
    forward_kwargs = {"task"}
    save_in_root = True

    def __init__(
        self,
        model: Any,
        max_terms: int | None = None,
        query_terms: int | None = None,
        normalise: bool | None = None,
        signed: bool = False,
        table: bool | QueryTable = False,
    ) -> None:
        super().__init__()
        self.model, self.signed = model, signed
        self.max_terms = None if max_terms is None else check_count("max_terms", max_terms)
        self.query_terms = None if query_terms is None else check_count("query_terms", query_terms)
        plain = isinstance(model, HasVectors) or getattr(model, "keeps_lengths", False)
        self.normalise = not plain if normalise is None else normalise
        if signed and not isinstance(model, HasVectors):
            raise LexLIPError("signed=True is for a dual encoder in words: this model has no signs")
        self._table = _table_of(model, table)
        # The encoder's network, where there is one, follows the device.
        network = getattr(getattr(model, "encoder", None), "network", None)
        self.network = network if isinstance(network, nn.Module) else None
        self.register_buffer("place", torch.zeros(0), persistent=False)
        self.tokenizer = Spelling(model)  # type: ignore[assignment]

    @property
    def table(self) -> bool:
        """Whether texts go through a query table."""
        return self._table is not None

    @property
    def modalities(self) -> list[Any]:
        """The kinds of items: text, and image where the model encodes pictures."""
        return ["text", "image"] if isinstance(self.model, EncodesImages) else ["text"]

    @property
    def max_seq_length(self) -> int | None:
        """Tokens of a window; a longer text is read in windows, nothing of it is left out."""
        facts, config = getattr(self.model, "facts", {}), getattr(self.model, "config", None)
        found = getattr(config, "max_text_length", None) or facts.get("max_text_length")
        encoder = getattr(self.model, "encoder", None)
        return found or getattr(self.model, "max_length", getattr(encoder, "max_text_length", None))

    @property
    def similarity_fn_name(self) -> str:
        """The comparison that these vectors are for, ``dot`` or ``cosine``."""
        if self.normalise or isinstance(self.model, HasVectors):
            return "dot"
        kept = isinstance(self.model, KeepsLengths) and self.model.keeps_lengths
        return "dot" if kept else "cosine"

    def get_embedding_dimension(self) -> int:
        """Return the size of the vocabulary."""
        return len(self.model.lexicon.tokens)

    def preprocess(
        self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Read texts or pictures (not both).

        Parameters
        ----------
        inputs : sequence
            Texts, pictures (PIL, paths, bytes of files, data URIs), or dicts ``{"text": ...}`` and
            ``{"image": ...}``. As everywhere in sentence-transformers, a `str` that is the path of
            a picture is that picture; ``{"text": ...}`` is always a text.
        prompt : str, optional
            In front of texts.

        Raises
        ------
        ValueError
            For texts and pictures in one call.
        LexLIPError
            For what is neither, an address, and a picture that cannot be read.
        """
        items = [_item(one) for one in inputs]
        texts = [(prompt or "") + item for item in items if isinstance(item, str)]
        if texts and len(texts) < len(items):
            raise ValueError("texts and pictures in one batch: encode them separately")
        if not isinstance(self.model, LexLIP) or (texts and self.table):
            return {"items": texts or items}
        if texts:
            parts, counts = self.model.windows(texts)
            return {**self.model.tokens(parts), "windows": torch.tensor(counts)}
        (prepared,) = in_batches(self.model.prepare_image, items, len(items))
        return {"pixel_values": self.model.pixels(prepared)}

    def forward(
        self, features: dict[str, Any], task: str | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Add ``sentence_embedding``, weights over the vocabulary, float32 [B, V].

        Parameters
        ----------
        features : dict
            As `preprocess` returns them.
        task : str, optional
            ``query`` or ``document``.
        """
        limit = self.query_terms if task == "query" else self.max_terms
        if "items" in features:
            rows = self._rows(features["items"], task, limit)
            weights = torch.from_numpy(rows.toarray()).to(self.place.device)
        else:
            whole = self._weights(features)
            weights = self._cut(whole, limit)
            bank = bank_of(self.model)
            if task == "document" and self.normalise and bank is not None:
                rows = csr_array(whole.detach().float().cpu().numpy())
                lengths = bank.lengths(rows, "pixel_values" not in features)
                weights = weights * torch.from_numpy(lengths).to(weights)[:, None]
        features["sentence_embedding"] = weights
        return features

    def _weights(self, features: Mapping[str, Tensor]) -> Tensor:
        """Run the network: weights [B, V], with their gradient."""
        model = self.model
        if "pixel_values" in features:
            seen = model.vision.features(features["pixel_values"])
            found = log_saturate(model.pool_image(seen)[0])
        else:
            tokens = {name: features[name] for name in ("input_ids", "attention_mask")}
            found = log_saturate(model.pool_text(**tokens)[0])
            counts = features["windows"].tolist()
            if len(counts) < len(found):
                found = torch.stack([part.amax(0) for part in found.split(counts)])
        whole = found.new_zeros(len(found), self.get_embedding_dimension(), dtype=torch.float32)
        return whole.index_copy(1, model.lexicon_ids, found.float())

    def _cut(self, weights: Tensor, limit: int | None) -> Tensor:
        if limit is not None and limit < weights.shape[1]:
            kept = weights.topk(limit, dim=1).indices
            weights = weights * torch.zeros_like(weights).scatter(1, kept, 1.0)
        return normalize(weights, dim=1) if self.normalise else weights

    def _rows(self, items: list[Any], task: str | None, limit: int | None) -> Any:
        """Let the speaker encode: csr_array float32 [B, V]."""
        texts, model = isinstance(items[0], str), self.model
        if texts and self._table is not None:
            rows = self._table.encode_text(items)
        elif isinstance(model, HasVectors):
            if task == "query" or (task is None and texts):
                return model.ask(items, count=None if self.signed else limit or FIND_TERMS)  # type: ignore[attr-defined]
            return model.represent(items, max_terms=limit or TERMS).weights
        else:
            rows = model.encode_text(items) if texts else model.encode_image(items)
        limit = rows.shape[1] if limit is None else limit
        if task != "document" or not self.normalise or bank_of(model) is None:
            return document_rows(rows, limit, self.normalise)
        return document_rows(levelled(model, rows, texts), limit, "kept")

    def save(
        self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any
    ) -> None:
        """Write the checkpoint: all that lexlip and sentence-transformers need of it."""
        target = Path(output_path)
        settings = read_json(target / SETTINGS) if (target / SETTINGS).is_file() else {}
        if isinstance(self.model, ExportedLexLIP):
            _copy(Path(self.model.name_or_path), target)
        elif hasattr(self.model, "save_pretrained"):
            self.model.save_pretrained(target)
        if self._table is not None and not is_table(target):
            self._table.save_pretrained(target)
        bank = bank_of(self.model)
        if bank is not None and not has_levels(target):
            bank.save_pretrained(target)
        write_sentence_files(target, **self.get_config_dict())
        # What sentence-transformers has written there: prompts, versions.
        write_json(target / SETTINGS, {**read_json(target / SETTINGS), **settings})

    @classmethod
    def load(  # type: ignore[override]
        cls,
        model_name_or_path: str,
        backend: str = "torch",
        model_kwargs: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> LexLIPModule:
        """Open a checkpoint; sentence-transformers calls this.

        Parameters
        ----------
        model_name_or_path : str
            A folder, or a name on the hub.
        backend : str
            ``torch``, or ``onnx`` for the export of a LexLIP.
        model_kwargs : mapping, optional
            Of `LexLIP.from_pretrained`, such as ``dtype``.
        settings : mapping, optional
            Those that differ from the checkpoint's.
        **kwargs
            Where the hub's files are: revision, token, cache_folder, local_files_only.

        Raises
        ------
        LexLIPError
            When the checkpoint is missing, corrupted, or has no words.
        """
        place = {name: kwargs[name] for name in _PLACE if kwargs.get(name)}
        folder = cls.load_dir_path(model_name_or_path, **{"subfolder": "", **place})
        if folder is None:
            raise LexLIPError(f"no checkpoint at {model_name_or_path}: give a folder")
        model = _open(folder, backend, model_kwargs or {})
        chosen = {**read_settings(folder), **(settings or {})}
        if chosen.get("table") is None:
            chosen["table"] = isinstance(model, ExportedLexLIP) and is_table(folder)
        return cls(model, **chosen)


class Spelling:
    """A model's tokenizer that spells tokens as the lexicon does.

    Parameters
    ----------
    model : Speaker
    """

    def __init__(self, model: Any) -> None:
        self.raw, self.lexicon = model.tokenizer, model.lexicon

    def __getattr__(self, name: str) -> Any:
        if name in ("raw", "lexicon"):  # while it is copied
            raise AttributeError(name)
        return getattr(self.raw, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.raw(*args, **kwargs)

    def __len__(self) -> int:
        return len(self.lexicon.tokens)

    def get_vocab(self) -> dict[str, int]:
        """Return all words with their numbers."""
        return {token: number for number, token in enumerate(self.lexicon.tokens)}

    def convert_ids_to_tokens(self, ids: Any) -> Any:
        """Return the word of a number, or the words of several."""
        if isinstance(ids, int):
            return self.lexicon.tokens[ids]
        return [self.lexicon.tokens[number] for number in ids]


def _item(item: Any) -> Any:
    """Return a text, or a picture as `lexlip.data.images.read_image` takes it."""
    if isinstance(item, Mapping):
        if item.keys() == {"text"}:
            return item["text"]
        if item.keys() == {"image"}:
            return _picture(item["image"])
    if isinstance(item, str):
        return _picture(item) if infer_modality(item, ["text", "image"]) == "image" else item
    return _picture(item)


def _picture(item: Any) -> Any:
    if isinstance(item, str):
        if item.startswith(("http://", "https://")):
            raise LexLIPError(f"{item:.80}: lexlip fetches no pictures, give the file")
        if item.startswith("data:image/"):
            return base64.b64decode(item.partition(",")[2])
        return Path(item)
    if isinstance(item, Tensor):
        pixels = item.cpu().numpy()
        return np.moveaxis(pixels, 0, 2) if pixels.ndim == 3 and len(pixels) in (1, 3) else pixels
    found = as_picture(item)
    if found is None:
        raise LexLIPError(f"{type(item).__name__} is neither a text nor a picture")
    return found


def _open(folder: str, backend: str, options: Mapping[str, Any]) -> Any:
    from lexlip.models import is_lexical, load
    from lexlip.models.export_files import export_folder

    if is_lexical(folder):
        return load(folder)
    if backend == "onnx" or not (Path(folder) / "config.json").is_file():
        if export_folder(folder) is None and backend == "onnx":
            raise LexLIPError(f"no export of {folder}: lexlip index writes one")
        return load(folder, table=False)
    return LexLIP.from_pretrained(folder, **options)


def _table_of(model: Any, table: bool | QueryTable | None) -> QueryTable | None:
    if not table:
        return None
    found = (
        table if isinstance(table, QueryTable) else QueryTable.from_pretrained(model.name_or_path)
    )
    place, facts = found.name_or_path or "the query table", {"model": found.fingerprint}
    check_same(place, {**facts, "rounded": found.rounded}, model, "fit it again")
    return found


def _copy(source: Path, target: Path) -> None:
    if os.path.realpath(source) != os.path.realpath(target):
        left = shutil.ignore_patterns("train_state", *SENTENCE_FILES)
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=left)

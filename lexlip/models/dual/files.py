"""Files of a checkpoint, in a folder or on the hub, and the kind of dual encoder they make up.

Imports no torch: only JSON is read.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

from lexlip.models.bounds import check_size
from lexlip.models.dual.families import FAMILIES
from lexlip.models.dual.graphs import IMMICH, TRANSFORMERS_JS, precisions
from lexlip.models.hub import stay_offline_if_unreachable

Kind = Literal[
    "onnx", "immich", "transformers", "sentence-transformers", "open-clip", "lexlip-clip"
]
MODULES, OPEN_CLIP = "modules.json", "open_clip_config.json"
KINDS = (
    "CLIP, SigLIP, Chinese-CLIP and their kin for onnxruntime, or in transformers, "
    "sentence-transformers or open_clip"
)


def find_file(name: str | os.PathLike[str], file: str, revision: str | None = None) -> Path | None:
    """Return a checkpoint's file, None where it has none.

    Parameters
    ----------
    name : str or path
        A folder, or a name on the hub: what is in its cache needs no network connection.
    file : str
        Path within the checkpoint.
    revision : str, optional
        Of a name on the hub: a commit, branch or tag.
    """
    if Path(name).is_dir():
        path = Path(name) / file
        return path if path.is_file() else None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    stay_offline_if_unreachable()
    try:
        return Path(hf_hub_download(str(name), file, revision=revision))
    except (EntryNotFoundError, OSError, ValueError):  # ValueError: no name that the hub can have
        return None


def read_json(name: str | os.PathLike[str], file: str, revision: str | None = None) -> Any:
    """Return the content of a checkpoint's JSON file, None where it is missing or not JSON.

    Raises
    ------
    LexLIPError
        When it is larger than that of any model.
    """
    path = find_file(name, file, revision)
    if path is not None:
        check_size(path)
    try:
        return None if path is None else json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def model_type(name: str | os.PathLike[str], revision: str | None = None) -> str | None:
    """Return the ``model_type`` of a checkpoint's config.json, None where it has none."""
    config = read_json(name, "config.json", revision)
    return config.get("model_type") if isinstance(config, dict) else None


def kind_of(name: str | os.PathLike[str], revision: str | None = None) -> Kind | None:
    """Return the kind of a dual encoder's checkpoint, None for anything else.

    A folder of sentence-transformers is told by a module in modules.json that reads pictures, one
    for onnxruntime by its graphs, one of transformers by its model type, one of open_clip by
    open_clip_config.json. Where there are graphs beside weights of torch, the graphs are taken.
    """
    kind = model_type(name, revision)
    if kind in ("lexlip", "lexlip-words"):
        return None
    if read_json(name, MODULES, revision) is not None:
        return "sentence-transformers" if _sees(name) else None
    if kind in FAMILIES:
        return "onnx" if precisions(name, TRANSFORMERS_JS, revision) else "transformers"
    if kind == "lexlip-clip":
        return "lexlip-clip"
    if kind is not None:
        return None
    if precisions(name, IMMICH, revision):
        return "immich"
    return "open-clip" if find_file(name, OPEN_CLIP, revision) is not None else None


def modules_of(name: str | os.PathLike[str]) -> list[tuple[str, str]]:
    """Return class and folder of each module of a sentence-transformers checkpoint."""
    listed = read_json(name, MODULES)
    if not isinstance(listed, list):
        return []
    parts = [part for part in listed if isinstance(part, dict)]
    return [(str(part.get("type")), str(part.get("path", ""))) for part in parts]


def is_sparse_encoder(name: str | os.PathLike[str]) -> bool:
    """Return whether a checkpoint is a SparseEncoder of sentence-transformers, and none of ours.

    Ours say so too (`lexlip.models.sentence_files`).
    """
    facts = read_json(name, "config_sentence_transformers.json")
    sparse = isinstance(facts, dict) and facts.get("model_type") == "SparseEncoder"
    return sparse and not is_ours(name)


def is_ours(name: str | os.PathLike[str]) -> bool:
    """Return whether a checkpoint's modules.json names a class of lexlip."""
    return any(kind.startswith("lexlip.") for kind, _ in modules_of(name))


def _sees(name: str | os.PathLike[str]) -> bool:
    """Whether a checkpoint of sentence-transformers has dense vectors of texts and of pictures."""
    if is_sparse_encoder(name) or is_ours(name):
        return False
    for kind, path in modules_of(name):
        inner = f"{path}/" if path else ""
        settings = read_json(name, f"{inner}sentence_bert_config.json") or {}
        config = read_json(name, f"{inner}config.json") or {}
        if kind.endswith(".CLIPModel") or config.get("model_type") in FAMILIES:
            return True
        if {"text", "image"} <= set(settings.get("modality_config") or ()):
            return True
    return False

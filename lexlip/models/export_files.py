"""Files of a LexLIP that was exported to onnxruntime, and where they are found; no torch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from lexlip.errors import LexLIPError
from lexlip.storage.files import MANIFEST, read_json

FORMAT = "lexlip-exported/1"
FOLDER = "onnx"
"""Folder of an export in its checkpoint."""

GRAPHS: Mapping[str, str] = {"text": "text.onnx", "image": "image.onnx"}
LEXICON, TOKENIZER = "lexicon.safetensors", "tokenizer.json"
_BLOCK = 2**16


def export_folder(name: str | os.PathLike[str], fingerprint: str | None = None) -> Path | None:
    """Return the folder of a checkpoint's export, None where it has none or an old one.

    Parameters
    ----------
    name : str or path
        The checkpoint: a folder, or a name on the hub, whose export lies in the user's cache.
    fingerprint : str, optional
        Of the network; tells the export of a name on the hub.
    """
    beside = Path(name) / FOLDER
    if (beside / MANIFEST).is_file():
        return beside if _is_young(beside, Path(name)) else None
    gone = os.path.isabs(name) and not os.path.isdir(name)  # the checkpoint itself is missed then
    if fingerprint is None or gone:
        return None
    cached = cached_export(fingerprint)
    if not (cached / MANIFEST).is_file():
        return None
    if os.path.isdir(name):  # one that could not be written to: of these weights, certainly
        return cached if _is_of(cached, Path(name)) else None
    return cached if _is_young(cached, Path(name)) else None


def may_export() -> bool:
    """Return whether the command line may write exports: LEXLIP_EXPORT=0 forbids it."""
    return os.environ.get("LEXLIP_EXPORT", "1") != "0"


def cached_export(fingerprint: str) -> Path:
    """Return the folder of an export that cannot lie in its checkpoint."""
    return user_cache_path("lexlip", appauthor=False) / FOLDER / fingerprint[:32]


def sample_of(path: Path) -> dict[str, Any]:
    """Return the size of a file and a hash of its ends: what tells a file that was written anew."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        digest = hashlib.sha256(file.read(_BLOCK))
        file.seek(max(0, size - _BLOCK))
        digest.update(file.read(_BLOCK))
    return {"file": path.name, "size": size, "ends": digest.hexdigest()}


def _is_young(export: Path, checkpoint: Path) -> bool:
    """Say whether an export is of this format, and of these weights where there are some."""
    try:
        facts = read_json(export / MANIFEST)
        if facts.get("format", FORMAT) != FORMAT:
            return False
        known = facts.get("weights")
        file = checkpoint / known["file"] if known else None
        return file is None or not file.is_file() or sample_of(file) == known
    except (LexLIPError, OSError, KeyError, TypeError):
        return False


def _is_of(export: Path, checkpoint: Path) -> bool:
    """Say whether an export is known to be of the weights that a folder holds."""
    known = read_json(export / MANIFEST).get("weights")
    return bool(known) and (checkpoint / known["file"]).is_file() and _is_young(export, checkpoint)

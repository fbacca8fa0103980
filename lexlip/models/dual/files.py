"""Files of a checkpoint, in a folder or on the hub, and the kind of dual encoder they make up.

Imports no torch: only JSON is read.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

from lexlip.models.dual.families import FAMILIES

Kind = Literal["transformers", "sentence-transformers", "open-clip", "lexlip-clip"]
KINDS = (
    "CLIP, SigLIP, Chinese-CLIP and their kin in transformers, sentence-transformers or open_clip"
)


def find_file(name: str | os.PathLike[str], file: str) -> Path | None:
    """Return a checkpoint's file, None where it has none.

    Parameters
    ----------
    name : str or path
        A folder, or a name on the hub: what is in its cache needs no network connection.
    file : str
        Path within the checkpoint.
    """
    if Path(name).is_dir():
        path = Path(name) / file
        return path if path.is_file() else None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return Path(hf_hub_download(str(name), file))
    except (EntryNotFoundError, OSError, ValueError):  # ValueError: no name that the hub can have
        return None


def read_json(name: str | os.PathLike[str], file: str) -> Any:
    """Return the content of a checkpoint's JSON file, None where it is missing or not JSON."""
    path = find_file(name, file)
    try:
        return None if path is None else json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def kind_of(name: str | os.PathLike[str]) -> Kind | None:
    """Return the kind of a dual encoder's checkpoint, None for anything else.

    A folder of open_clip is told by open_clip_config.json, one of sentence-transformers by a
    module in modules.json that reads pictures, one of transformers by its model type.
    """
    config = read_json(name, "config.json")
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind in FAMILIES:
        return "transformers"
    if kind == "lexlip-clip":
        return "lexlip-clip"
    return None

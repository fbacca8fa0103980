"""Places of the indexes that are made for folders: in the user's data folder, or where they say."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_data_path

from lexlip.models.default import DEFAULT, VARIABLE


@dataclass(frozen=True)
class Place:
    """An index of some folders, and the words that its model speaks."""

    index: Path
    model: Path


def wanted_model(model: str | None) -> str | None:
    """Return the model that is asked for: as given, or by LEXLIP_MODEL; None for the default."""
    return model or os.environ.get(VARIABLE) or None


def place_of(
    folders: Sequence[str | os.PathLike[str]],
    index: str | os.PathLike[str] | None = None,
    model: str | None = None,
) -> Place:
    """Return the place of the index of some folders.

    Parameters
    ----------
    folders : sequence of path
        Their order does not matter.
    index : path, optional
        Where the index is wanted; by default a folder of its own in the user's data folder.
    model : str, optional
        Folder or hub name; by default that of LEXLIP_MODEL, or the default model. Each model has
        an index of its own.

    Examples
    --------
    >>> place_of(["photos"]) == place_of(["./photos/"]), place_of(["a"]) == place_of(["b"])
    (True, False)
    """
    if index is not None:
        path = Path(index)
        return Place(path, path.with_name(f"{path.name}.model"))
    named = wanted_model(model) or f"{DEFAULT.name}@{DEFAULT.revision}"
    named = os.path.realpath(named) if Path(named).is_dir() else named
    real = sorted({os.path.realpath(folder) for folder in folders})
    digest = hashlib.sha256("\0".join([named, *real]).encode(errors="surrogateescape"))
    first = re.sub(r"[^\w-]+", "-", Path(real[0]).name).strip("-")[:40] or "folder"
    home = user_data_path("lexlip", appauthor=False) / "indexes"
    folder = home / f"{first}-{digest.hexdigest()[:12]}"
    return Place(folder / "index", folder / "model")

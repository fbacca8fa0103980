"""The pictures that an index was made of, found again by their ids."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from lexlip.data.collection import Collection, load_collection
from lexlip.data.images import SUFFIXES
from lexlip.errors import LexLIPError


class Originals:
    """The place of an index's pictures.

    Parameters
    ----------
    path : path or None
        What was indexed: a folder of pictures, one picture, or anything else that
        `lexlip.data.collection.load_collection` reads. None finds nothing.
    split : str, optional
        For sources that have several.

    Examples
    --------
    >>> Originals("photos").find("trip/a.jpg") is None  # no such file here
    True
    """

    def __init__(self, path: str | Path | None, split: str | None = None) -> None:
        self.path = None if path is None else Path(path).absolute()
        self.split = split

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> Originals:
        """Read from the manifest of an index where its pictures were."""
        return cls(**(manifest.get("pictures") or {"path": None}))

    @cached_property
    def folder(self) -> Path | None:
        """The folder that ids are paths in; None for collections."""
        path = self.path
        if path is not None and path.suffix.lower() in SUFFIXES and not path.is_dir():
            return path.parent
        if path is None or not path.is_dir() or self.split is not None:
            return None
        tables = any(path.glob("*.parquet")) or any(path.glob("data/*.parquet"))
        return None if tables else path

    @cached_property
    def _loaded(self) -> tuple[Collection | None, dict[str, int], str | None]:
        if self.path is None:
            return None, {}, "this index does not say where its pictures are"
        try:
            collection = load_collection(self.path, self.split)
        except LexLIPError as error:
            return None, {}, str(error)
        return collection, {name: row for row, name in enumerate(collection.ids)}, None

    @property
    def collection(self) -> Collection | None:
        """The indexed collection, as it is now; None where it cannot be read."""
        return self._loaded[0]

    @property
    def problem(self) -> str | None:
        """Why no picture can be found; None where some may be."""
        return None if self.folder is not None else self._loaded[2]

    def find(self, id: str) -> Path | bytes | None:
        """Return a picture's file or bytes as they lie there, None where there is none.

        No id leads out of the folder.
        """
        if self.folder is not None:
            parts = PurePosixPath(id)
            inside = not parts.is_absolute() and ".." not in parts.parts
            path = self.folder / parts
            return path if inside and os.path.isfile(path) else None
        collection, rows, _ = self._loaded
        if collection is None or id not in rows:
            return None
        found = collection.picture(rows[id])
        return found if isinstance(found, bytes) or found.is_file() else None

    def id_of(self, path: str | Path) -> str | None:
        """Return the id of a picture in the folder, None for anything else."""
        absolute = Path(path).resolve()
        if self.folder is None or not absolute.is_relative_to(self.folder.resolve()):
            return None
        return absolute.relative_to(self.folder.resolve()).as_posix()

"""Documents by name: the id of a picture's path, and the picture of an id."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lexlip.data.originals import Originals
from lexlip.errors import LexLIPError
from lexlip.filters.columns import nfc
from lexlip.storage.ids import is_id

if TYPE_CHECKING:
    from lexlip.index import Index


def find_id(index: Index, name: str) -> str:
    """Return the id of a document by its id, or by the path of its picture.

    Raises
    ------
    LexLIPError
        When there is none.
    """
    path = Path(name)
    inside = Originals.of(index.path, index.manifest).id_of(path)
    for candidate in (name, nfc(name), inside, nfc(path.name), nfc(path.stem)):
        if candidate and is_id(candidate) and index.engine.fetch([candidate])[0] is not None:
            return candidate
    raise LexLIPError(f"{name!r} is not in {index.path}: give an id as lexlip search prints it")


def find_picture(index: Index, id: str) -> Path | bytes | None:
    """Return the picture of a document, from where it was indexed; None where it is gone."""
    return Originals.of(index.path, index.manifest).find(id)

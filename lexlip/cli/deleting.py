"""Choice of documents to delete: by id, by pattern, by path, or from lines."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from lexlip.data.originals import Originals
from lexlip.errors import LexLIPError
from lexlip.filters.columns import nfc
from lexlip.storage.ids import is_id

if TYPE_CHECKING:
    from lexlip.index import Index

_PART = 1024
_WILD = frozenset("*?[")


def read_ids(lines: bytes) -> list[str]:
    """Read ids, one a line, or with NUL after each where there is any.

    Raises
    ------
    LexLIPError
        When they are not UTF-8.

    Examples
    --------
    >>> read_ids(b"a.jpg\\r\\nb c.jpg\\n\\n"), read_ids(b"a\\nb\\0c\\0")
    (['a.jpg', 'b c.jpg'], ['a\\nb', 'c'])
    """
    try:
        text = lines.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise LexLIPError("the ids on the standard input are not UTF-8: give them so") from None
    parts = text.split("\0") if "\0" in text else [it.rstrip("\r") for it in text.split("\n")]
    return [part for part in parts if part]


def chosen(index: Index, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the ids that names choose, and the names that choose none.

    Parameters
    ----------
    index : Index
    names : sequence of str
        Ids, patterns of ids (``trip/*``), paths of pictures, and ``-`` for the standard input.
    """
    asked: list[str] = []
    for name in names:
        asked += read_ids(sys.stdin.buffer.read()) if name == "-" else [name]
    originals = Originals.of(index.path, index.manifest)
    candidates = {name: (name, nfc(name), originals.id_of(name)) for name in asked}
    held = _held(index, (it for names in candidates.values() for it in names if it is not None))
    found: dict[str, None] = {}
    unknown: list[str] = []
    every: list[str] | None = None
    for name in asked:
        exact = next((it for it in candidates[name] if it in held), None)
        if exact is not None:
            found[exact] = None
        elif _WILD & set(name):
            every = index.engine.ids() if every is None else every
            hits = [id for id in every if fnmatchcase(nfc(id), nfc(name))]
            found.update(dict.fromkeys(sorted(hits)))
            unknown += [] if hits else [name]
        else:
            unknown.append(name)
    return list(found), unknown


def _held(index: Index, names: Iterable[str]) -> set[str]:
    """Return those of some names that are ids in the index."""
    ids = [name for name in dict.fromkeys(names) if is_id(name)]
    held = set()
    for start in range(0, len(ids), _PART):
        part = ids[start : start + _PART]
        facts = index.engine.fetch(part)
        held |= {name for name, it in zip(part, facts, strict=True) if it is not None}
    return held

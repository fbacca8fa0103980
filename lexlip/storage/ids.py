"""Ids of documents, and the errors that everything kept in a folder raises alike."""

from __future__ import annotations

from collections.abc import Iterable

from lexlip.errors import LexLIPError

MAX_ID_BYTES = 1024
"""Longest id in UTF-8 bytes: room for any path, far below Lucene's 32,766 for a term."""


def check_ids(ids: Iterable[str]) -> list[str]:
    """Return the ids as a list.

    Raises
    ------
    LexLIPError
        For an id that is not a string, is empty, is longer than 1,024 bytes, or holds a lone
        surrogate (a file name that is not UTF-8).
    """
    if isinstance(ids, str):
        raise LexLIPError(f"ids is the one string {ids!r}: give a list of ids")
    if not isinstance(ids, Iterable):
        raise LexLIPError(f"ids is {ids!r:.60}: give a list of ids")
    checked = list(ids)
    for name in checked:
        if not isinstance(name, str) or not name:
            raise LexLIPError(f"{name!r} is no id: it must be a string that is not empty")
        try:
            size = len(name.encode("utf-8"))
        except UnicodeEncodeError:
            raise LexLIPError(f"id {name!r} is not valid Unicode: rename the file") from None
        if size > MAX_ID_BYTES:
            raise LexLIPError(f"id {name[:40]!r}... has {size} bytes: at most {MAX_ID_BYTES}")
    return checked


def is_id(name: str) -> bool:
    """Return whether a text can be an id; see `check_ids`."""
    try:
        return bool(check_ids([name]))
    except LexLIPError:
        return False


def read_only(what: object) -> LexLIPError:
    """Return the error for changing what was opened for reading."""
    return LexLIPError(f"{what} is open for reading: open it with mode 'w' to change")


def closed(what: str) -> LexLIPError:
    """Return the error for using what was closed by `close`."""
    return LexLIPError(f"{what} is closed: open it again")

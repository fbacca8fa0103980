"""Identity of an index: whether another one has taken its place in the same folder."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from lexlip.errors import LexLIPError
from lexlip.storage.files import MANIFEST

Mark = tuple[int, int, int, int]
_TRIES, _LOOKS = 20, 5
_PAUSE = 0.01
"""Seconds; between the two renames of a replacement there is nothing in the folder's place."""


class Closes(Protocol):
    """Something that is open."""

    def close(self) -> None:
        """Let go of its files."""


T = TypeVar("T", bound=Closes)


def mark(path: Path) -> Mark | None:
    """Return what tells the index at `path` from one that replaces it; None for no index.

    A manifest is a new file in every index, also in one that is equal in all it says, and in a copy
    that keeps the dates: no program chooses the time of a change (`st_ctime_ns`), and inodes are
    used again.
    """
    for _ in range(_LOOKS):
        try:
            facts = os.stat(path / MANIFEST)
        except OSError:
            time.sleep(_PAUSE)
        else:
            return facts.st_ino, facts.st_ctime_ns, facts.st_mtime_ns, facts.st_size
    return None


def unmixed(path: Path, opening: Callable[[], T]) -> T:
    """Return what `opening` opens, all of it of one index: when that is replaced, open again.

    Raises
    ------
    LexLIPError
        As `opening` does.
    """
    for _ in range(_TRIES):
        before = mark(path)
        try:
            opened = opening()
        except Exception:  # half of the files may be another index's: engines say so in many ways
            if mark(path) == before:
                raise
            continue
        if mark(path) == before:
            return opened
        opened.close()
    raise LexLIPError(f"{path} is replaced faster than it can be opened: try again")

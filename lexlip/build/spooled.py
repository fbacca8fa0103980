"""Spooled pictures: those of a stream, kept in a temporary file until they are encoded."""

from __future__ import annotations

from collections.abc import Sequence
from tempfile import TemporaryFile
from threading import Lock
from typing import Any

from lexlip.data.given import as_picture
from lexlip.errors import LexLIPError


class Spooled(Sequence[Any]):
    """Pictures in the order in which they came; bytes of files lie on the disk, not in memory.

    The file has no name, so the system removes it with the process, whatever ends that.

    Examples
    --------
    >>> pictures = Spooled()
    >>> pictures.append({"bytes": b"the bytes of a file", "path": None})
    >>> pictures[0]
    b'the bytes of a file'
    """

    def __init__(self) -> None:
        self._kept: list[Any] = []  # (offset, size) of bytes, others as they are
        self._file = TemporaryFile(prefix="lexlip-")
        self._end = 0
        self._lock = Lock()

    def append(self, item: Any) -> None:
        """Add a picture, or whatever stands in its place.

        Raises
        ------
        LexLIPError
            When the disk is full.
        """
        picture = as_picture(item)
        if not isinstance(picture, bytes):
            self._kept.append(item if picture is None else picture)
            return
        try:
            self._file.write(picture)
        except OSError as error:
            raise LexLIPError(
                f"the pictures of a stream are kept in a temporary file, which cannot be written "
                f"({error.strerror}): make room, or set TMPDIR"
            ) from None
        self._kept.append((self._end, len(picture)))
        self._end += len(picture)

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, i: Any) -> Any:
        kept = self._kept[i]
        if not isinstance(kept, tuple):
            return as_picture(kept)
        start, size = kept
        with self._lock:  # threads read, and the file has one place
            self._file.seek(start)
            return self._file.read(size)

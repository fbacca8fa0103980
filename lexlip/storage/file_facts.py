"""File facts: size, date and content hash of the pictures that an index was made of.

With them a renamed, copied or touched file is known by its bytes, and is not encoded again. Facts
count only where they agree with the metadata in the engine: so they need no commit of their own.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lexlip.errors import LexLIPError
from lexlip.storage.arrays import map_array, save_array
from lexlip.storage.ids import check_ids
from lexlip.storage.part_store import PartStore, Places
from lexlip.storage.remote import Unreachable
from lexlip.storage.stored import Stored

_SMALL = 2048
_DIGEST = 16
UNKNOWN = bytes(_DIGEST)
"""The digest of a file that was not read."""

_LAST = 2**63 - 1
_ARRAYS = ("sizes", "dates", "digests", "placed")


class FileFacts(NamedTuple):
    """Facts of one picture.

    Attributes
    ----------
    size : int
        Bytes.
    date : int
        When it was modified, nanoseconds since 1970, at most 2**63 - 1; 0 for bytes without a file.
    digest : bytes
        BLAKE2b of its bytes, 16 bytes; zeros where it was not computed. Behind a URL with an
        etag, of these two.
    placed : bool
        Whether it was found in a root of the index; others were given by a program.
    """

    size: int
    date: int
    digest: bytes = UNKNOWN
    placed: bool = False

    @classmethod
    def of(cls, picture: Any, placed: bool = False, hashed: bool = True) -> FileFacts | None:
        """Read the facts of a file or of bytes; None for anything else, and for missing files.

        The date is read before the bytes: a file that changes meanwhile is seen as changed later.
        """
        try:
            if isinstance(picture, bytes):
                digest = hashlib.blake2b(picture, digest_size=_DIGEST).digest()
                return cls(len(picture), 0, digest, placed)
            if isinstance(picture, Path):
                facts, digest = os.stat(picture), UNKNOWN
                if hashed:
                    with open(picture, "rb") as file:
                        digest = hashlib.file_digest(file, _blake).digest()
                date = max(-_LAST, min(facts.st_mtime_ns, _LAST))
                return cls(facts.st_size, date, digest, placed)
            if isinstance(picture, Stored):
                date, known = min(picture.modified, _LAST), picture.stamp()
                if known is None and (hashed or not date):
                    known = hashlib.blake2b(picture.read(), digest_size=_DIGEST).digest()
                return cls(picture.size or 0, date, known or UNKNOWN, placed)
        except Unreachable:
            raise
        except LexLIPError:
            return None
        except (OSError, ValueError):
            pass
        return None


def _blake() -> Any:
    return hashlib.blake2b(digest_size=_DIGEST)


class _Rows(NamedTuple):
    sizes: NDArray[np.int64]
    dates: NDArray[np.int64]
    digests: NDArray[np.uint8]
    placed: NDArray[np.bool_]


class FactStore(PartStore[_Rows]):
    """Facts of files by id, in a folder of memory-mapped parts.

    Parameters
    ----------
    path : path
        The folder.
    mode : {"r", "w"}
        "w" makes the folder if there is none.

    Examples
    --------
    >>> import tempfile
    >>> store = FactStore(tempfile.mkdtemp(), "w")
    >>> store.write(["a"], [FileFacts.of(b"bytes")])
    >>> store.read(["a", "nobody"])[0].size, store.read(["a", "nobody"])[1]
    (5, None)
    >>> store.alike([FileFacts.of(b"bytes"), FileFacts.of(b"other")])
    [['a'], []]
    >>> store.close()
    """

    FORMAT = "lexlip-files-1"

    def __init__(self, path: str | os.PathLike[str], mode: Literal["r", "w"] = "r") -> None:
        super().__init__(path, mode, _SMALL)

    def _open(self, folder: Path, facts: Mapping[str, Any]) -> tuple[_Rows, int]:
        rows = _Rows(*(map_array(folder, name) for name in _ARRAYS))
        if len({len(array) for array in rows}) != 1:
            raise ValueError("its arrays differ in length")
        return rows, len(rows.sizes)

    def _save(self, folder: Path, places: Places[_Rows]) -> None:
        arrays: tuple[NDArray[Any], ...] = _gather(places)
        for name, array in zip(_ARRAYS, arrays, strict=True):
            save_array(folder, name, array)

    def write(self, ids: Sequence[str], facts: Sequence[FileFacts | None]) -> None:
        """Store facts in the place of those with the same ids; None are passed over."""
        known = [(name, fact) for name, fact in zip(ids, facts, strict=True) if fact is not None]
        if known:
            names = check_ids([name for name, _ in known])
            self._write([name.encode() for name in names], _rows([fact for _, fact in known]), {})

    def read(self, ids: Sequence[str]) -> list[FileFacts | None]:
        """Return the facts of N ids, None where there are none."""
        places = self._current().find(ids)
        found = _facts(_gather(places))
        held = (places.source >= 0).tolist()
        return [fact if there else None for fact, there in zip(found, held, strict=True)]

    def alike(self, facts: Iterable[FileFacts]) -> list[list[str]]:
        """Return, for each, the ids of files with the same size and content."""
        wanted = [(fact.size, fact.digest) for fact in facts]
        sizes = np.array(sorted({size for size, _ in wanted}), np.int64)
        found: dict[tuple[int, bytes], list[str]] = {key: [] for key in wanted}
        for part in self._current().parts:
            rows = np.flatnonzero(np.isin(part.rows.sizes, sizes))
            names = part.ids.names.take(rows)
            digests = [row.tobytes() for row in part.rows.digests[rows]]
            for name, size, digest in zip(
                names, part.rows.sizes[rows].tolist(), digests, strict=True
            ):
                if (size, digest) in found and any(digest):
                    found[size, digest].append(name.decode())
        return [found[key] for key in wanted]

    def sizes(self) -> set[int]:
        """Return all sizes: a file of another one is certainly new."""
        return {int(size) for part in self._current().parts for size in np.unique(part.rows.sizes)}


def _rows(facts: Sequence[FileFacts]) -> _Rows:
    digests = np.frombuffer(b"".join(fact.digest for fact in facts), np.uint8)
    return _Rows(
        np.array([fact.size for fact in facts], np.int64),
        np.array([fact.date for fact in facts], np.int64),
        digests.reshape(len(facts), _DIGEST),
        np.array([fact.placed for fact in facts], np.bool_),
    )


def _facts(rows: _Rows) -> list[FileFacts]:
    digests = [row.tobytes() for row in rows.digests]
    lists = rows.sizes.tolist(), rows.dates.tolist(), digests, rows.placed.tolist()
    return [FileFacts(*fact) for fact in zip(*lists, strict=True)]


def _gather(places: Places[_Rows]) -> _Rows:
    """Return the rows at these places, zeros where there is none."""
    count = len(places)
    gathered = _Rows(
        np.zeros(count, np.int64), np.zeros(count, np.int64),
        np.zeros((count, _DIGEST), np.uint8), np.zeros(count, np.bool_),
    )  # fmt: skip
    for source, where, rows in places.spans:
        into: tuple[NDArray[Any], ...] = gathered
        out: tuple[NDArray[Any], ...] = source
        for array, taken in zip(into, out, strict=True):
            array[where] = taken[rows]
    return gathered

"""Rows by id in a folder of memory-mapped parts: the life that the stores of an index share.

A write makes one part, and merges the small parts before it into that: a row is written again once
per doubling of the store. Of an id that several parts hold, the newest row counts. Ids are found
by checksum: halving a sorted list of a million costs 7 us each in Python, this 1 us.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from lexlip.errors import LexLIPError
from lexlip.storage.arrays import Strings, map_array, save_array
from lexlip.storage.generations import (
    Generation,
    GenerationWriter,
    current_mark,
    open_current,
    verify,
)
from lexlip.storage.ids import closed, read_only
from lexlip.storage.sound import Sound

R = TypeVar("R")
_NUMBERS = ("rows", "width", "token_size", "gaussian_size")
"""Facts of stores that are whole numbers."""


class Ids:
    """The ids of a part: sorted, and the CRC-32 of each, sorted as well."""

    def __init__(self, folder: Path) -> None:
        self.names = Strings(folder, "ids")
        self._sums, self._rows = map_array(folder, "sums"), map_array(folder, "sum-rows")
        if not len(self.names) == self._sums.size == self._rows.size:
            raise ValueError("ids and checksums differ in length")

    @staticmethod
    def write(folder: Path, names: Sequence[bytes]) -> None:
        """Write sorted ids."""
        Strings.write(folder, "ids", names)
        sums = checksums(names)
        order = np.argsort(sums, kind="stable")
        save_array(folder, "sums", sums[order])
        save_array(folder, "sum-rows", order.astype(np.int32))

    def __len__(self) -> int:
        return len(self.names)

    def all(self) -> list[bytes]:
        """Read all ids."""
        return self.names.take(np.arange(len(self.names)))

    def find(
        self, names: Sequence[bytes], sums: NDArray[np.uint32], asked: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Yield those of the `asked` places of `names` whose names are here, and their rows."""
        places = np.searchsorted(self._sums, sums[asked])
        while True:
            equal = self._sums.take(places, mode="clip") == sums[asked]
            equal &= places < self._sums.size
            asked, places = asked[equal], places[equal]
            if not asked.size:
                return
            rows = self._rows[places].astype(np.int64)
            pairs = zip(asked.tolist(), self.names.take(rows), strict=True)
            same = np.fromiter((names[i] == name for i, name in pairs), np.bool_, asked.size)
            yield asked[same], rows[same]
            asked, places = asked[~same], places[~same] + 1  # names may share a checksum


def checksums(names: Sequence[bytes]) -> NDArray[np.uint32]:
    """Return the CRC-32 of each name."""
    return np.fromiter(map(crc32, names), np.uint32, len(names))


@dataclass(frozen=True)
class Places(Generic[R]):
    """Places of K rows: each in one of several sources, or missing (source -1)."""

    sources: Sequence[R]
    source: NDArray[np.int64]
    row: NDArray[np.int64]

    def __len__(self) -> int:
        return self.source.size

    def __getitem__(self, some: slice) -> Places[R]:
        return Places(self.sources, self.source[some], self.row[some])

    @cached_property
    def spans(self) -> list[tuple[R, NDArray[np.int64], NDArray[np.int64]]]:
        """Each source that has some of the rows, which of the K, and its rows."""
        which = [np.flatnonzero(self.source == number) for number in range(len(self.sources))]
        return [
            (source, where, self.row[where])
            for source, where in zip(self.sources, which, strict=True)
            if where.size
        ]


@dataclass(frozen=True)
class _Part(Generic[R]):
    name: str
    ids: Ids
    rows: R


@dataclass(frozen=True)
class Snapshot(Generic[R]):
    """One generation, open: its parts, oldest first, each larger than those after it."""

    generation: Generation
    parts: Sequence[_Part[R]]

    @property
    def facts(self) -> dict[str, Any]:
        """Facts of the generation besides the names of its parts; empty before the first write."""
        return self.generation.data

    def find(self, ids: Iterable[str] | Sequence[bytes]) -> Places[R]:
        """Return where the newest rows of ids lie."""
        names = [name.encode() if isinstance(name, str) else name for name in ids]
        sums = checksums(names)
        source, row = np.full(len(names), -1), np.zeros(len(names), np.int64)
        for number in reversed(range(len(self.parts))):
            for found, rows in self.parts[number].ids.find(names, sums, np.flatnonzero(source < 0)):
                source[found], row[found] = number, rows
        return Places([part.rows for part in self.parts], source, row)


class PartStore(ABC, Generic[R]):
    """Rows by id, in a folder of memory-mapped parts.

    One process may write, any number may read, each seeing one state until `reopen`.

    Parameters
    ----------
    path : path
        The folder.
    mode : {"r", "w"}
        "w" makes the folder if there is none.
    small : int
        Parts up to this many rows are always merged.

    Raises
    ------
    LexLIPError
        The folder is missing (mode "r"), damaged, or open for writing elsewhere (mode "w").
    """

    FORMAT: ClassVar[str]

    def __init__(self, path: str | os.PathLike[str], mode: Literal["r", "w"], small: int) -> None:
        self.path, self._small = Path(path), small
        self._snapshot: Snapshot[R] | None = None
        self._sound = Sound()
        self._writer = GenerationWriter(self.path) if mode == "w" else None
        try:
            self._snapshot = open_current(self.path, self._load)
        except BaseException:
            self.close()
            raise

    @abstractmethod
    def _open(self, folder: Path, facts: Mapping[str, Any]) -> tuple[R, int]:
        """Open the rows of a part and count them; ValueError where files do not fit."""

    @abstractmethod
    def _save(self, folder: Path, places: Places[R]) -> None:
        """Write rows as a part; none is missing."""

    def _check(self, facts: Mapping[str, Any]) -> None:
        """Raise when this is not the store that was asked for."""

    def _load(self, generation: Generation) -> Snapshot[R]:
        facts = generation.data
        if generation.number > 1 and facts.get("format") != self.FORMAT:
            raise LexLIPError(
                f"{generation.folder} has format {facts.get('format')!r:.40}, this lexlip reads "
                f"{self.FORMAT!r}: build the index again"
            )
        self._check(facts)
        named, numbers = facts.get("parts", []), [facts.get(name, 0) for name in _NUMBERS]
        whole = all(type(number) is int and 0 <= number < 2**53 for number in numbers)
        if not (isinstance(named, list) and whole):
            raise LexLIPError(f"{generation.folder} is damaged (its parts): build the index anew")
        parts = []
        for name in generation.named(named):
            folder = generation.folder / name
            try:
                (rows, count), ids = self._open(folder, facts), Ids(folder)
                if count != len(ids):
                    raise ValueError("ids and rows differ in number")
            except (LexLIPError, OSError):
                raise
            except Exception as error:  # numpy does not list how a damaged header fails
                reason = " ".join(str(error).split())
                raise LexLIPError(f"{folder} is damaged ({reason}): build the index anew") from None
            parts.append(_Part(name, ids, rows))
        return Snapshot(generation, parts)

    def _current(self) -> Snapshot[R]:
        snapshot = self._snapshot
        if snapshot is None:
            raise closed(str(self.path))
        return snapshot

    def _writable(self) -> GenerationWriter:
        self._current()
        if self._writer is None:
            raise read_only(self.path)
        return self._writer

    def _write(self, names: Sequence[bytes], rows: R, facts: Mapping[str, Any]) -> None:
        """Store the rows of these names; of one that comes twice the last stays."""
        self._add({name: (0, row) for row, name in enumerate(names)}, [rows], facts)

    def copy(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Give rows that are here to other ids as well: (id that has one, id that gets it).

        Pairs whose first id is not here are passed over. Durable on return.
        """
        snapshot = self._current()
        olds, news = list(zip(*pairs, strict=True)) or ((), ())
        places = snapshot.find(olds)
        found = zip(news, places.source.tolist(), places.row.tolist(), strict=True)
        added = {new.encode(): (source, row) for new, source, row in found if source >= 0}
        if added:
            read = np.unique(places.source[places.source >= 0]).tolist()
            self._sound.check(snapshot.generation, [snapshot.parts[at].name for at in read])
            self._add(added, places.sources, snapshot.facts)

    def take(self, other: PartStore[R], ids: Sequence[str]) -> None:
        """Store the rows that another store of this kind has of some ids, bit for bit.

        Ids that it does not have are passed over. Durable on return.
        """
        theirs, names = other._current(), [name.encode() for name in ids]
        places = theirs.find(names)
        found = zip(names, places.source.tolist(), places.row.tolist(), strict=True)
        added = {name: (source, row) for name, source, row in found if source >= 0}
        if added:
            read = np.unique(places.source[places.source >= 0]).tolist()
            other._sound.check(theirs.generation, [theirs.parts[at].name for at in read])
            self._add(added, places.sources, {**theirs.facts, **self._current().facts})

    def _add(
        self,
        added: Mapping[bytes, tuple[int, int]],
        rows: Sequence[R],
        facts: Mapping[str, Any],
    ) -> None:
        """Store rows of some sources, (source, row) by name, and merge the small parts."""
        snapshot = self._current()
        kept: list[_Part[R]] = list(snapshot.parts)
        merged: list[_Part[R]] = []
        size = len(added)
        while kept and len(kept[-1].ids) <= max(size, self._small):
            merged.insert(0, kept.pop())
            size += len(merged[0].ids)
        fresh = int((snapshot.find(list(added)).source < 0).sum())
        self._publish(kept, merged, added, rows, (), {**facts, "rows": len(self) + fresh})

    def keep(self, there: Callable[[Sequence[str]], Sequence[object | None]]) -> None:
        """Merge everything, and drop the rows whose ids `there` answers with None."""
        snapshot = self._current()
        gone: set[bytes] = set()
        for part in snapshot.parts:
            for start in range(0, len(part.ids), 1024):
                some = part.ids.names.take(np.arange(start, min(start + 1024, len(part.ids))))
                answers = there([name.decode() for name in some])
                gone |= {name for name, it in zip(some, answers, strict=True) if it is None}
        if gone or len(snapshot.parts) > 1:
            facts = {**snapshot.facts, "rows": len(self) - len(gone)}
            self._publish([], snapshot.parts, {}, [], gone, facts)

    def _publish(
        self,
        kept: Sequence[_Part[R]],
        merged: Sequence[_Part[R]],
        added: Mapping[bytes, tuple[int, int]],
        rows: Sequence[R],
        gone: Iterable[bytes],
        facts: Mapping[str, Any],
    ) -> None:
        """Make a part of merged parts, then of added rows in their sources, without those gone."""
        writer = self._writable()
        self._current().generation.check_digests(part.name for part in merged)
        places: dict[bytes, tuple[int, int]] = {}
        for number, part in enumerate(merged):  # the newest of an id comes last
            places.update((name, (number, row)) for row, name in enumerate(part.ids.all()))
        places.update((name, (len(merged) + at, row)) for name, (at, row) in added.items())
        for name in gone:
            places.pop(name, None)
        parts = [part.name for part in kept]
        try:
            if places:
                folder = writer.new_part()
                names = sorted(places)
                table = np.array([places[name] for name in names], np.int64)
                Ids.write(folder, names)
                sources = [*(part.rows for part in merged), *rows]
                self._save(folder, Places(sources, table[:, 0], table[:, 1]))
                parts.append(folder.name)
            writer.publish(parts, {**facts, "format": self.FORMAT, "parts": parts})
        except OSError as error:
            reason = error.strerror or f"{error}: is the disk full?"
            raise LexLIPError(f"{self.path} keeps what it had, writing failed: {reason}") from None
        finally:
            writer.discard()
        self._snapshot = open_current(self.path, self._load)

    def __len__(self) -> int:
        """Return the number of ids."""
        return self._current().facts.get("rows", 0)

    def has(self, ids: Sequence[str]) -> bool:
        """Return whether there is a row of each of these ids."""
        return bool((self._current().find(ids).source >= 0).all())

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return self._current().generation.bytes

    def verify(self) -> list[str]:
        """Compare every file with its recorded SHA-256; one line for each that is damaged."""
        self._current()
        return verify(self.path, self._load)

    def reopen(self) -> bool:
        """Go on to the newest state; True when there is a newer one."""
        if self._current().generation.mark == current_mark(self.path):
            return False
        self._snapshot = open_current(self.path, self._load)
        return True

    def close(self) -> None:
        """Let go of the files. Closing twice is fine."""
        self._snapshot = None
        if self._writer is not None:
            self._writer.close()
            self._writer = None

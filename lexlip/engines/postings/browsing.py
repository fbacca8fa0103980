"""Browsing the postings engine: documents in the order of a column, and values with counts."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lexlip.engines.postings.parts import Part
from lexlip.engines.postings.snapshot import Snapshot
from lexlip.filters.columns import Kind, Value

if TYPE_CHECKING:
    from lexlip.filters.where import Where


_WALK = 1 << 16
"""Documents that a walk reads at a time; each time it reads all postings."""


class Browses:
    """The part of `PostingsEngine` that lists documents without a query."""

    @abstractmethod
    def _current(self) -> Snapshot: ...

    @abstractmethod
    def ids(self) -> list[str]:
        """Return the ids of all documents."""

    @abstractmethod
    def impacts(self, ids: Sequence[str]) -> csr_array:
        """Return all impacts of documents."""

    def walk(self) -> Iterator[tuple[list[str], csr_array]]:
        """Yield all documents by id, in chunks; see `Engine.walk`."""
        names = sorted(self.ids())
        for start in range(0, len(names), _WALK):
            some = names[start : start + _WALK]
            yield some, self.impacts(some)

    @property
    def kinds(self) -> Mapping[str, Kind]:
        """Columns and their kinds; see `Engine.kinds`."""
        return dict(self._current().kinds)

    def ordered(
        self, column: str | None, k: int, where: Where | None = None, descending: bool = True
    ) -> list[tuple[str, Value | None]]:
        """Return the first documents by a column; see `Engine.ordered`.

        Words of a part are numbered in their order, so that only those of the first documents of
        each part are read.
        """
        snapshot = self._current()
        masks = snapshot.masks(where)
        found: list[tuple[str, Value | None]] = []
        for part, mask in zip(snapshot.parts, masks, strict=True):
            every = np.arange(len(part.ids)) if mask is None else np.flatnonzero(mask)
            found += _first(part, column, every, k, snapshot.kinds, descending)
        found.sort(key=lambda pair: pair[0])
        if column is not None:
            found.sort(key=lambda pair: pair[1], reverse=descending)  # type: ignore[arg-type,return-value]
        return found[:k]

    def counts(self, column: str, most: int, where: Where | None = None) -> list[tuple[Value, int]]:
        """Return the most frequent values of a column; see `Engine.counts`."""
        total: Counter[Value] = Counter()
        for values, numbers in _counted(self._current(), column, where):
            total.update(dict(zip(values, numbers, strict=True)))
        return sorted(total.items(), key=lambda pair: (-pair[1], pair[0]))[:most]

    def matching(self, where: Where | None = None) -> int:
        """Return how many documents fulfil a filter; see `Engine.matching`."""
        snapshot = self._current()
        if where is None:
            return snapshot.living
        masks = snapshot.masks(where)
        return sum(int(mask.sum()) for mask in masks if mask is not None)


def _first(
    part: Part,
    column: str | None,
    rows: NDArray[np.int64],
    k: int,
    kinds: Mapping[str, Kind],
    descending: bool,
) -> Iterator[tuple[str, Value | None]]:
    """Yield the first k of some rows of a part; rows are in the order of ids."""
    if column is None:
        yield from ((name, None) for name in part.ids.texts(rows[:k]))
        return
    if column not in part.columns:
        return
    held = part.columns[column]
    rows = rows[held.present[rows]]
    keys = held.data[rows]
    if keys.dtype != np.float64:  # on disk they are as small as they can be
        keys = keys.astype(np.int64)
    if rows.size > k:  # all of a tie at the cut stay: the order by id comes later
        place = rows.size - k if descending else k - 1
        limit = np.partition(keys, place)[place]
        kept = keys >= limit if descending else keys <= limit
        rows, keys = rows[kept], keys[kept]
    order = np.lexsort((rows, -keys if descending else keys))[:k]
    chosen = rows[order]
    values = held.take(chosen).values()
    fractions = kinds.get(column) == "float"
    for name, value in zip(part.ids.texts(chosen), values, strict=True):
        yield name, float(value) if fractions and value is not None else value


def _counted(
    snapshot: Snapshot, column: str, where: Where | None
) -> Iterator[tuple[list[Value], list[int]]]:
    """Yield the different values of each part, and how many documents have each."""
    fractions = snapshot.kinds.get(column) == "float"
    for part, mask in zip(snapshot.parts, snapshot.masks(where), strict=True):
        if column not in part.columns:
            continue
        held = part.columns[column]
        there = np.asarray(held.present)
        if mask is not None:
            there = there & mask.view(np.bool_)
        rows = np.flatnonzero(there)
        data = np.asarray(held.data)[rows]
        _, first, numbers = np.unique(data, return_index=True, return_counts=True)
        values = held.take(rows[first]).values() if rows.size else []
        yield [float(v) if fractions else v for v in values if v is not None], numbers.tolist()

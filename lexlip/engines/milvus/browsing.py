"""The part of the engine that lists documents without a query.

Milvus neither sorts nor counts values, so that all documents which may fulfil a filter are read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from heapq import nlargest, nsmallest
from typing import Any

from scipy.sparse import csr_array

from lexlip.engines.milvus.documents import IMPACTS, NAME, TEXT
from lexlip.engines.milvus.reading import Reads
from lexlip.engines.rows import rows_of
from lexlip.filters.columns import Kind, Value
from lexlip.filters.where import Where

_WALK = 2000


class Browses(Reads):
    """Lists and counts of `MilvusEngine`."""

    def ids(self) -> list[str]:
        """Return the ids of all committed documents; see `Engine.ids`."""
        with self._held() as view:
            return [row[NAME] for page in view.all() for row in page]

    def walk(self) -> Iterator[tuple[list[str], csr_array]]:
        """Yield all documents by id, in chunks; see `Engine.walk`."""
        names = sorted(self.ids())
        for start in range(0, len(names), _WALK):
            some = names[start : start + _WALK]
            with self._held() as view:
                found = view.find(some, [IMPACTS])
                rows = rows_of([self._impacts(found[name]) for name in some])
            yield some, rows

    @property
    def kinds(self) -> Mapping[str, Kind]:
        """Columns and their kinds; see `Engine.kinds`."""
        return dict(self._current().kinds)

    def ordered(
        self, column: str | None, k: int, where: Where | None = None, descending: bool = True
    ) -> list[tuple[str, Value | None]]:
        """Return the first documents by a column; see `Engine.ordered`."""
        with self._held() as view:
            if column is None:
                names = (row[NAME] for page in view.all(where=where) for row in page)
                return [(name, None) for name in nsmallest(k, names)]
            if column not in view.kinds:
                return []
            pairs = sorted(self._values(column, where))
        # Both are stable: equal values stay in the order of ids.
        first = nlargest if descending else nsmallest
        return [(name, value) for name, value in first(k, pairs, key=_second)]

    def _values(self, column: str, where: Where | None) -> Iterator[tuple[str, Value]]:
        """Yield (id, value) of the documents that have one in a column."""
        with self._held() as view:
            for page in view.all([] if where else [TEXT], where):
                for row in page:
                    value = view.values(row).get(column)
                    if value is not None:
                        yield row[NAME], value

    def counts(self, column: str, most: int, where: Where | None = None) -> list[tuple[Value, int]]:
        """Return the most frequent values of a column; see `Engine.counts`."""
        if where is not None:
            where.check(self.kinds)
        if column not in self.kinds:
            return []
        counted = Counter(value for _, value in self._values(column, where))
        return nsmallest(most, counted.items(), key=lambda pair: (-pair[1], pair[0]))

    def matching(self, where: Where | None = None) -> int:
        """Return how many documents fulfil a filter; see `Engine.matching`."""
        with self._held() as view:
            if where is None:
                return view.state.documents
            return sum(map(len, view.all(where=where)))


def _second(pair: tuple[str, Value]) -> Any:
    return pair[1]

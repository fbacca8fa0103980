"""The part of the engine that lists documents without a query."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from heapq import nsmallest
from typing import Any

from scipy.sparse import csr_array

from lexlip.engines.opensearch.documents import IMPACTS, ROW, column_value, field_name
from lexlip.engines.opensearch.filters import every
from lexlip.engines.opensearch.reading import Reads
from lexlip.engines.opensearch.view import BY_ID
from lexlip.engines.rows import rows_of
from lexlip.filters.columns import Kind, Value
from lexlip.filters.where import Where

_WALK = 2000
_BUCKETS = 5000


class Browses(Reads):
    """Lists and counts of `OpenSearchEngine`."""

    def ids(self) -> list[str]:
        """Return the ids of all committed documents; see `Engine.ids`."""
        with self._held() as view:
            return [hit["sort"][0] for page in view.all() for hit in page]

    def walk(self) -> Iterator[tuple[list[str], csr_array]]:
        """Yield all documents by id, in chunks; see `Engine.walk`."""
        with self._held() as view:
            for page in view.all([IMPACTS], size=_WALK):
                rows = rows_of([self._impacts(hit) for hit in page])
                yield [hit["sort"][0] for hit in page], rows

    @property
    def kinds(self) -> Mapping[str, Kind]:
        """Columns and their kinds; see `Engine.kinds`."""
        return dict(self._current().state.columns)

    def ordered(
        self, column: str | None, k: int, where: Where | None = None, descending: bool = True
    ) -> list[tuple[str, Value | None]]:
        """Return the first documents by a column; see `Engine.ordered`."""
        with self._held() as view:
            if column is not None and column not in view.columns:
                return []
            clauses, sort = view.clauses(where), list[dict[str, Any]](BY_ID)
            if column is not None:
                field = field_name(*view.columns[column])
                clauses.append({"exists": {"field": field}})
                sort.insert(0, {field: "desc" if descending else "asc"})
            body = {
                "query": every(clauses),
                "sort": sort,
                "_source": [ROW] if column is not None else False,
                "track_total_hits": False,
            }
            most = max(1, min(k, view.state.documents))
            found = [hit for page in view.pages(body, most) for hit in page]
            return [
                (hit["sort"][-1], None if column is None else view.values(hit)[column])
                for hit in found
            ]

    def counts(self, column: str, most: int, where: Where | None = None) -> list[tuple[Value, int]]:
        """Return the most frequent values of a column; see `Engine.counts`.

        All values are counted: the first ones of each shard would not add up to the first of all.
        """
        with self._held() as view:
            clauses = view.clauses(where)
            if column not in view.columns:
                return []
            number, kind = view.columns[column]
            source = {"value": {"terms": {"field": field_name(number, kind)}}}
            counted: list[tuple[Value, int]] = []
            after: dict[str, Any] = {}
            while True:
                composite = {"size": _BUCKETS, "sources": [source], **after}
                body = {
                    "query": every(clauses),
                    "size": 0,
                    "track_total_hits": False,
                    "aggs": {"values": {"composite": composite}},
                }
                answer = view.ask(body)["aggregations"]["values"]
                for bucket in answer["buckets"]:
                    value = column_value(bucket["key"]["value"], kind)
                    counted.append((value, int(bucket["doc_count"])))
                if "after_key" not in answer or len(answer["buckets"]) < _BUCKETS:
                    break
                after = {"after": answer["after_key"]}
        return nsmallest(most, counted, key=lambda pair: (-pair[1], pair[0]))

    def matching(self, where: Where | None = None) -> int:
        """Return how many documents fulfil a filter; see `Engine.matching`."""
        with self._held() as view:
            return view.state.documents if where is None else view.count(view.clauses(where))

"""The part of the engine that searches, and reads single documents."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from lexlip.engines.base import Condition, Hit, check_conditions, check_query, check_terms
from lexlip.engines.opensearch.documents import ID, IMPACTS, ROW
from lexlip.engines.opensearch.errors import readable
from lexlip.engines.opensearch.filters import clauses_of, every, feature
from lexlip.engines.opensearch.paging import WHOLE, whole
from lexlip.engines.opensearch.place import Place
from lexlip.engines.opensearch.view import View
from lexlip.errors import LexLIPError
from lexlip.filters.columns import Value
from lexlip.filters.where import Where
from lexlip.impacts import MAX_QUERY_TERMS
from lexlip.storage.ids import check_ids

_BATCH = 128


class Reads:
    """Searches and single documents of `OpenSearchEngine`."""

    place: Place

    @abstractmethod
    def _current(self) -> View: ...

    @contextmanager
    def _held(self) -> Iterator[View]:
        """Yield the current view; errors of the cluster become one line."""
        view = self._current()
        with readable(self.place):
            yield view

    def search(
        self,
        terms: Mapping[int, int],
        k: int,
        where: Where | None = None,
        conditions: Sequence[Condition] = (),
        among: Sequence[str] | None = None,
    ) -> list[Hit]:
        """Return the best `k` hits, exactly; see `Engine.search`."""
        query, k = check_query(terms, k)
        conditions = check_conditions(conditions)
        ids = None if among is None else check_ids(among)
        with self._held() as view:
            clauses = view.clauses(where, conditions, ids)
            if not query or ids == [] or not view.state.documents:
                return []
            body = {
                **_query(query, clauses),
                "sort": [{"_score": "desc"}, {ID: "asc"}],
                "track_scores": True,
                "track_total_hits": False,
                "_source": False,
            }
            found = [
                Hit(hit["sort"][1], int(hit["_score"]))
                for page in view.pages(body, min(k, view.state.documents))
                for hit in page
            ]
        found.sort(key=lambda hit: (-hit.score, hit.id))
        return found[:k]

    def contributions(self, id: str, terms: Iterable[int]) -> dict[int, int]:
        """Return the impacts that a committed document has; see `Engine.contributions`."""
        (name,) = check_ids([id])
        query, _ = check_query(dict.fromkeys(terms, 1), 1)
        impacts = self._impacts([name])[name]
        return {term: impacts[str(term)] for term in query if str(term) in impacts}

    def fetch(self, ids: Sequence[str]) -> list[dict[str, Value] | None]:
        """Return the metadata of committed documents; see `Engine.fetch`."""
        names = check_ids(ids)
        with self._held() as view:
            found = view.find(names, [ROW])
            return [view.values(found[name]) if name in found else None for name in names]

    def impacts(self, ids: Sequence[str]) -> csr_array:
        """Return all impacts of committed documents; see `Engine.impacts`."""
        names = check_ids(ids)
        found = self._impacts(names)
        return rows_of([found[name] for name in names])

    def _impacts(self, names: Sequence[str]) -> dict[str, dict[str, int]]:
        with self._held() as view:
            found = view.find(names, [IMPACTS])
        for name in names:
            if name not in found:
                raise LexLIPError(f"no document {name!r} in {self.place}: is it committed?")
        return {name: hit["_source"].get(IMPACTS, {}) for name, hit in found.items()}

    def frequencies(self, terms: Iterable[int]) -> dict[int, int]:
        """Return {term: how many documents have it}; see `Engine.frequencies`."""
        numbers = check_terms(terms)
        with self._held() as view:
            counted = {term: view.counted[term] for term in numbers if term in view.counted}
            new = [term for term in numbers if term not in counted]
            for start in range(0, len(new), _BATCH):
                view.check()
                some = new[start : start + _BATCH]
                lines: list[dict[str, Any]] = []
                for term in some:
                    clauses = every([*view.clauses(), feature(term)])
                    lines += [dict(WHOLE), {"query": clauses, "size": 0, "track_total_hits": True}]
                answers = view.client.msearch(index=self.place.name, body=lines)["responses"]
                for term, answer in zip(some, answers, strict=True):
                    counted[term] = int(whole(answer, self.place)["hits"]["total"]["value"])
            view.counted.update(counted)
        return {term: counted[term] for term in numbers}


def _query(terms: Mapping[int, int], clauses: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the parts of a search that choose documents and score them.

    OpenSearch allows 1,024 clauses, those of filters among them. A filter that is applied
    afterwards has 1,024 of its own.
    """
    scores = [feature(term, weight) for term, weight in terms.items()]
    wanted: dict[str, Any] = {"should": scores, "minimum_should_match": 1}
    if len(scores) + clauses_of(clauses) > MAX_QUERY_TERMS:
        return {"query": {"bool": wanted}, "post_filter": every(clauses)}
    return {"query": {"bool": {**wanted, "filter": clauses}}}


def rows_of(documents: Sequence[Mapping[str, int]]) -> csr_array:
    """Return {term: impact} of N documents as rows, int32 [N, V].

    Examples
    --------
    >>> rows_of([{"2": 9}, {}, {"0": 1}]).toarray().tolist()
    [[0, 0, 9], [0, 0, 0], [1, 0, 0]]
    """
    ends = np.cumsum([0, *map(len, documents)])
    terms = np.array([int(term) for row in documents for term in row], np.int32)
    values = np.array([impact for row in documents for impact in row.values()], np.int32)
    shape = (len(documents), int(terms.max(initial=-1)) + 1)
    rows = csr_array((values, terms, ends), shape=shape)
    rows.sort_indices()
    return rows

"""The part of the engine that searches, and reads single documents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from lexlip.engines.base import Condition, Hit, check_conditions, check_query, check_terms
from lexlip.engines.elsewhere import Elsewhere
from lexlip.engines.opensearch.documents import ID, IMPACTS, ROW
from lexlip.engines.opensearch.errors import readable
from lexlip.engines.opensearch.filters import clauses_of, every, feature
from lexlip.engines.opensearch.paging import WHOLE, whole
from lexlip.engines.opensearch.place import Place
from lexlip.engines.opensearch.view import View
from lexlip.engines.opensearch.writing import Writer
from lexlip.filters.where import Where
from lexlip.impacts import MAX_QUERY_TERMS
from lexlip.storage.ids import check_ids

_BATCH = 128


class Reads(Elsewhere[View, Writer]):
    """Searches and single documents of `OpenSearchEngine`."""

    METADATA, IMPACTS = ROW, IMPACTS

    @staticmethod
    def _readable(place: Place) -> AbstractContextManager[None]:
        return readable(place)

    def _impacts(self, found: dict[str, Any]) -> dict[int, int]:
        return {int(term): impact for term, impact in found["_source"].get(IMPACTS, {}).items()}

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

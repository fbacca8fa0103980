"""The part of the engine that searches, and reads single documents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager

from lexlip.engines.base import Condition, Hit, check_conditions, check_query, check_terms
from lexlip.engines.elsewhere import Elsewhere
from lexlip.engines.milvus.documents import (
    CAP,
    IMPACTS,
    NAME,
    NO_TERM,
    ROW,
    SUM,
    TAGS,
    TEXT,
    impacts_of,
    in_list,
    number_of,
)
from lexlip.engines.milvus.errors import readable
from lexlip.engines.milvus.place import Place, patience
from lexlip.engines.milvus.view import Found, View, Wish
from lexlip.engines.milvus.writing import Writer
from lexlip.filters.where import Where
from lexlip.storage.ids import check_ids

_IDS = 2000
"""Ids of one search."""

_MORE = 32
_GROWTH = 8


class Reads(Elsewhere[View, Writer]):
    """Searches and single documents of `MilvusEngine`."""

    METADATA, IMPACTS = TEXT, IMPACTS

    @staticmethod
    def _readable(place: Place) -> AbstractContextManager[None]:
        return readable(place)

    def _impacts(self, found: Found) -> dict[int, int]:
        return impacts_of(found[IMPACTS])

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
        ids = None if among is None else list(dict.fromkeys(check_ids(among)))
        with self._held() as view:
            view.check()
            wish = Wish(view, where, conditions)
            query = {term: weight for term, weight in query.items() if term < NO_TERM}
            if not query or not view.state.documents:
                return []
            whole = f"{ROW} >= 0 and {ROW} < {view.state.rows}"
            if ids is None:
                hits = _best(view, wish, query, k, whole)
            else:
                hits = []
                for start in range(0, len(ids), _IDS):
                    some = ids[start : start + _IDS]
                    sums = in_list(SUM, list(map(number_of, some)))
                    hits += _best(view, wish, query, k, f"{whole} and {sums}", set(some))
            view.check()
        hits.sort(key=lambda hit: (-hit.score, hit.id))
        return hits[:k]

    def frequencies(self, terms: Iterable[int]) -> dict[int, int]:
        """Return {term: how many documents have it}; see `Engine.frequencies`."""
        numbers = check_terms(terms)
        with self._held() as view:
            view.check()
            whole = f"{ROW} >= 0 and {ROW} < {view.state.rows}"
            for term in numbers:
                if term < NO_TERM and term not in view.counted:
                    has = f"{whole} and array_contains({TAGS}, {term})"
                    view.counted[term] = _count(view, has)
            return {term: view.counted.get(term, 0) for term in numbers}


def _count(view: View, expression: str) -> int:
    answer = view.client.query(
        view.place.name,
        filter=expression,
        output_fields=["count(*)"],
        timeout=patience(view.place),
    )
    return int(answer[0]["count(*)"])


def _best(
    view: View,
    wish: Wish,
    query: Mapping[int, int],
    k: int,
    expression: str,
    names: set[str] | None = None,
) -> list[Hit]:
    """Return the best k hits at least, in no order.

    A server breaks ties as it likes, and gives dead documents too. So more than k are asked for,
    until k that are wanted lie above the last score of the answer, or until there are no more.
    What does not fit into an answer is asked for in bands.
    """

    def wanted(found: list[Found]) -> list[Hit]:
        rows = wish.granted(found)
        return [Hit(row[NAME], row["score"]) for row in rows if names is None or row[NAME] in names]

    rows = view.state.rows
    most = min(CAP, k + _MORE + (k if wish.looks else 0))
    while k < CAP:
        found = view.nearest(query, most, wish.within(expression), wish.fields)
        hits = wanted(found)
        if len(found) < most:
            return hits
        last = min(row["score"] for row in found)
        sure = [hit for hit in hits if hit.score > last]
        if len(sure) >= k:
            return sure
        if most == CAP:
            break
        most = min(CAP, most * _GROWTH)
    hits = []
    for band in view.bands():
        narrow = wish.within(f"{expression} and {band}")
        hits += wanted(view.nearest(query, min(CAP, rows), narrow, wish.fields))
    return hits

"""Searches for words of either sign, exactly, on any engine.

An engine adds up weights above 0 only. Words of negative weight, and a penalty for words that are
missing, can but lower a score; so the hits for the positive words are walked from the best down,
corrected, and the walk ends where no later document can come among the best k.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING

from lexlip.engines.base import Condition, Engine, Hit, check_query

if TYPE_CHECKING:
    from lexlip.engines.candidates import Candidates
    from lexlip.filters.where import Where

_MORE = 4
"""A walk starts with 2k + 4 documents; then each round asks for four times as many."""


def search(
    engine: Engine,
    terms: Mapping[int, int],
    k: int,
    where: Where | None = None,
    conditions: Sequence[Condition] = (),
    penalty: int = 0,
) -> list[Hit]:
    """Return the best `k` hits for words of either sign, exactly.

    Parameters
    ----------
    engine : Engine
    terms : mapping
        {term id: weight}, whole numbers 1..64 of either sign.
    k : int
    where : Where, optional
        Metadata filter.
    conditions : sequence of Condition
        Requirements that every hit fulfils.
    penalty : int
        A term of positive weight that a document lacks counts as an impact of minus this number.

    Returns
    -------
    list of Hit
        Documents that share a term of positive weight and fulfil all conditions, by score
        descending, then by id. The score adds up all terms, so it may be 0 or less.

    Raises
    ------
    LexLIPError
        As `lexlip.engines.base.Engine.search`.
    """
    negative = {t: -w for t, w in terms.items() if isinstance(w, Real) and w < 0}
    positive = {t: w for t, w in terms.items() if t not in negative}
    check_query(negative, k)

    def find(size: int) -> list[Hit]:
        return engine.search(positive, size, where, conditions)

    if not positive or not (negative or penalty):
        return find(k)

    def loss(ids: Sequence[str]) -> dict[str, float]:
        lost: dict[str, float] = dict.fromkeys(ids, 0)
        for hit in engine.search(negative, len(ids), among=ids) if negative else ():
            lost[hit.id] += hit.score
        for term, weight in positive.items() if penalty else ():
            there = {hit.id for hit in engine.search({term: 1}, len(ids), among=ids)}
            for name in ids:
                lost[name] += 0 if name in there else penalty * weight
        return lost

    return walk(find, loss, k)


def candidates(
    engine: Engine,
    terms: Mapping[int, int],
    k: int,
    where: Where | None = None,
    conditions: Sequence[Condition] = (),
    penalty: int = 0,
) -> Candidates:
    """Return what `search` returns as arrays, for a second phase."""
    if penalty or any(isinstance(w, Real) and w < 0 for w in terms.values()):
        return engine.locate(search(engine, terms, k, where, conditions, penalty))
    return engine.candidates(terms, k, where, conditions)


def walk(
    find: Callable[[int], list[Hit]], loss: Callable[[Sequence[str]], Mapping[str, float]], k: int
) -> list[Hit]:
    """Return the best `k` by score minus loss, looking at as few documents as that takes.

    Parameters
    ----------
    find
        Size -> the best documents, as many as that, by score, then by id.
    loss
        Ids -> what each one loses, 0 or more.
    k
        1 or more.
    """
    final: dict[str, Hit] = {}
    size = 2 * k + _MORE
    while True:
        hits = find(size)
        new = [hit for hit in hits if hit.id not in final]
        lost = loss([hit.id for hit in new]) if new else {}
        final.update((hit.id, Hit(hit.id, hit.score - lost[hit.id])) for hit in new)
        best = sorted(final.values(), key=_place)[:k]
        # A document not seen yet comes after the last hit, before anything is subtracted from it.
        if len(hits) < size or _place(best[-1]) <= _place(hits[-1]):
            return best
        size *= _MORE


def _place(hit: Hit) -> tuple[float, str]:
    return -hit.score, hit.id

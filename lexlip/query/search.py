"""Searches for words of either sign, exactly, on any engine.

An engine adds up weights above 0 only. Words of negative weight, and a penalty for words that are
missing, can but lower a score; so the hits for the positive words are walked from the best down,
corrected, and the walk ends where no later document can come among the best k.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING

from lexlip.engines.base import Condition, Engine, Hit, check_query

if TYPE_CHECKING:
    from lexlip.filters.where import Where

_MORE = 4
"""A walk asks for twice k documents and so many first; then so many times as many, and so on."""


@dataclass(frozen=True)
class Asked:
    """A query as an engine can answer it.

    Attributes
    ----------
    terms : mapping
        {term id: weight}, whole numbers 1..64 of either sign.
    exact : mapping
        The weights before they were quantised and cut, of any length.
    conditions : tuple of Condition
        What every hit fulfils.
    penalty : int
        A term of positive weight that a document lacks counts as an impact of minus so much.
    """

    terms: Mapping[int, int]
    exact: Mapping[int, float] = field(default_factory=dict)
    conditions: tuple[Condition, ...] = ()
    penalty: int = 0

    def search(self, engine: Engine, k: int, where: Where | None = None) -> list[Hit]:
        """Return the best `k` hits, exactly.

        Returns
        -------
        list of Hit
            Documents that share a term of positive weight and fulfil all conditions, by score
            descending, then by id. The score adds up all terms, so it may be 0 or less.

        Raises
        ------
        LexLIPError
            As `lexlip.engines.base.Engine.search`.

        Examples
        --------
        >>> from scipy.sparse import csr_array
        >>> from lexlip.engines import PostingsEngine
        >>> engine = PostingsEngine()
        >>> engine.add(["a.jpg", "b.jpg"], csr_array([[200, 100], [150, 0]]))
        >>> engine.commit()
        >>> Asked({0: 2, 1: -3}).search(engine, k=5)
        [Hit(id='b.jpg', score=300), Hit(id='a.jpg', score=100)]
        >>> engine.close()
        """
        negative = {t: -w for t, w in self.terms.items() if isinstance(w, Real) and w < 0}
        positive = {t: w for t, w in self.terms.items() if t not in negative}
        check_query(negative, k)

        def find(size: int) -> list[Hit]:
            return engine.search(positive, size, where, self.conditions)

        if not positive or not (negative or self.penalty):
            return find(k)

        def loss(ids: Sequence[str]) -> dict[str, float]:
            lost: dict[str, float] = dict.fromkeys(ids, 0)
            for hit in engine.search(negative, len(ids), among=ids) if negative else ():
                lost[hit.id] += hit.score
            for term, weight in positive.items() if self.penalty else ():
                there = {hit.id for hit in engine.search({term: 1}, len(ids), among=ids)}
                for name in ids:
                    lost[name] += 0 if name in there else self.penalty * weight
            return lost

        return walk(find, loss, k)


def walk(
    find: Callable[[int], list[Hit]], loss: Callable[[Sequence[str]], Mapping[str, float]], k: int
) -> list[Hit]:
    """Return the best `k` by score minus loss, looking at as few documents as that takes.

    Parameters
    ----------
    find
        Size -> the best so many by score, then by id.
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

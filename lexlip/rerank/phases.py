"""The second phase: what the words found, ordered by dense vectors or by all words.

For a speaker with vectors (`lexlip.models.speaker.HasVectors`) a few positive words find, which is
what an inverted index is fast at. The vectors then order the best `DEPTH` of them, in one pass over
arrays; where none are kept, all words of the query do, those of either sign. Filters and conditions
act on what is found.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lexlip.errors import LexLIPError
from lexlip.impacts import MAX_IMPACT, MAX_QUERY_TERMS, MAX_QUERY_WEIGHT
from lexlip.models.speaker import CONSTANT_UNIT, constant_term
from lexlip.storage.vectors import Compared, compare

if TYPE_CHECKING:
    from lexlip.engines.base import Engine
    from lexlip.engines.candidates import Candidates
    from lexlip.query.prepared import PreparedQuery
    from lexlip.storage.vectors import VectorStore

DEPTH = 400
"""Candidates that are ordered. With `lexlip.models.speaker.FIND_TERMS` words, exact search's first
ten are among the best 400 of 98,304 texts at 99 %, and among the best 100 at 96 %."""

KEPT_CONSTANT = CONSTANT_UNIT * MAX_IMPACT
"""Impact of a constant of 1."""

VECTORS, TERMS, WORDS = "vectors", "terms", "none"
PHASES = (VECTORS, TERMS, WORDS)
"""What can order hits, besides rerankers: vectors, all terms, or the words that found them."""


class OrderedHit(NamedTuple):
    """A document that words found, and that a second phase ordered.

    Attributes
    ----------
    id : str
    score : float
        Of the second phase: the cosine of query and document minus the document's constant, or the
        whole number that all terms add up to. Hits are ordered by it.
    words : int
        Score of the first phase, the one that `Index.explain` takes apart.
    fit : float or None
        How far the cosine stands out, on a scale that means the same for every query: the mean of
        two z-scores, among the query's cosines with pictures and among the document's with words.
        None where that is not known.
    """

    id: str
    score: float
    words: int
    fit: float | None


def compared(found: Candidates, query: PreparedQuery, store: VectorStore | None) -> Compared:
    """Compare a query's vector with those of candidates.

    Parameters
    ----------
    found : Candidates
    query : PreparedQuery
        With a vector.
    store : VectorStore, optional
        Where an engine without vectors has them.

    Raises
    ------
    LexLIPError
        When the query has no vector, or one of another width.
    """
    if query.vector is None:
        raise LexLIPError(
            "this query has no vector to order hits by: ask with a text, a picture or a Query"
        )
    spans = found.spans if store is None else store.spans(found.names())
    return compare(spans or (), len(found), query.vector)


def fits(found: Compared, query: PreparedQuery) -> NDArray[np.float64]:
    """Return how far each cosine stands out, float64 [n]; NaN where that is not known."""
    unknown = np.full(len(found.cosine), np.nan)
    if query.picture_scores is None:
        return unknown
    mean, spread = query.picture_scores
    known = found.held & (found.word_spread > 0)
    if spread > 0:
        cosine = found.cosine[known].astype(np.float64)
        among_words = (cosine - found.word_mean[known]) / found.word_spread[known]
        unknown[known] = ((cosine - mean) / spread + among_words) / 2
    return unknown


def order_by_vectors(
    found: Candidates,
    query: PreparedQuery,
    k: int,
    store: VectorStore | None = None,
    depth: int | None = None,
    min_fit: float | None = None,
) -> list[OrderedHit]:
    """Order candidates by the query's vector, and return the best k.

    A document whose vector is missing comes last.

    Parameters
    ----------
    found, query, store
        As for `compared`.
    k : int
    depth : int, optional
        Group size: the best `depth` by words are ordered, then the next `depth`. By default one
        group.
    min_fit : float, optional
        Leave out documents whose fit is less, or not known.
    """
    near = compared(found, query, store)
    scores = near.cosine - near.constant
    scores[~near.held] = scores[near.held].min(initial=0) - 1
    fit = fits(near, query)
    places, names = _best(found, scores, len(found) if min_fit is not None else k, depth)
    if min_fit is not None:
        good = np.flatnonzero(fit[places] >= min_fit)[:k]
        places, names = places[good], [names[number] for number in good.tolist()]
    rows = zip(
        names, scores[places].tolist(), found.scores[places].tolist(), fit[places].tolist(),
        strict=True,
    )  # fmt: skip
    return [OrderedHit(*row[:3], None if row[3] != row[3] else row[3]) for row in rows]


def _best(
    found: Candidates, scores: NDArray, k: int, depth: int | None
) -> tuple[NDArray[np.int64], list[str]]:
    """Return places and ids of the best k, of each group of `depth` by words after the other."""
    if depth is None or len(found) <= depth:
        return found.best(scores, k)
    places, names = found.best(found.scores, len(found))
    rank = np.arange(places.size) // depth
    rows = zip(rank.tolist(), (-scores[places]).tolist(), names, places.tolist(), strict=True)
    order = sorted(rows)[:k]
    return np.array([row[3] for row in order], np.int64), [row[2] for row in order]


def whole_terms(exact: Mapping[int, float]) -> dict[int, int]:
    """Return all terms as whole weights -64..64, at most 1,024 of either sign, the largest.

    Examples
    --------
    >>> whole_terms({3: 0.5, 1: -0.25, 2: 0.001})
    {1: -32, 3: 64}
    """
    ids = np.fromiter(exact, np.int64, len(exact))
    weights = np.fromiter(exact.values(), np.float64, len(exact))
    peak = np.abs(weights).max(initial=0)
    whole = np.rint(weights / (peak or 1) * MAX_QUERY_WEIGHT).astype(np.int64)
    kept = []
    for sign in (1, -1):
        own = np.flatnonzero(sign * whole > 0)
        largest = np.lexsort((ids[own], -sign * weights[own]))[:MAX_QUERY_TERMS]
        kept.append(own[largest])
    chosen = np.concatenate(kept)
    chosen = chosen[np.argsort(ids[chosen])]
    return dict(zip(ids[chosen].tolist(), whole[chosen].tolist(), strict=True))


class Constant(NamedTuple):
    """The constant of each document, as an engine keeps it.

    Attributes
    ----------
    term : int
        The term id that has it as its impact.
    factor : float
        What an impact of 1 takes off a score by all terms.
    """

    term: int
    factor: float


def constant_of(query: PreparedQuery, size: int | None, scale: float) -> Constant | None:
    """Return how documents' constants count for a query; None in an index without them.

    Parameters
    ----------
    query : PreparedQuery
    size : int, optional
        Words in the vocabulary, where an index has words that are said.
    scale : float
        Impacts per unit of weight.
    """
    if size is None:
        return None
    peak = max(map(abs, query.exact.values()), default=1.0) or 1.0
    return Constant(constant_term(size), MAX_QUERY_WEIGHT / peak * scale / KEPT_CONSTANT)


def order_by_terms(
    found: Candidates,
    query: PreparedQuery,
    k: int,
    engine: Engine,
    constant: Constant | None = None,
    depth: int | None = None,
) -> list[OrderedHit]:
    """Order candidates by all terms of a query, of either sign, exactly; return the best k.

    Each document's constant is subtracted, rounded to a whole number.

    Parameters
    ----------
    found, query, k, depth
        As for `order_by_vectors`.
    engine : Engine
        What found them, asked for their impacts.
    constant : Constant, optional
        Of `constant_of`.
    """
    names = found.names()
    place = {name: number for number, name in enumerate(names)}
    scores = np.zeros(len(names), np.int64)
    terms = whole_terms(query.exact)
    for sign in (1, -1):
        asked = {term: sign * weight for term, weight in terms.items() if sign * weight > 0}
        for hit in engine.search(asked, len(names), among=names) if asked and names else ():
            scores[place[hit.id]] += sign * int(hit.score)
    if constant is not None and names:
        for hit in engine.search({constant.term: 1}, len(names), among=names):
            scores[place[hit.id]] -= round(hit.score * constant.factor)
    places, best = _best(found, scores, k, depth)
    rows = zip(best, scores[places].tolist(), found.scores[places].tolist(), strict=True)
    return [OrderedHit(*row, None) for row in rows]

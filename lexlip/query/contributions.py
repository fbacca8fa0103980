"""Contributions: the words that a document shares with a query, and the score of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from lexlip.engines.base import Engine
from lexlip.impacts import MAX_QUERY_TERMS
from lexlip.lexicon import Lexicon
from lexlip.models.speaker import said_term


class Contribution(NamedTuple):
    """One word of an explanation; the products of all words add up to the score."""

    word: str
    query: int  # 1..64, of either sign
    impact: int  # 1..255; -penalty for a missing word

    @property
    def score(self) -> int:
        """Share of the score: query weight times impact."""
        return self.query * self.impact


def contributions(
    engine: Engine, id: str, terms: Mapping[int, int], tokens: Sequence[str], penalty: int = 0
) -> list[Contribution]:
    """Return the words that document `id` shares with {term id: weight}, heaviest first.

    Parameters
    ----------
    engine : Engine
    id : str
    terms : mapping
        The terms of the query.
    tokens : sequence of str
        The vocabulary, in id order.
    penalty : int
        A term of positive weight that the document lacks counts as an impact of minus so much.

    Raises
    ------
    LexLIPError
        When there is no such document.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> from lexlip.engines import PostingsEngine
    >>> engine = PostingsEngine()
    >>> engine.add(["a.jpg"], csr_array([[0, 200, 100]]))
    >>> engine.commit()
    >>> contributions(engine, "a.jpg", {0: 64, 1: 10, 2: 30}, ["cat", "dog", "red"])
    [Contribution(word='red', query=30, impact=100), Contribution(word='dog', query=10, impact=200)]
    >>> engine.close()
    """
    (shared,) = held_by(engine, [id], terms)
    return _words(shared, terms, tokens, penalty)


def all_contributions(
    engine: Engine,
    ids: Sequence[str],
    terms: Mapping[int, int],
    lexicon: Lexicon,
    penalty: int = 0,
    said: bool = False,
) -> list[list[Contribution]]:
    """Return the words that each of several documents shares with a query.

    Parameters
    ----------
    engine, terms, penalty
        As of `contributions`.
    ids : sequence of str
    lexicon : Lexicon
    said : bool
        Put the words that are said of a document before those that only find it.

    Raises
    ------
    LexLIPError
        When one of the documents is missing.
    """
    places = {said_term(lexicon, term): lexicon.tokens[term] for term in terms} if said else {}
    found = []
    for held in held_by(engine, ids, [*terms, *places]):
        shared = {term: impact for term, impact in held.items() if term in terms}
        words = _words(shared, terms, lexicon.tokens, penalty)
        true = {places[term] for term in held if term in places}
        first = [one for one in words if one.word in true]
        found.append(first + [one for one in words if one.word not in true])
    return found


_FEW = 5000
"""Documents of an index up to which one pass over all postings beats a look at each of several
documents: ten of 1,000 with 128 terms took 2 ms and 21."""


def held_by(engine: Engine, ids: Sequence[str], terms: Iterable[int]) -> list[dict[int, int]]:
    """Return {term: impact} of those of `terms` that each document has, in their order.

    Raises
    ------
    LexLIPError
        When one of the documents is missing.
    """
    asked = list(terms)
    if len(ids) < 2 or len(engine) > _FEW:
        starts = range(0, max(1, len(asked)), MAX_QUERY_TERMS)
        parts = [asked[start : start + MAX_QUERY_TERMS] for start in starts]
        return [{t: v for part in parts for t, v in engine.contributions(id, part).items()}
                for id in ids]  # fmt: skip
    rows = engine.impacts(ids)
    known = [term for term in asked if term < rows.shape[1]]
    table = rows[:, known].toarray().tolist() if known else [[] for _ in ids]
    return [{t: impact for t, impact in zip(known, row, strict=True) if impact} for row in table]


def _words(
    shared: Mapping[int, int], terms: Mapping[int, int], tokens: Sequence[str], penalty: int
) -> list[Contribution]:
    held = dict(shared)
    if penalty:
        missing = (term for term, weight in terms.items() if weight > 0 and term not in held)
        held |= dict.fromkeys(missing, -penalty)
    found = [Contribution(tokens[term], terms[term], impact) for term, impact in held.items()]
    return sorted(found, key=lambda c: (-c.score, c.word))

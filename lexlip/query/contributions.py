"""Contributions: the words that a document shares with a query, and the score of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lexlip.engines.base import Engine
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
    shared = engine.contributions(id, terms)
    if penalty:
        missing = (term for term, weight in terms.items() if weight > 0 and term not in shared)
        shared |= dict.fromkeys(missing, -penalty)
    found = [Contribution(tokens[term], terms[term], impact) for term, impact in shared.items()]
    return sorted(found, key=lambda c: (-c.score, c.word))


def said_first(
    found: list[Contribution], engine: Engine, id: str, lexicon: Lexicon
) -> list[Contribution]:
    """Put the words that are said of a document before those that only find it.

    Parameters
    ----------
    found : list of Contribution
        Of `contributions`.
    engine : Engine
    id : str
    lexicon : Lexicon
    """
    places = {said_term(lexicon, lexicon.numbers[one.word]): one.word for one in found}
    said = {places[term] for term in engine.contributions(id, places)}
    return sorted(found, key=lambda one: one.word not in said)

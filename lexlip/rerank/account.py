"""Account of the second phase: which words, and what beyond words, make up a document's score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lexlip.engines.base import Hit
from lexlip.errors import LexLIPError
from lexlip.impacts import MAX_QUERY_TERMS
from lexlip.rerank.phases import TERMS, VECTORS, compared, constant_of, fits, whole_terms

if TYPE_CHECKING:
    from lexlip.engines.base import Engine
    from lexlip.query.prepared import PreparedQuery
    from lexlip.storage.vectors import VectorStore


class Share(NamedTuple):
    """A word's part in a score of the second phase.

    Attributes
    ----------
    word : str
    query : float
        Projection of the query on the word, of either sign; a whole weight where all terms order.
    weight : float
        Of the word in the document: its impact over the scale, or the impact itself.
    """

    word: str
    query: float
    weight: float

    @property
    def score(self) -> float:
        """What the word adds."""
        return self.query * self.weight


@dataclass(frozen=True)
class Account:
    """How a document's place in a list of hits comes about.

    Attributes
    ----------
    ordered_by : str
        "vectors", "terms", "none" (the words that found it), or the name of a reranker.
    score : float, optional
        Of the second phase, for vectors and terms: the sum of all that follows.
    words : list of Share
        Largest first, of either sign.
    beyond : float
        What query and document share beyond words: the rest of their cosine.
    constant : float
        Minus how much queries in general like the document.
    fit : float, optional
        As in `lexlip.rerank.phases.OrderedHit`.
    """

    ordered_by: str
    score: float | None = None
    words: list[Share] = field(default_factory=list)
    beyond: float = 0.0
    constant: float = 0.0
    fit: float | None = None

    def as_dict(self) -> dict[str, Any] | None:
        """Return the account as JSON types; None where no second phase can be taken apart."""
        if self.score is None:
            return None
        return {
            "score": self.score,
            "words": [{**share._asdict(), "score": share.score} for share in self.words],
            "beyond_words": self.beyond,
            "constant": self.constant,
            "fit": self.fit,
        }


def account(
    by: str,
    engine: Engine,
    store: VectorStore | None,
    id: str,
    query: PreparedQuery,
    scale: float,
    tokens: Sequence[str],
    said: int | None = None,
) -> Account:
    """Take the second phase's score of a document apart.

    Parameters
    ----------
    by : str
        What orders: of `Index.ordered_by`.
    engine : Engine
    store : VectorStore, optional
        Vectors by id, of an engine that keeps none.
    id : str
    query : PreparedQuery
    scale : float
        Impacts per unit of weight.
    tokens : sequence of str
        The vocabulary, in id order.
    said : int, optional
        Words in the vocabulary, where the index has words that are said.

    Raises
    ------
    LexLIPError
        When there is no such document, or it has no vector.
    """
    if by == TERMS:
        terms = whole_terms(query.exact)
        held = _held(engine, id, terms)
        shares = _largest([Share(tokens[t], terms[t], held[t]) for t in held])
        kept, off = constant_of(query, said, scale), 0
        if kept is not None:
            liked = engine.contributions(id, [kept.term]).get(kept.term, 0)
            off = -round(liked * kept.factor)
        return Account(by, sum(share.score for share in shares) + off, shares, constant=off)
    if by != VECTORS:
        return Account(by)
    held = _held(engine, id, query.exact)
    shares = _largest([Share(tokens[t], query.exact[t], held[t] / scale) for t in held])
    near = compared(engine.locate([Hit(id, 0)]), query, store)
    if not near.held.all():
        raise LexLIPError(f"{id!r} has no vector: index it again")
    cosine, constant = float(near.cosine[0]), float(near.constant[0])
    fit = float(fits(near, query)[0])
    return Account(
        by,
        float(np.float32(cosine) - np.float32(constant)),
        shares,
        cosine - sum(share.score for share in shares),
        -constant,
        None if np.isnan(fit) else fit,
    )


def _held(engine: Engine, id: str, terms: Mapping[int, Any]) -> dict[int, int]:
    """Return {term: impact} of a document, for any number of terms."""
    asked, held = list(terms), engine.contributions(id, [])
    for start in range(0, len(asked), MAX_QUERY_TERMS):
        held |= engine.contributions(id, asked[start : start + MAX_QUERY_TERMS])
    return held


def _largest(shares: list[Share]) -> list[Share]:
    return sorted(shares, key=lambda share: (-share.score, share.word))

"""Prepared queries: encoded once, then searched, reranked and explained with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lexlip.engines.base import Condition, Engine, Hit
from lexlip.errors import LexLIPError
from lexlip.query.contributions import Contribution, contributions
from lexlip.query.search import candidates, search
from lexlip.query.terms import QueryViews, views_of
from lexlip.query.tree import Part

if TYPE_CHECKING:
    from lexlip.engines.candidates import Candidates
    from lexlip.filters.where import Where
    from lexlip.models.speaker import Speaker
    from lexlip.query.query import Query


@dataclass(frozen=True, eq=False)
class PreparedQuery:
    """A query that an engine can answer, made by `Index.prepare` or `Query.prepare`.

    Attributes
    ----------
    terms : mapping
        {term id: weight}, whole numbers 1..64 of either sign.
    exact : mapping
        The weights before they were quantised and cut, of any length.
    conditions : tuple of Condition
        Requirements that every hit fulfils.
    penalty : int
        A term of positive weight that a document lacks counts as an impact of minus this number.
    query : Query, optional
        The query as it was asked; None for ``{term id: weight}``.
    speaker : model, optional
        The model that encoded it.
    seen : sequence of (float, Views), optional
        Views of the query's texts and pictures, where they were encoded with the words.
    vector : float32 [d], optional
        Unit vector of the query, for a speaker with vectors; zeros where its parts cancel out.
    picture_scores : (float, float), optional
        Mean and standard deviation of the vector's cosines with pictures in general.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> from lexlip.engines import PostingsEngine
    >>> engine = PostingsEngine()
    >>> engine.add(["a.jpg", "b.jpg"], csr_array([[200, 100], [150, 0]]))
    >>> engine.commit()
    >>> prepared = PreparedQuery({0: 2, 1: -3})
    >>> prepared.search(engine, k=5)
    [Hit(id='b.jpg', score=300), Hit(id='a.jpg', score=100)]
    >>> prepared.explain(engine, "a.jpg", ["dog", "cat"])
    [Contribution(word='dog', query=2, impact=200), Contribution(word='cat', query=-3, impact=100)]
    >>> engine.close()
    """

    terms: Mapping[int, int]
    exact: Mapping[int, float] = field(default_factory=dict, repr=False)
    conditions: tuple[Condition, ...] = ()
    penalty: int = 0
    query: Query | None = None
    speaker: Speaker | None = field(default=None, repr=False)
    seen: QueryViews = field(default=(), repr=False)
    vector: NDArray[np.float32] | None = field(default=None, repr=False)
    picture_scores: tuple[float, float] | None = None

    def search(self, engine: Engine, k: int, where: Where | None = None) -> list[Hit]:
        """Return the best `k` hits, exactly; see `lexlip.query.search.search`."""
        return search(engine, self.terms, k, where, self.conditions, self.penalty)

    def candidates(self, engine: Engine, k: int, where: Where | None = None) -> Candidates:
        """Return the same documents as arrays, for a second phase."""
        return candidates(engine, self.terms, k, where, self.conditions, self.penalty)

    def explain(self, engine: Engine, id: str, tokens: Sequence[str]) -> list[Contribution]:
        """Return the words that a document shares with the query, heaviest first.

        Nothing is encoded. See `lexlip.query.contributions.contributions`.

        Parameters
        ----------
        engine : Engine
        id : str
        tokens : sequence of str
            The vocabulary, in id order.
        """
        return contributions(engine, id, self.terms, tokens, self.penalty)

    @cached_property
    def views(self) -> QueryViews:
        """Views of the query's texts and pictures, for rerankers; made when first needed.

        Raises
        ------
        LexLIPError
            For a query of nothing but words.
        """
        if self.seen:
            return self.seen
        if self.query is None or self.speaker is None:
            return views_of(None, ())
        return views_of(self.speaker, self.query.summands)

    @property
    def uncertainty(self) -> float | None:
        """Largest mean log standard deviation of the wanted texts and pictures.

        None without a Gaussian head. The larger, the vaguer (PCME, Chun et al., CVPR 2021).
        """
        wanted = [views for weight, views in self.views if weight > 0 and views.has_gaussians]
        return max((float(views.uncertainty[0]) for views in wanted), default=None)

    @cached_property
    def resolved(self) -> Query:
        """The words that the query adds up to, with whole weights: it finds the same, and prints.

        Raises
        ------
        LexLIPError
            For term ids without a model.

        Examples
        --------
        >>> print(index.prepare(Query.parse("a heart -moon")).resolved)   # doctest: +SKIP
        red^64 circle^58 hollow^18 -heart
        """
        if self.query is None or self.speaker is None:
            raise LexLIPError("term ids have no words: prepare a text, a picture or a Query")
        tokens = self.speaker.lexicon.tokens
        heaviest = sorted(self.terms.items(), key=lambda item: (-item[1], item[0]))
        words = Part(tuple((tokens[term], float(weight)) for term, weight in heaviest))
        return replace(self.query, parts=(words,), boosts=())

"""Searches of an index: words find, and vectors, all terms or a reranker may order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from lexlip.build.manifest import has_said
from lexlip.build.side_stores import SideStores
from lexlip.engines import Engine, Hit
from lexlip.errors import LexLIPError
from lexlip.filters.where import Where
from lexlip.query.counts import check_search
from lexlip.query.prepared import PreparedQuery
from lexlip.rerank.account import Account, account
from lexlip.rerank.fit import TellsFit
from lexlip.rerank.phases import (
    DEPTH,
    PHASES,
    TERMS,
    VECTORS,
    WORDS,
    OrderedHit,
    constant_of,
    order_by_terms,
    order_by_vectors,
)
from lexlip.rerank.rescore import rescore_hits

if TYPE_CHECKING:
    from lexlip.models.speaker import Speaker
    from lexlip.query.query import AnyQuery
    from lexlip.rerank.rerankers import RerankerName
    from lexlip.rerank.stage import RerankedHit, SecondStage


class Searches(TellsFit):
    """The part of `lexlip.index.Index` that answers one query."""

    path: Path
    manifest: dict[str, Any]
    engine: Engine
    side_stores: SideStores
    _second: SecondStage | None

    if TYPE_CHECKING:

        @property
        def model(self) -> Speaker:
            """The model that encodes."""

        def prepare(
            self,
            item: AnyQuery,
            max_terms: int | None = None,
            max_weight: int = 64,
            views: bool = False,
        ) -> PreparedQuery:
            """Encode a query once."""

    @overload
    def search(
        self,
        item: AnyQuery,
        k: int = 10,
        where: str | Where | None = None,
        rescore: int = 0,
        max_terms: int | None = None,
        rerank: None = None,
        depth: int | None = None,
        min_fit: float | None = None,
    ) -> Sequence[Hit | OrderedHit]: ...

    @overload
    def search(
        self,
        item: AnyQuery,
        k: int = 10,
        where: str | Where | None = None,
        rescore: int = 0,
        max_terms: int | None = None,
        *,
        rerank: Literal["none"],
        depth: int | None = None,
        min_fit: float | None = None,
    ) -> Sequence[Hit]: ...

    @overload
    def search(
        self,
        item: AnyQuery,
        k: int = 10,
        where: str | Where | None = None,
        rescore: int = 0,
        max_terms: int | None = None,
        *,
        rerank: Literal["vectors", "terms"],
        depth: int | None = None,
        min_fit: float | None = None,
    ) -> Sequence[OrderedHit]: ...

    @overload
    def search(
        self,
        item: AnyQuery,
        k: int = 10,
        where: str | Where | None = None,
        rescore: int = 0,
        max_terms: int | None = None,
        *,
        rerank: RerankerName,
        depth: int | None = None,
        min_fit: float | None = None,
    ) -> Sequence[RerankedHit]: ...

    @overload
    def search(
        self,
        item: AnyQuery,
        k: int = 10,
        where: str | Where | None = None,
        rescore: int = 0,
        max_terms: int | None = None,
        rerank: str | None = None,
        depth: int | None = None,
        min_fit: float | None = None,
    ) -> Sequence[Hit | OrderedHit | RerankedHit]: ...

    def search(
        self,
        item: AnyQuery,
        k: int = 10,
        where: str | Where | None = None,
        rescore: int = 0,
        max_terms: int | None = None,
        rerank: str | None = None,
        depth: int | None = None,
        min_fit: float | None = None,
    ) -> Sequence[Hit | OrderedHit | RerankedHit]:
        """Find the k best documents for a text, a picture, a `Query` or ``{term id: weight}``.

        Parameters
        ----------
        item : str, picture, Query, mapping or PreparedQuery
            As for `prepare`.
        k : int
        where : str or Where, optional
            The best k of the documents with such metadata: ``"year >= 2020 and folder == 'trip'"``.
        rescore : int
            Number of best hits to order by the cosine of the vectors before they were quantised.
            For an index that was made with `keep_floats`.
        max_terms : int
            Terms kept of a text or a picture; rescoring uses all.
        rerank : str, optional
            What orders the best hits: "vectors" (by default where the index has them), "terms" (all
            words of either sign; by default for a speaker with vectors where none are kept), "none"
            (the words that found them; by default otherwise), or a second look: "filip", "naaf",
            "csd" or another of `lexlip.rerank.rerankers.RERANKERS`, for an index that was made with
            `keep_views`.
        depth : int, optional
            Number of hits that are ordered. By default 400 for vectors and terms, at least k; if
            given, further hits follow in groups of as many, so that k changes no order. For a
            reranker 100, and 200 for an ambiguous query.
        min_fit : float, optional
            Leave out hits that fit less (`fits`): standard deviations where vectors order, else the
            share of the query's words, 0..1, of the hits that are ordered, 400 for words.

        Returns
        -------
        list of Hit (of OrderedHit, of RerankedHit)
            By score descending, then by id; only documents that share a word of positive weight.
            Scores are integers (0 or less where much is subtracted), cosines when rescored, or
            those of `lexlip.rerank.phases.OrderedHit`.

        Raises
        ------
        LexLIPError
            For a query or filter that cannot be, and for an order that this index or query lacks.
        """
        check_search(k, rescore, max_terms, rerank, depth, min_fit)
        kept = Where.of(where)
        looks = rerank is not None and rerank not in PHASES
        query = self.prepare(item, max_terms, views=looks)
        by = WORDS if rescore and rerank is None else self.ordered_by(query, rerank)
        if min_fit is not None and by != VECTORS:
            ordered = DEPTH if by in PHASES else depth or self.second_stage.depth(query)
            size = max(k, rescore or ordered)
            hits = self.search(query, size, kept, rescore, rerank=rerank, depth=depth)
            return self.fitting(hits, query, min_fit, k)
        if by in (VECTORS, TERMS):
            group = depth or max(k, DEPTH)
            found = query.candidates(self.engine, -(-k // group) * group, kept)
            if by == TERMS:
                constant = constant_of(query, self.manifest.get("said"), self.manifest["scale"])
                return order_by_terms(found, query, k, self.engine, constant, depth)
            return order_by_vectors(found, query, k, self.side_stores.vectors, depth, min_fit)
        if by != WORDS:
            stage = self.second_stage
            found = query.candidates(self.engine, max(k, depth or stage.depth(query)), kept)
            return stage.order(found, query, by, k)
        if depth is not None:
            raise LexLIPError("depth is for hits that something orders: give rerank too")
        hits = query.search(self.engine, max(k, rescore), kept)
        if not rescore:
            return hits
        if query.penalty:
            raise LexLIPError("rescore cannot count missing words: leave out one of the two")
        scale, floats = self.manifest["scale"], self.side_stores.floats
        return rescore_hits(hits, query.terms, query.exact, floats, scale, self.engine)[:k]

    @property
    def has_vectors(self) -> bool:
        """Whether dense vectors of the documents are kept."""
        return bool(self.manifest.get("vector_size"))

    @property
    def phases(self) -> tuple[str, ...]:
        """What can order hits, of `lexlip.rerank.phases.PHASES`, where there is a choice."""
        if not has_said(self.manifest):
            return ()
        return PHASES if self.has_vectors else (TERMS, WORDS)

    def ordered_by(self, query: PreparedQuery, rerank: str | None = None) -> str:
        """Return what orders the hits of a query: "vectors", "terms", "none" or a reranker's name.

        Parameters
        ----------
        query : PreparedQuery
        rerank : str, optional
            As for `search`.

        Raises
        ------
        LexLIPError
            When the index has no vectors, or the query none, and for an unknown name.
        """
        if rerank is None:
            if query.vector is None or query.penalty:
                return WORDS
            return VECTORS if self.has_vectors else TERMS
        if rerank in (VECTORS, TERMS) and query.penalty:
            raise LexLIPError(f"{rerank} cannot count missing words: leave out one of the two")
        if rerank == VECTORS and not self.has_vectors:
            raise LexLIPError(
                f"{self.path} keeps no vectors to order hits by: choose another --rerank, or build "
                "it by a model with vectors (lexlip index --vectors yes --replace)"
            )
        if rerank not in PHASES:
            from lexlip.rerank.rerankers import check_name

            check_name(rerank)
        return rerank

    @property
    def second_stage(self) -> SecondStage:
        """The rerankers of this index; an error where it keeps no views."""
        if self._second is None:
            from lexlip.rerank.stage import SecondStage

            self._second = SecondStage(self.path, self.side_stores.views, self.model)
        return self._second

    def rerank(
        self, hits: Sequence[Hit], item: AnyQuery, name: str, share: float | None = None
    ) -> list[RerankedHit]:
        """Reorder hits by a second look at them; see `lexlip.rerank.stage.SecondStage.rerank`.

        Parameters
        ----------
        hits : sequence of Hit
            Hits of the same query, of `search`.
        item
            As for `search`.
        name : str
            One of `lexlip.rerank.RERANKERS`.
        share : float, optional
            Share of the reranker's score, 0..1; the tuned one by default.
        """
        return self.second_stage.rerank(hits, self.prepare(item, views=True), name, share)

    def account(self, id: str, item: AnyQuery, rerank: str | None = None) -> Account:
        """Say what orders a list, and take a document's score in it apart.

        Parameters
        ----------
        id : str
        item : str, picture, Query, mapping or PreparedQuery
            As for `search`.
        rerank : str, optional
            As for `search`.

        Returns
        -------
        Account
            For vectors, words of either sign, what is beyond words, and the document's constant
            add up to the score of the hit; for terms the words do.
        """
        query = self.prepare(item)
        by, store = self.ordered_by(query, rerank), self.side_stores.vectors
        tokens = self.model.lexicon.tokens
        scale, said = self.manifest["scale"], self.manifest.get("said")
        return account(by, self.engine, store, id, query, scale, tokens, said)

"""Many queries at once: one batch through the encoder, threads over the engine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from lexlip.errors import check_count
from lexlip.filters.where import Where
from lexlip.query.counts import check_search
from lexlip.query.prepared import PreparedQuery
from lexlip.query.query import named, prepare_many
from lexlip.rerank.phases import PHASES

if TYPE_CHECKING:
    from lexlip.engines.base import Hit
    from lexlip.models.speaker import Speaker
    from lexlip.query.query import AnyQuery
    from lexlip.rerank.phases import OrderedHit
    from lexlip.rerank.rerankers import RerankerName
    from lexlip.rerank.stage import RerankedHit

T = TypeVar("T")
S = TypeVar("S")

_MOST_THREADS = 8
_GROUP = 16
"""Queries that a thread takes at a time: fewer than two groups are not worth a thread."""


class SearchesMany:
    """The part of `lexlip.index.Index` that answers lists of queries."""

    search: Callable[..., Any]

    if TYPE_CHECKING:

        @property
        def model(self) -> Speaker:
            """The model that encodes."""

    def prepare_many(
        self,
        items: Iterable[AnyQuery],
        max_terms: int | None = None,
        views: bool = False,
        names: Sequence[str] | None = None,
    ) -> list[PreparedQuery]:
        """Encode queries together: all texts in one batch, all pictures in another.

        Parameters
        ----------
        items : iterable
            Queries as for `search`; equal texts are encoded once.
        max_terms, views
            As for `prepare`.
        names : sequence of str, optional
            What errors call each query; by default ``query 1`` and so on.

        Raises
        ------
        LexLIPError
            As `prepare`; the line begins with the name of the query.
        """
        return prepare_many(items, lambda: self.model, max_terms, views=views, names=names)

    @overload
    def search_many(
        self,
        items: Iterable[AnyQuery],
        k: int = 10,
        where: str | Where | None = None,
        rescore: int = 0,
        max_terms: int | None = None,
        rerank: None = None,
        depth: int | None = None,
        min_fit: float | None = None,
        threads: int | None = None,
    ) -> list[Sequence[Hit | OrderedHit]]: ...

    @overload
    def search_many(
        self,
        items: Iterable[AnyQuery],
        k: int = 10,
        where: str | Where | None = None,
        rescore: int = 0,
        max_terms: int | None = None,
        *,
        rerank: Literal["none"],
        depth: int | None = None,
        min_fit: float | None = None,
        threads: int | None = None,
    ) -> list[Sequence[Hit]]: ...

    @overload
    def search_many(
        self,
        items: Iterable[AnyQuery],
        k: int = 10,
        where: str | Where | None = None,
        rescore: int = 0,
        max_terms: int | None = None,
        *,
        rerank: Literal["vectors", "terms"],
        depth: int | None = None,
        min_fit: float | None = None,
        threads: int | None = None,
    ) -> list[Sequence[OrderedHit]]: ...

    @overload
    def search_many(
        self,
        items: Iterable[AnyQuery],
        k: int = 10,
        where: str | Where | None = None,
        rescore: int = 0,
        max_terms: int | None = None,
        *,
        rerank: RerankerName,
        depth: int | None = None,
        min_fit: float | None = None,
        threads: int | None = None,
    ) -> list[Sequence[RerankedHit]]: ...

    @overload
    def search_many(
        self,
        items: Iterable[AnyQuery],
        k: int = 10,
        where: str | Where | None = None,
        rescore: int = 0,
        max_terms: int | None = None,
        rerank: str | None = None,
        depth: int | None = None,
        min_fit: float | None = None,
        threads: int | None = None,
    ) -> list[Sequence[Hit | OrderedHit | RerankedHit]]: ...

    def search_many(
        self,
        items: Iterable[AnyQuery],
        k: int = 10,
        where: str | Where | None = None,
        rescore: int = 0,
        max_terms: int | None = None,
        rerank: str | None = None,
        depth: int | None = None,
        min_fit: float | None = None,
        threads: int | None = None,
    ) -> list[Any]:
        """Search for many queries at once.

        The hits are those of `search` for each query. Where a network encodes, a query's weights in
        a batch differ from those alone by rounding, some 1e-7.

        Parameters
        ----------
        items : iterable
            Queries as for `search`: texts, pictures, `Query` objects, ``{term id: weight}``,
            prepared queries, also mixed. All of them and their hits are held in memory: give a
            million queries in parts.
        k, where, rescore, max_terms, rerank, depth, min_fit
            As for `search`, of every query.
        threads : int, optional
            Threads that search at the same time; by default one a core, 8 at most.

        Returns
        -------
        list
            What `search` returns of each query, in their order.

        Raises
        ------
        LexLIPError
            As `search`; the line begins with the number of the query, from 1.

        Examples
        --------
        >>> some = ["two hearts", "two moons", Query.parse("star -night")]  # doctest: +SKIP
        >>> [hits[0].id for hits in index.search_many(some, k=3)]                 # doctest: +SKIP
        ['17.png', '204.png', '88.png']
        """
        check_search(k, rescore, max_terms, rerank, depth, min_fit)
        kept = Where.of(where)
        looks = rerank is not None and rerank not in PHASES
        if looks:
            _ = self.second_stage  # type: ignore[attr-defined]  # opened before threads want it
        prepared = self.prepare_many(items, max_terms, looks)

        def one(query: PreparedQuery) -> Sequence[Hit | OrderedHit | RerankedHit]:
            return self.search(query, k, kept, rescore, rerank=rerank, depth=depth, min_fit=min_fit)

        return in_threads(one, prepared, threads)


def in_threads(
    work: Callable[[T], S],
    items: Sequence[T],
    threads: int | None = None,
    names: Sequence[str] | None = None,
) -> list[S]:
    """Return the results of some work on items, in their order, done by several threads.

    Raises
    ------
    LexLIPError
        Of the first item that raises one, behind its name, by default ``query 1`` and so on.
    """
    cores = min(_MOST_THREADS, os.cpu_count() or 1)
    count = cores if threads is None else check_count("threads", threads)

    def group(start: int) -> list[S]:
        done = []
        for number, item in enumerate(items[start : start + _GROUP], start):
            with named(number, names):
                done.append(work(item))
        return done

    starts = range(0, len(items), _GROUP)
    if count == 1 or len(starts) < 2:
        return [one for start in starts for one in group(start)]
    with ThreadPoolExecutor(count, thread_name_prefix="lexlip-search") as pool:
        futures = [pool.submit(group, start) for start in starts]
        try:
            return [one for future in futures for one in future.result()]
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise

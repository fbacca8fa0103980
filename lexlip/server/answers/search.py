"""Searches and explanations: from a request to an answer, each of one commit of the index."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from lexlip.engines.base import Hit
from lexlip.errors import LexLIPError
from lexlip.filters.where import Where
from lexlip.index import Index
from lexlip.query.contributions import contributions
from lexlip.query.query import Query
from lexlip.query.search import Asked
from lexlip.rerank.rerankers import RERANKERS
from lexlip.rerank.stage import RerankedHit, uncertainty
from lexlip.server.failures import Refused
from lexlip.server.live import Live
from lexlip.server.picture_files import token_of
from lexlip.server.schemas import Search
from lexlip.server.settings import Settings


class Stopwatch:
    """Milliseconds of each part of an answer."""

    def __init__(self) -> None:
        self.ms = dict.fromkeys(("encode_ms", "search_ms", "rerank_ms", "explain_ms"), 0.0)

    @contextmanager
    def on(self, part: str) -> Iterator[None]:
        """Count the time of a block."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.ms[part] += (time.perf_counter() - start) * 1000


def check_text(text: str, settings: Settings, what: str = "query") -> None:
    """Refuse what is too long."""
    if len(text) > settings.max_query:
        raise Refused(400, f"the {what} has {len(text)} characters: at most {settings.max_query:,}")


def read_query(request: Search, settings: Settings) -> Query:
    """Read what is asked; pictures come as uploads, never by a path of this machine.

    Raises
    ------
    LexLIPError
        For what the grammar does not know.
    """
    check_text(request.q, settings)
    if request.q.strip() or not request.words:
        query = Query.parse(request.q, images=False)
    else:
        query = Query()
    if request.words:
        query = replace(query, parts=Query.from_words(request.words).parts, boosts=())
    return query


def as_words(query: Query) -> list[dict[str, Any]]:
    """Return the words of a resolved query, heaviest first."""
    return [{"word": word, "weight": weight} for word, weight in query.words().items()]


def search(live: Live, settings: Settings, request: Search, query: Query) -> dict[str, Any]:
    """Answer a search.

    Parameters
    ----------
    live : Live
    settings : Settings
    request : Search
    query : Query
        What it asks for.

    Returns
    -------
    dict
        As `lexlip.server.schemas.Found`.
    """
    check_text(request.where, settings, "filter")
    last = request.offset + request.k
    if request.k > settings.max_hits:
        raise Refused(400, f"k is {request.k}: at most {settings.max_hits}")
    if last > settings.max_depth or (request.depth or 0) > settings.max_depth:
        raise Refused(400, f"no more than {settings.max_depth:,} hits can be looked at")
    where = Where.parse(request.where) if request.where.strip() else None
    watch = Stopwatch()
    with watch.on("encode_ms"), live.speaking:
        resolved = query.resolved(live.model)
        asked = resolved.ask(live.model)
    with live.reading() as index:
        vague: float | None = None
        hits: list[Any]
        if request.rerank:
            hits, vague = _reranked(live, index, request, query, asked, where, watch)
        else:
            with watch.on("search_ms"):
                hits = asked.search(index.engine, last + 1, where)
        page: Sequence[Hit | RerankedHit] = hits[request.offset : last]
        with watch.on("explain_ms"):
            tokens = live.model.lexicon.tokens
            reasons = [
                contributions(index.engine, hit.id, asked.terms, tokens, asked.penalty)
                if request.explain
                else []
                for hit in page
            ]
        frequencies = index.engine.frequencies(asked.terms)
        total, generation = len(index), str(index.engine.generation)
    shown = [
        _shown(rank, hit, [{"word": c.word, "score": c.score} for c in reason])
        for rank, (hit, reason) in enumerate(zip(page, reasons, strict=True), request.offset + 1)
    ]
    return {
        "query": {
            "text": str(resolved),
            "words": as_words(resolved),
            "conditions": conditions(resolved),
        },
        "hits": shown,
        "total": total,
        "next_offset": last if len(hits) > last and last < settings.max_depth else None,
        "cost": {"postings": sum(frequencies.values()), **watch.ms},
        "generation": generation,
        "uncertainty": vague,
    }


def _reranked(
    live: Live,
    index: Index,
    request: Search,
    query: Query,
    asked: Asked,
    where: Where | None,
    watch: Stopwatch,
) -> tuple[list[RerankedHit], float | None]:
    """Return the best hits of both stages, and how vague the query is.

    As many are reranked for every page, so that pages go together.
    """
    if request.words and request.q.strip():  # words have no views: those of the text are looked at
        query = Query.parse(request.q, images=False)
    with live.speaking:
        with watch.on("search_ms"):
            stage = index.second_stage
        with watch.on("encode_ms"):
            seen = stage.look_at(query)
    with watch.on("search_ms"):
        depth = max(request.k, request.depth or stage.depth(seen))
        found = asked.search(index.engine, depth, where)
    with watch.on("rerank_ms"):
        assert request.rerank is not None
        hits = stage.rerank(found, seen, request.rerank)
    spread = [uncertainty(views) for weight, views in seen if weight > 0]
    return hits, max((u for u in spread if u is not None), default=None)


def rerankers(live: Live, index: Index) -> list[str]:
    """Return the rerankers that an index can be searched with."""
    if index.beside.views is None:
        return []
    found = []
    for name in RERANKERS:
        with suppress(LexLIPError), live.speaking:
            found.append(name if index.second_stage.reranker(name) else "")
    return found


def conditions(query: Query) -> list[str]:
    """Return what a query demands and forbids, as it is written."""
    bare = Query(penalty=query.penalty)
    each = [
        *(replace(bare, musts=(phrase,), penalty=0) for phrase in query.musts),
        *(replace(bare, exclusions=(phrase,), penalty=0) for phrase in query.exclusions),
        *([bare] if query.penalty else []),
    ]
    return [str(one) for one in each]


def _shown(rank: int, hit: Hit | RerankedHit, words: list[dict[str, Any]]) -> dict[str, Any]:
    shown = {
        "rank": rank,
        "id": hit.id,
        "image": token_of(hit.id),
        "score": hit.score,
        "words": words,
    }
    if isinstance(hit, RerankedHit):
        shown |= {
            "first_stage": hit.words,
            "rerank": hit.likeness,
            "uncertainty": hit.uncertainty,
        }
    return shown

"""Answers to searches: from a request to hits, each answer of one commit of the index."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from lexlip.engines.base import Hit
from lexlip.errors import LexLIPError
from lexlip.filters.columns import nfc
from lexlip.filters.where import Where
from lexlip.index import Index
from lexlip.query.contributions import Contribution
from lexlip.query.prepared import PreparedQuery
from lexlip.query.query import Query
from lexlip.query.terms import views_of
from lexlip.rerank.phases import DEPTH, PHASES, WORDS, OrderedHit
from lexlip.rerank.rerankers import RERANKERS
from lexlip.rerank.stage import RerankedHit
from lexlip.server.failures import Refused, no_such_image
from lexlip.server.picture_files import Pictures, id_of, token_of
from lexlip.server.schemas import Search
from lexlip.server.served_index import ServedIndex
from lexlip.server.settings import Settings
from lexlip.storage.ids import is_id

NO_WORDS = "no word of the query is in the model's lexicon"


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


def check_text(text: str, settings: Settings, kind: str = "query") -> None:
    """Refuse a text that is too long."""
    if len(text) > settings.max_query:
        raise Refused(400, f"the {kind} has {len(text)} characters: at most {settings.max_query:,}")


def read_query(request: Search, settings: Settings) -> Query:
    """Read a query; pictures come as uploads, never by a path of this machine.

    Raises
    ------
    LexLIPError
        For a text that the grammar does not know.
    """
    check_text(request.q, settings)
    if request.q.strip() or not (request.words or request.more or request.less):
        query = Query.parse(request.q, images=False)
    else:
        query = Query()
    if request.words:
        query = replace(query, parts=Query.from_words(request.words).parts, boosts=())
    return query


def with_own_pictures(
    query: Query, served: ServedIndex, pictures: Pictures, request: Search
) -> Query:
    """Add pictures of the index to a query, and subtract others.

    A picture whose file is not at hand counts as the words that the index keeps of it.

    Raises
    ------
    Refused
        404 for a picture that is not in the index.
    """
    signed = [(name, 1.0) for name in request.more] + [(name, -_LESS) for name in request.less]
    if not signed:
        return query
    with served.reading() as index:
        ids = [own_picture(index, name) for name, _ in signed]
        tokens = served.model.lexicon.tokens
        for id, (_, weight) in zip(ids, signed, strict=True):
            try:
                seen = Query.image(pictures.small(id, getattr(served.model, "image_side", None)))
            except Refused:
                terms = index.engine.impacts([id])
                kept = zip(terms.indices.tolist(), terms.data.tolist(), strict=True)
                words = {tokens[t]: float(w) for t, w in kept if t < len(tokens)}
                seen = Query.from_words(words)
            query = query + weight * seen
    return query


def own_picture(index: Index, name: str) -> str:
    """Return the id of a picture of the index, by its `image` or else by its `id`.

    Raises
    ------
    Refused
        404 where there is none.
    """
    names = [nfc(name)]
    with suppress(Refused):
        names.insert(0, id_of(name))
    for id in names:
        if is_id(id) and index.engine.fetch([id])[0] is not None:
            return id
    raise no_such_image()


_LESS = 0.5  # of a picture that is subtracted: what both have in common stays


def as_words(query: Query) -> list[dict[str, Any]]:
    """Return the words of a resolved query, heaviest first."""
    return [{"word": word, "weight": weight} for word, weight in query.words().items()]


def search(
    served: ServedIndex, settings: Settings, request: Search, query: Query
) -> dict[str, Any]:
    """Answer a search; its texts and pictures are encoded once.

    Parameters
    ----------
    served : ServedIndex
    settings : Settings
    request : Search
    query : Query
        The query of the request.

    Returns
    -------
    dict
        As `lexlip.server.schemas.Found`.
    """
    where = _checked(settings, request)
    last = request.offset + request.k
    watch = Stopwatch()
    if _looks(request):
        with served.reading() as index:
            _ = index.second_stage  # an index without views says so before anything is encoded
    with watch.on("encode_ms"), served.model_lock:
        prepared = _prepared(served, request, query)
    with served.reading() as index:
        by = index.ordered_by(prepared, request.rerank)
        hits = _hits(index, request, prepared, where, watch, by)
        page = hits[request.offset : last]
        with watch.on("explain_ms"):
            ids = [hit.id for hit in page]
            reasons = index.explain_all(ids, prepared) if request.explain else [[] for _ in ids]
            tells = request.explain or index.has_vectors  # else it would cost as much as explaining
            fits = index.fits(page, prepared, reasons) if tells else [None] * len(page)
        weak = index.weak_below
        frequencies = index.engine.frequencies(prepared.terms)
        total, generation = len(index), str(index.engine.generation)
        metadata = index.engine.fetch([hit.id for hit in page])
    resolved = prepared.resolved
    return {
        "query": {
            "text": str(resolved),
            "read_as": _read_as(query),
            "words": as_words(resolved),
            "conditions": conditions(resolved),
        },
        "hits": [
            _shown(rank, *found)
            for rank, found in enumerate(
                zip(page, reasons, fits, metadata, strict=True), request.offset + 1
            )
        ],
        "total": total,
        "next_offset": last if len(hits) > last and last < settings.max_depth else None,
        "cost": {"postings": sum(frequencies.values()), **watch.ms},
        "generation": generation,
        "uncertainty": prepared.uncertainty if _looks(request) else None,
        "ordered_by": by,
        "weak_below": weak,
    }


def _looks(request: Search) -> bool:
    """Return whether a reranker is asked for, which needs views of the query."""
    return bool(request.rerank) and request.rerank not in PHASES


def _checked(settings: Settings, request: Search) -> Where | None:
    """Refuse too much; return the filter."""
    check_text(request.where, settings, "filter")
    if request.k > settings.max_hits:
        raise Refused(400, f"k is {request.k}: at most {settings.max_hits}")
    check_depth(request, settings)
    return Where.parse(request.where) if request.where.strip() else None


def check_depth(request: Search, settings: Settings) -> None:
    """Refuse to look at too many hits."""
    if max(request.offset + request.k, request.depth or 0) > settings.max_depth:
        raise Refused(400, f"no more than {settings.max_depth:,} hits can be looked at")


def _prepared(served: ServedIndex, request: Search, query: Query) -> PreparedQuery:
    """Encode a query. Edited words have no views: rerankers look at the text they came from."""
    if not _looks(request):
        return query.prepare(served.model)
    if request.words and request.q.strip() and not (request.more or request.less):
        text = Query.parse(request.q, images=False)
        return replace(query.prepare(served.model), seen=views_of(served.model, text.summands))
    prepared = query.prepare(served.model, views=True)
    _ = prepared.views  # a query without any is refused before it is searched
    return prepared


def _hits(
    index: Index,
    request: Search,
    prepared: PreparedQuery,
    where: Where | None,
    watch: Stopwatch,
    by: str,
) -> Sequence[Hit | OrderedHit | RerankedHit]:
    """Return the best hits, one more than asked for.

    The number of hits that are ordered together is the same for every page, so that pages go
    together.
    """
    if by in PHASES:
        count = request.offset + request.k + 1
        depth = request.depth or (None if by == WORDS else DEPTH)
        fit = request.min_fit
        with watch.on("search_ms"):
            return index.search(prepared, count, where, rerank=by, depth=depth, min_fit=fit)
    depth = max(request.k, request.depth or index.second_stage.depth(prepared))
    with watch.on("search_ms"):
        found = prepared.candidates(index.engine, depth, where)
    count, least = request.offset + request.k + 1, request.min_fit
    with watch.on("rerank_ms"):
        if least is None:
            return index.second_stage.order(found, prepared, by, count)
        hits = index.second_stage.order(found, prepared, by, len(found))
        return index.fitting(hits, prepared, least, count)


def rerankers(served: ServedIndex, index: Index) -> list[str]:
    """Return what can order the hits of an index, besides its default."""
    found = list(index.phases)
    if index.side_stores.views is None:
        return found
    for name in RERANKERS:
        with suppress(LexLIPError), served.model_lock:
            found.append(name if index.second_stage.reranker(name) else "")
    return found


def _read_as(query: Query) -> str:
    """Return a query without its pictures as one would type it."""
    said = tuple(part for part in query.parts if isinstance(part.content, str | tuple))
    return str(replace(query, parts=said))


def conditions(query: Query) -> list[str]:
    """Return the conditions of a query, as they are written."""
    bare = Query(penalty=query.penalty)
    each = [
        *(replace(bare, musts=(phrase,), penalty=0) for phrase in query.musts),
        *(replace(bare, exclusions=(phrase,), penalty=0) for phrase in query.exclusions),
        *([bare] if query.penalty else []),
    ]
    return [str(one) for one in each]


def _shown(
    rank: int,
    hit: Hit | OrderedHit | RerankedHit,
    words: Sequence[Contribution],
    fit: float | None,
    metadata: dict[str, Any] | None,
) -> dict[str, Any]:
    shown = {
        "rank": rank,
        "id": hit.id,
        "image": token_of(hit.id),
        "score": hit.score,
        "fit": fit,
        "words": [{"word": word.word, "score": word.score} for word in words],
        "metadata": metadata or {},
    }
    if isinstance(hit, RerankedHit):
        shown |= {
            "first_stage": hit.words,
            "rerank": hit.likeness,
            "uncertainty": hit.uncertainty,
        }
    if isinstance(hit, OrderedHit):
        shown |= {"first_stage": hit.words}
    return shown

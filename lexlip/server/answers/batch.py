"""Answers to many queries at once."""

from __future__ import annotations

from typing import Any

from lexlip.errors import LexLIPError
from lexlip.filters.where import Where
from lexlip.query.query import Query, prepare_many
from lexlip.rerank.phases import OrderedHit
from lexlip.server.answers.search import NO_WORDS, Stopwatch, check_text
from lexlip.server.batch_schemas import Batch
from lexlip.server.failures import Refused
from lexlip.server.picture_files import token_of
from lexlip.server.served_index import ServedIndex
from lexlip.server.settings import Settings


def search_many(served: ServedIndex, settings: Settings, request: Batch) -> dict[str, Any]:
    """Answer all queries of a request, as `lexlip.server.batch_schemas.Answers`.

    They are encoded together, and searched one after the other: a request has one worker.

    Raises
    ------
    Refused
        For a text that is too long, and too many hits.
    LexLIPError
        Behind the number of the query, from 1.
    """
    check_text(request.where, settings, "filter")
    if request.k > settings.max_hits:
        raise Refused(400, f"k is {request.k}: at most {settings.max_hits}")
    if request.k * len(request.queries) > settings.max_depth:
        raise Refused(400, f"no more than {settings.max_depth:,} hits in all: give fewer queries")
    queries = []
    for number, text in enumerate(request.queries, 1):
        check_text(text, settings, f"query {number}: it")
        try:
            queries.append(Query.parse(text, images=False))
        except LexLIPError as error:
            raise LexLIPError(f"query {number}: {error}") from None
    where = Where.parse(request.where) if request.where.strip() else None
    watch = Stopwatch()
    with watch.on("encode_ms"), served.model_lock:
        prepared = prepare_many(queries, lambda: served.model)
    with served.reading() as index:
        with watch.on("search_ms"):
            found = index.search_many(
                prepared,
                request.k,
                where,
                rerank=request.rerank,
                min_fit=request.min_fit,
                threads=1,
            )
        orders = [index.ordered_by(query, request.rerank) for query in prepared]
        terms = {term for query in prepared for term in query.terms}
        counts = index.engine.frequencies(sorted(terms))
        ids = list(dict.fromkeys(hit.id for hits in found for hit in hits))
        metadata = dict(zip(ids, index.engine.fetch(ids), strict=True))
        total, generation = len(index), str(index.engine.generation)
    answers = []
    for query, one, by, hits in zip(queries, prepared, orders, found, strict=True):
        shown = []
        for rank, hit in enumerate(hits, 1):
            row = {"rank": rank, "id": hit.id, "image": token_of(hit.id), "score": hit.score}
            if isinstance(hit, OrderedHit):
                row["first_stage"] = hit.words
            shown.append({**row, "metadata": metadata[hit.id] or {}})
        answer: dict[str, Any] = {"read_as": str(query), "ordered_by": by, "hits": shown}
        answers.append(answer if one.terms else {**answer, "note": NO_WORDS})
    postings = sum(counts[term] for query in prepared for term in query.terms)
    return {
        "answers": answers,
        "total": total,
        "generation": generation,
        "cost": {"postings": postings, **watch.ms},
    }

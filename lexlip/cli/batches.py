"""Queries from a file, for ``lexlip search --queries``: searched in batches, printed at once."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from lexlip.cli import output
from lexlip.cli.common import in_our_words, one_line, read_query
from lexlip.data.trec import each_topic
from lexlip.errors import LexLIPError
from lexlip.rerank.many import in_threads
from lexlip.rerank.phases import PHASES

if TYPE_CHECKING:
    from lexlip.index import Index

BATCH = 256
"""Queries that are encoded and searched together."""


class Topic(NamedTuple):
    """A query of a file."""

    id: str
    place: str
    query: Any


def topics(path: Path, lexicon_map: Path | None) -> Iterator[Topic]:
    """Yield the queries of a file as they are read; ``-`` is the standard input.

    Raises
    ------
    LexLIPError
        With the line that is wrong.
    """
    file = None
    if str(path) == "-":
        path, file = Path("standard input"), sys.stdin.buffer
    for place, id, text in each_topic(path, file):
        name = f"{path}, {place}"
        try:
            yield Topic(id, name, in_our_words(read_query(text), lexicon_map))
        except LexLIPError as error:
            raise LexLIPError(f"{name}: {error}") from None


def search_file(
    index: Index,
    path: Path,
    as_json: bool,
    lexicon_map: Path | None,
    max_terms: int | None,
    **options: Any,
) -> None:
    """Print the hits of all queries of a file, in its order.

    Parameters
    ----------
    index : Index
    path : Path
        What `lexlip.data.trec.read_topics` reads.
    as_json : bool
        One JSON object a query in place of a TREC run.
    lexicon_map, max_terms, **options
        As for ``lexlip search`` and `Index.search`.
    """
    rerank = options.get("rerank")
    if looks := rerank is not None and rerank not in PHASES:
        _ = index.second_stage  # opened before threads want it
    coming = topics(path, lexicon_map)
    while batch := list(islice(coming, BATCH)):
        names = [topic.place for topic in batch]
        asked = [topic.query for topic in batch]
        prepared = index.prepare_many(asked, max_terms, looks, names)
        found = in_threads(lambda query: index.search(query, **options), prepared, None, names)
        for topic, query, hits in zip(batch, prepared, found, strict=True):
            if as_json:
                by = index.ordered_by(query, rerank)
                by = "cosine" if options.get("rescore") and rerank is None else by
                nothing = [None] * len(hits)
                read = output.as_object(query.resolved, hits, None, by, topic.query, nothing)
                for hit in read["hits"]:
                    del hit["fit"]
                typer.echo(json.dumps({"id": topic.id, **read}))
            else:
                lines = output.as_trec(topic.id, hits)
                kept = map(one_line, lines) if sys.stdout.isatty() else lines
                typer.echo("\n".join(kept), nl=bool(hits))

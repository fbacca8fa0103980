"""Engines: inverted indexes behind one small protocol, `lexlip.engines.base.Engine`.

`postings` is our own, on numpy and numba; `lucene` needs Java. Both live in a folder on disk.
`opensearch` lives on a cluster. All give the same integers in the same order, and survive a kill
at any moment with the last commit. Importing this package starts no Java and no client.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from lexlip.engines.base import Engine, Hit
from lexlip.engines.lucene.engine import LuceneEngine
from lexlip.engines.opensearch.engine import OpenSearchEngine
from lexlip.engines.opensearch.place import Place
from lexlip.engines.postings.engine import PostingsEngine
from lexlip.errors import LexLIPError

__all__ = [
    "DISTANT", "ENGINES", "Engine", "Hit", "LuceneEngine", "OpenSearchEngine", "PostingsEngine",
    "check_engine", "is_distant", "keeps_vectors", "open_engine",
]  # fmt: skip

ENGINES = ("lucene", "postings")
"""Engines of a folder by name: in manifests, and on the command line."""

DISTANT = "opensearch"
"""An engine elsewhere: its name, a colon, and its place."""


def check_engine(kind: str) -> None:
    """Raise where a text names no engine.

    Examples
    --------
    >>> check_engine("opensearch:http://127.0.0.1:9200/photos?shards=3")
    >>> check_engine("lucine")
    Traceback (most recent call last):
    lexlip.errors.LexLIPError: no engine 'lucine': choose one of lucene, postings, opensearch:PLACE
    """
    name, _, place = kind.partition(":")
    if name == DISTANT:
        Place.parse(place)
    elif kind not in ENGINES:
        raise LexLIPError(
            f"no engine {kind!r}: choose one of {', '.join(ENGINES)}, {DISTANT}:PLACE"
        )


def is_distant(kind: str) -> bool:
    """Return whether an engine, as `check_engine` takes it, is kept by other machines.

    Examples
    --------
    >>> is_distant("opensearch:http://127.0.0.1:9200/photos"), is_distant("postings")
    (True, False)
    """
    return kind.partition(":")[0] == DISTANT


def keeps_vectors(kind: str) -> bool:
    """Return whether an engine, as `check_engine` takes it, keeps dense vectors with postings."""
    return kind == "postings" and PostingsEngine.keeps_vectors


def open_engine(kind: str, path: Path, mode: Literal["r", "w"]) -> Engine:
    """Open the engine of a folder by its name, one of `ENGINES` or opensearch:PLACE."""
    name, _, place = kind.partition(":")
    if name == DISTANT:
        return OpenSearchEngine(path, mode, place)
    return LuceneEngine(path, mode) if kind == "lucene" else PostingsEngine(path, mode)

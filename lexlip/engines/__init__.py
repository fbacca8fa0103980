"""Engines: inverted indexes behind one small protocol, `lexlip.engines.base.Engine`.

`postings` is our own, on numpy and numba; `lucene` needs Java. Both live in a folder on disk.
`opensearch` lives on a cluster, `milvus` in a file, on a server or on a cluster. All give the same
integers in the same order, and survive a kill at any moment with the last commit. Importing
this package starts no Java and no client.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from lexlip.engines.base import Engine, Hit
from lexlip.engines.lucene.engine import LuceneEngine
from lexlip.engines.milvus import place as milvus
from lexlip.engines.milvus.engine import MilvusEngine
from lexlip.engines.opensearch import place as opensearch
from lexlip.engines.opensearch.engine import OpenSearchEngine
from lexlip.engines.postings.engine import PostingsEngine
from lexlip.errors import LexLIPError

__all__ = [
    "DISTANT", "ENGINES", "Engine", "Hit", "LuceneEngine", "MilvusEngine", "OpenSearchEngine",
    "PostingsEngine", "check_engine", "is_distant", "keeps_vectors", "open_engine",
]  # fmt: skip

ENGINES = ("lucene", "postings")
"""Engines of a folder by name: in manifests, and on the command line."""

DISTANT: Mapping[str, tuple[Callable[[Path, Literal["r", "w"], str], Engine], type[Any]]] = {
    "opensearch": (OpenSearchEngine, opensearch.Place),
    "milvus": (MilvusEngine, milvus.Place),
}
"""Engines elsewhere by name, and their places. One is written as its name, a colon, its place."""


def check_engine(kind: str) -> None:
    """Raise where a text names no engine.

    Examples
    --------
    >>> check_engine("opensearch:http://127.0.0.1:9200/photos?shards=3")
    >>> check_engine("milvus:http://127.0.0.1:19530/photos")
    >>> check_engine("lucine")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    lexlip.errors.LexLIPError: no engine 'lucine': choose one of lucene, postings, ...
    """
    name, _, place = kind.partition(":")
    if name in DISTANT:
        DISTANT[name][1].parse(place)
    elif kind not in ENGINES:
        names = (*ENGINES, *(f"{name}:PLACE" for name in DISTANT))
        raise LexLIPError(f"no engine {kind!r}: choose one of {', '.join(names)}")


def is_distant(kind: str) -> bool:
    """Return whether an engine, as `check_engine` takes it, is kept by a server.

    Examples
    --------
    >>> is_distant("opensearch:http://127.0.0.1:9200/photos"), is_distant("postings")
    (True, False)
    >>> is_distant("milvus:/home/me/photos.db/photos")  # a file
    False
    """
    name, _, place = kind.partition(":")
    return name in DISTANT and not getattr(DISTANT[name][1].parse(place), "embedded", False)


def keeps_vectors(kind: str) -> bool:
    """Return whether an engine, as `check_engine` takes it, keeps dense vectors with postings."""
    return kind == "postings" and PostingsEngine.keeps_vectors


def open_engine(kind: str, path: Path, mode: Literal["r", "w"]) -> Engine:
    """Open the engine of a folder by its name, one of `ENGINES` or NAME:PLACE."""
    name, _, place = kind.partition(":")
    if name in DISTANT:
        return DISTANT[name][0](path, mode, place)
    return LuceneEngine(path, mode) if kind == "lucene" else PostingsEngine(path, mode)

"""Engines: inverted indexes behind one small protocol, `lexlip.engines.base.Engine`.

`postings` is our own, on numpy and numba; `lucene` needs Java. Both live in a folder on disk, give
the same integers in the same order, and survive a kill at any moment with the last commit.
Importing this package starts no Java.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from lexlip.engines.base import Engine, Hit
from lexlip.engines.lucene.engine import LuceneEngine
from lexlip.engines.postings.engine import PostingsEngine

__all__ = [
    "ENGINES", "Engine", "Hit", "LuceneEngine", "PostingsEngine", "keeps_vectors", "open_engine",
]  # fmt: skip

ENGINES = ("lucene", "postings")
"""Their names: in manifests, and on the command line."""


def keeps_vectors(kind: str) -> bool:
    """Return whether an engine, one of `ENGINES`, keeps dense vectors beside its postings."""
    return (LuceneEngine if kind == "lucene" else PostingsEngine).keeps_vectors


def open_engine(kind: str, path: Path, mode: Literal["r", "w"]) -> Engine:
    """Open the folder of an engine by the engine's name, one of `ENGINES`."""
    return LuceneEngine(path, mode) if kind == "lucene" else PostingsEngine(path, mode)

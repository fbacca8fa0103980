"""Engines: inverted indexes behind one small protocol, `lexlip.engines.base.Engine`.

`postings` is our own, on numpy and numba; `lucene` needs Java. Both live in a folder on disk, give
the same integers in the same order, and survive a kill at any moment with the last commit.
Importing this package starts no Java.
"""

from __future__ import annotations

from lexlip.engines.base import Engine, Hit
from lexlip.engines.lucene import LuceneEngine
from lexlip.engines.postings import PostingsEngine

__all__ = ["Engine", "Hit", "LuceneEngine", "PostingsEngine"]

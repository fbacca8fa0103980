"""Engines: inverted indexes behind one small protocol, `lexlip.engines.base.Engine`.

`exact` is in memory and needs nothing; `lucene` is durable and needs Java. Importing this
package starts no Java.
"""

from __future__ import annotations

from lexlip.engines.base import Engine, Hit
from lexlip.engines.exact import ExactEngine
from lexlip.engines.lucene import LuceneEngine

__all__ = ["Engine", "ExactEngine", "Hit", "LuceneEngine"]

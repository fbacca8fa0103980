"""Engines to race: one small adapter each, imported only when it runs.

``base`` says what an adapter is, ``worker`` is the process it runs in. To add an engine, write an
adapter and name it here.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from lexlip.errors import LexLIPError

if TYPE_CHECKING:
    from eval.contenders.base import Contender

CONTENDERS = {
    "postings": "eval.contenders.ours:Postings",
    "segment": "eval.contenders.ours:Segment",
    "lucene": "eval.contenders.ours:Lucene",
    "scipy": "eval.contenders.sparse:SciPy",
    "splade-index": "eval.contenders.sparse:SpladeIndex",
    "seismic": "eval.contenders.sparse:Seismic",
    "bmp": "eval.contenders.sparse:BMP",
    "pyserini": "eval.contenders.servers:Pyserini",
    "milvus-lite": "eval.contenders.servers:MilvusLite",
    "numpy": "eval.contenders.dense:NumPy",
    "faiss-flat": "eval.contenders.dense:FaissFlat",
    "faiss-hnsw32": "eval.contenders.dense:FaissHNSW",
}


def contender(name: str) -> type[Contender]:
    """Return an adapter's class by its name, or by its place as ``package.module:Class``.

    Raises
    ------
    LexLIPError
        For an unknown name.
    """
    module, _, attribute = CONTENDERS.get(name, name).partition(":")
    if not attribute:
        raise LexLIPError(f"no engine {name!r}: choose from {', '.join(CONTENDERS)}")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise LexLIPError(f"no engine {name!r} ({error}): check the name") from None

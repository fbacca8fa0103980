"""The race of engines: one small adapter per engine, imported only when it runs.

``base`` defines an adapter, ``worker`` is the process it runs in. To add an engine, write an
adapter and list it here.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from lexlip.errors import LexLIPError

if TYPE_CHECKING:
    from eval.race.base import Contender

CONTENDERS = {
    "postings": "eval.race.ours:Postings",
    "segment": "eval.race.ours:Segment",
    "lucene": "eval.race.ours:Lucene",
    "opensearch": "eval.race.distant:OpenSearch",
    "milvus": "eval.race.distant:Milvus",
    "scipy": "eval.race.sparse:SciPy",
    "splade-index": "eval.race.sparse:SpladeIndex",
    "seismic": "eval.race.sparse:Seismic",
    "bmp": "eval.race.sparse:BMP",
    "pyserini": "eval.race.servers:Pyserini",
    "milvus-lite": "eval.race.servers:MilvusLite",
    "numpy": "eval.race.dense:NumPy",
    "faiss-flat": "eval.race.dense:FaissFlat",
    "faiss-hnsw32": "eval.race.dense:FaissHNSW",
}


def contender(name: str) -> type[Contender]:
    """Return an adapter's class by its name, or by ``package.module:Class``.

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

"""lexlip: find pictures with words, through an inverted index of the words each picture became.

>>> from lexlip import Index, LexLIP
>>> model = LexLIP.from_pretrained("runs/demo/stage2")                      # doctest: +SKIP
>>> index = Index.create("photos.lex", model, "photos/")                    # doctest: +SKIP
>>> index.search("two hearts", k=5)                                        # doctest: +SKIP
[Hit(id='a.png', score=31875), ...]
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lexlip.build.write import Added
    from lexlip.engines.base import Hit
    from lexlip.errors import LexLIPError
    from lexlip.index import Index
    from lexlip.lexicon import Lexicon
    from lexlip.models.config import LexLIPConfig
    from lexlip.models.lexlip import LexLIP
    from lexlip.query.query import Query
    from lexlip.rerank.phases import OrderedHit
    from lexlip.rerank.stage import RerankedHit

__version__ = "0.1.0"
_HOME = {
    "Added": "lexlip.build.write",
    "Hit": "lexlip.engines.base",
    "Index": "lexlip.index",
    "LexLIP": "lexlip.models.lexlip",
    "LexLIPConfig": "lexlip.models.config",
    "LexLIPError": "lexlip.errors",
    "Lexicon": "lexlip.lexicon",
    "OrderedHit": "lexlip.rerank.phases",
    "Query": "lexlip.query.query",
    "RerankedHit": "lexlip.rerank.stage",
}
_NETWORKS = ("LexLIP", "LexLIPConfig")
__all__ = [
    "Added", "Hit", "Index", "LexLIP", "LexLIPConfig", "LexLIPError", "Lexicon", "OrderedHit",
    "Query", "RerankedHit", "__version__",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import on first use: ``import lexlip`` must not cost what torch costs."""
    if name in _HOME:
        import importlib

        from lexlip.errors import require

        if name in _NETWORKS:
            require("torch", "transformers")
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'lexlip' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, which are imported on first use, and loaded packages."""
    found = {name for name, it in globals().items() if isinstance(it, ModuleType)}
    return sorted({*__all__, *found, *(name for name in globals() if name.startswith("__"))})

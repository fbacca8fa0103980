"""lexlip: find pictures with words, through an inverted index of the words each picture became.

>>> from lexlip import Index, LexLIP
>>> model = LexLIP.from_pretrained("runs/demo/stage2")                      # doctest: +SKIP
>>> index = Index.create("photos.lex", model, "photos/")                    # doctest: +SKIP
>>> index.search("two hearts", k=5)                                        # doctest: +SKIP
[Hit(id='a.png', score=31875), ...]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lexlip.errors import LexLIPError
    from lexlip.index import Index
    from lexlip.lexicon import Lexicon
    from lexlip.models.config import LexLIPConfig
    from lexlip.models.lexlip import LexLIP
    from lexlip.query.query import Query

__version__ = "0.1.0"
_HOME = {
    "Index": "lexlip.index",
    "LexLIP": "lexlip.models.lexlip",
    "LexLIPConfig": "lexlip.models.config",
    "LexLIPError": "lexlip.errors",
    "Lexicon": "lexlip.lexicon",
    "Query": "lexlip.query.query",
}
_NETWORKS = ("LexLIP", "LexLIPConfig")
__all__ = ["Index", "LexLIP", "LexLIPConfig", "LexLIPError", "Lexicon", "Query", "__version__"]


def __getattr__(name: str) -> Any:
    """Import on first use: ``import lexlip`` must not cost what torch costs."""
    if name in _HOME:
        import importlib

        from lexlip.errors import require

        if name in _NETWORKS:
            require("torch", "transformers")
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'lexlip' has no attribute {name!r}")

"""Dual encoders (CLIP and its kin): any of them behind `lexlip.models.dual.base.DualEncoder`.

Importing this package loads no torch; `open_dual_encoder` does.
"""

from __future__ import annotations

import os

from lexlip.errors import LexLIPError
from lexlip.models.dual.base import DualEncoder
from lexlip.models.dual.files import KINDS, kind_of


def is_dual_encoder(name: str | os.PathLike[str]) -> bool:
    """Return whether a folder or hub name holds a dual encoder; only JSON files are read."""
    return kind_of(name) is not None


def open_dual_encoder(name: str | os.PathLike[str]) -> DualEncoder:
    """Open a dual encoder.

    Parameters
    ----------
    name : str or path
        A folder, or a name on the hub.

    Raises
    ------
    LexLIPError
        When it is none of the known kinds, is incomplete, or needs a package that is missing.

    Examples
    --------
    >>> encoder = open_dual_encoder("openai/clip-vit-base-patch32")     # doctest: +SKIP
    >>> encoder.embed_text(["a red star"]).shape                        # doctest: +SKIP
    (1, 512)
    """
    kind = kind_of(name)
    if kind == "transformers":
        from lexlip.models.dual.transformers_models import open_transformers

        return open_transformers(name)
    raise LexLIPError(f"no dual encoder at {name}: give a folder or hub name of {KINDS}")

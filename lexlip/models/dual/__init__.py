"""Dual encoders (CLIP and its kin): any of them behind `lexlip.models.dual.base.DualEncoder`.

Importing this package loads no torch; `open_dual_encoder` does.
"""

from __future__ import annotations

import os
import shlex

from lexlip.errors import LexLIPError, require
from lexlip.models.bounds import check_bounds
from lexlip.models.dual.base import DualEncoder
from lexlip.models.dual.files import KINDS, kind_of
from lexlip.models.hub import check_there, snapshot


def is_dual_encoder(name: str | os.PathLike[str]) -> bool:
    """Return whether a folder or hub name holds a dual encoder; only JSON files are read."""
    return kind_of(name) is not None


def refuse_dual_encoder(name: str | os.PathLike[str], pictures: str | None = None) -> None:
    """Say how a dual encoder gets words, where a model with words is needed.

    Parameters
    ----------
    name : str or path
        A folder, or a name on the hub.
    pictures : str, optional
        The pictures to be indexed.

    Raises
    ------
    LexLIPError
        When it is a dual encoder.
    """
    kind = kind_of(name)
    if kind is None:
        return
    old = kind == "lexlip-clip"
    if old:
        what = "was written by an earlier lexlip, whose words found less: renew it with"
    else:
        what = "is a dual encoder without words: give it some with"
    place = os.fspath(name)
    out = shlex.quote(f"{place.rstrip('/').rsplit('/', 1)[-1]}-{'renewed' if old else 'words'}")
    shown = "PICTURES" if pictures is None else shlex.quote(pictures)
    raise LexLIPError(
        f"{name} {what} lexlip lexicalise {shown} --clip {shlex.quote(place)} -o {out}, then use "
        f"{out}"
    )


def open_dual_encoder(
    name: str | os.PathLike[str], revision: str | None = None, precision: str | None = None
) -> DualEncoder:
    """Open a dual encoder.

    One with graphs for onnxruntime is run by it, and needs no torch.

    Parameters
    ----------
    name : str or path
        A folder, or a name on the hub.
    revision : str, optional
        Of a name on the hub that has graphs: a commit, branch or tag.
    precision : str, optional
        Of graphs: see `lexlip.models.dual.onnx_open.open_onnx`.

    Raises
    ------
    LexLIPError
        When it is none of the known kinds, is incomplete, or needs a package that is missing.

    Examples
    --------
    >>> encoder = open_dual_encoder("openai/clip-vit-base-patch32")     # doctest: +SKIP
    >>> encoder.embed_text(["two dogs"]).shape                        # doctest: +SKIP
    (1, 512)
    """
    if revision is not None and not os.path.isdir(name):
        kept = snapshot(os.fspath(name), revision)
        if kind_of(kept) in ("onnx", "immich"):  # the hub need not be asked
            check_bounds(kept)
            from lexlip.models.dual.onnx_open import open_onnx

            opened = open_onnx(kept, None, precision)
            opened.name_or_path, opened.revision = os.fspath(name), revision
            return opened
    kind = kind_of(name, revision)
    if kind is not None:
        check_bounds(name, revision)
    if kind in ("onnx", "immich"):
        from lexlip.models.dual.onnx_open import open_onnx

        return open_onnx(name, revision, precision)
    if kind is not None:
        require("torch", "transformers")
    if kind == "transformers":
        from lexlip.models.dual.transformers_models import open_transformers

        return open_transformers(name)
    if kind == "sentence-transformers":
        from lexlip.models.dual.sentence_models import open_sentence_transformers

        return open_sentence_transformers(name)
    if kind == "open-clip":
        from lexlip.models.dual.open_clip_models import open_open_clip

        return open_open_clip(name)
    if kind == "lexlip-clip":
        from lexlip.models.dual.legacy import open_legacy

        return open_legacy(name)
    check_there(name)
    raise LexLIPError(f"no dual encoder at {name}: give a folder or hub name of {KINDS}")

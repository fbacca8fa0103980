"""The manifest of an index: which model spoke, how its weights became impacts; and what to refuse.

A manifest is JSON in the folder of the index, written once, when the index is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scipy.sparse import csr_array

from lexlip.errors import LexLIPError
from lexlip.impacts import document_impacts, quantisation_error, top_terms, unit_normalise
from lexlip.storage.files import MANIFEST, read_json

if TYPE_CHECKING:
    from lexlip.models.lexlip import LexLIP

FORMAT = "lexlip-index/2"
ORIGIN = ("checkpoint", "model", "vocabulary", "source", "pictures", "max_terms")
"""What `origin` says."""


def origin(model: LexLIP, documents: Any, max_terms: int, checkpoint: Any = None) -> dict[str, Any]:
    """Say where vectors come from.

    Parameters
    ----------
    model : LexLIP
    documents : Collection or mapping
        What the model encodes.
    max_terms : int
        Term budget of a document.
    checkpoint : path, optional
        Where the model came from; what it says itself by default.
    """
    place = getattr(documents, "place", None)
    return {
        "checkpoint": str(Path(checkpoint or model.name_or_path or ".").resolve()),
        "model": model.fingerprint,
        "vocabulary": model.lexicon.hash,
        "source": getattr(documents, "source", "texts"),
        "pictures": None if place is None else place._asdict(),
        "max_terms": max_terms,
    }


def new_manifest(weights: csr_array, origin: Mapping[str, Any], **others: Any) -> dict[str, Any]:
    """Describe a new index.

    Parameters
    ----------
    weights : csr_array [N, V]
        The first documents, as the model encoded them: the scale is fitted to these.
    origin : mapping
        What `origin` says.
    others
        What else the manifest says.

    Returns
    -------
    dict
        With the scale, and what quantising cost these documents.
    """
    impacts, scale = document_impacts(weights, origin["max_terms"])
    unit = unit_normalise(top_terms(weights, origin["max_terms"]))
    return {
        "format": FORMAT,
        **origin,
        "scale": scale,
        "quantisation": quantisation_error(unit, impacts, scale),
        **others,
    }


def is_index(path: Path) -> bool:
    """Say whether there is a manifest in a folder."""
    return (path / MANIFEST).is_file()


def require_index(path: Path) -> None:
    """Raise a LexLIPError where there is no index."""
    if not is_index(path):
        raise LexLIPError(f"no index at {path}: make one with lexlip index PICTURES -o {path}")


def read_manifest(path: Path) -> dict[str, Any]:
    """Read the manifest of an index.

    Raises
    ------
    LexLIPError
        When there is none, it is unreadable, or of another format.
    """
    require_index(path)
    manifest = read_json(path / MANIFEST)
    if manifest.get("format") != FORMAT:
        raise LexLIPError(
            f"{path} has format {manifest.get('format')!r}, this lexlip reads {FORMAT!r}: "
            "build the index again with lexlip index --replace"
        )
    return manifest


def check_model(path: Path, manifest: Mapping[str, Any], model: LexLIP) -> LexLIP:
    """Return the model when it is the one that the index at `path` was built by.

    Raises
    ------
    LexLIPError
        When it is another one.
    """
    for what, mine in (("vocabulary", model.lexicon.hash), ("model", model.fingerprint)):
        if manifest[what] != mine:
            raise LexLIPError(
                f"{path} was built by another {what} ({manifest['checkpoint']}): "
                "give that checkpoint with --model, or build it again with lexlip index "
                "--replace"
            )
    return model

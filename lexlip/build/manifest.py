"""The manifest of an index: its model, its recipe, its scale.

A manifest is JSON in the folder of the index, written once, when the index is created.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scipy.sparse import csr_array

from lexlip.build.recipe import Recipe
from lexlip.errors import LexLIPError
from lexlip.impacts import Lengths, document_impacts, document_rows, quantisation_error
from lexlip.models.fingerprints import check_same
from lexlip.models.speaker import HasVectors, KeepsLengths, bank_of
from lexlip.storage.files import MANIFEST, heal, read_json
from lexlip.storage.remote import check_local
from lexlip.storage.seal import read_sealed

if TYPE_CHECKING:
    from lexlip.models.speaker import Speaker

FORMAT = "lexlip-index/2"
_MOST = 2**24
"""More terms than any vocabulary has."""

_LARGEST = 1e9
"""More than any scale is: 255 over the weight of a heavy word."""
ORIGIN = (
    "checkpoint",
    "model",
    "rounded",
    "precision",
    "vocabulary",
    "source",
    "pictures",
    "said",
    "vector_size",
    "normalise",
    "levels",
)
"""Keys of `origin`."""


def origin(model: Speaker, documents: Any, checkpoint: Any = None) -> dict[str, Any]:
    """Describe where vectors come from.

    Parameters
    ----------
    model : Speaker
    documents : Collection or mapping
        What the model encodes.
    checkpoint : path, optional
        Where the model came from; by default its own name or path.
    """
    place = getattr(documents, "place", None)
    has_vectors = isinstance(model, HasVectors)
    return {
        "checkpoint": place_of(checkpoint or model.name_or_path or "."),
        "model": model.fingerprint,
        "rounded": getattr(model, "rounded", None),
        "precision": getattr(model, "precision", None),
        "vocabulary": model.lexicon.hash,
        "source": getattr(documents, "source", "texts"),
        "pictures": None if place is None else place._asdict(),
        "said": len(model.lexicon.tokens) if has_vectors else None,
        "vector_size": model.vector_size if isinstance(model, HasVectors) else 0,
        "normalise": _lengths(model),
        "levels": bank_digest(model),
    }


def _lengths(model: Speaker) -> Lengths:
    """Return how the lengths of a speaker's documents count."""
    if bank_of(model) is not None:
        return "kept"
    kept = isinstance(model, KeepsLengths) and model.keeps_lengths
    return not (kept or isinstance(model, HasVectors))


def bank_digest(model: Speaker) -> str | None:
    """Return the sha256 of the bank that levels a speaker's documents; None without one."""
    bank = bank_of(model)
    return None if bank is None else bank.digest


def check_levels(path: Path, manifest: Mapping[str, Any], model: Speaker) -> Speaker:
    """Return the model if it gives documents the lengths that those of an index have.

    Raises
    ------
    LexLIPError
        When its bank is another one, or is missing, or is new.
    """
    if manifest.get("levels") != bank_digest(model):
        raise LexLIPError(
            f"{path} was built with other levels (the folder levels of {manifest['checkpoint']}): "
            "put that folder back, or build it again with lexlip index --replace"
        )
    return model


OWN_WORDS = "words"
"""Folder of an index with a word list in place of a model; `checkpoint` is ``./words`` then."""


def checkpoint_of(path: Path, manifest: Mapping[str, Any]) -> str:
    """Return where the model of the index at `path` is loaded from."""
    name = str(manifest["checkpoint"])
    return str(path / OWN_WORDS) if name == f"./{OWN_WORDS}" else name


def place_of(checkpoint: Any) -> str:
    """Return where a model can be loaded from, from any folder: an absolute path, or its name."""
    path = Path(checkpoint)
    return str(path.resolve() if path.exists() else checkpoint)


def new_manifest(weights: csr_array, origin: Mapping[str, Any], recipe: Recipe) -> dict[str, Any]:
    """Describe a new index.

    Parameters
    ----------
    weights : csr_array [N, V]
        The first documents, as the model encoded them: the scale is fitted to them.
    origin : mapping
        The facts of `origin`.
    recipe : Recipe

    Returns
    -------
    dict
        With the scale, and the quantisation error of these documents.
    """
    normalise = normalises(origin)
    impacts, scale = document_impacts(weights, recipe.max_terms, normalise=normalise)
    rows = document_rows(weights, recipe.max_terms, normalise)
    return {
        "format": FORMAT,
        **origin,
        "vector_size": 0 if recipe.vectors == "no" else origin.get("vector_size") or 0,
        **recipe.facts(),
        "scale": scale,
        "quantisation": quantisation_error(rows, impacts, scale),
    }


def has_said(manifest: Mapping[str, Any]) -> bool:
    """Return whether words are said of the documents, beside those that find them.

    So it is for a speaker with vectors.
    """
    return manifest.get("said") is not None


def normalises(manifest: Mapping[str, Any]) -> Lengths:
    """Return whether documents are brought to length one, so that scores are cosines.

    Not those of a speaker with vectors, or of one that was trained with the plain product
    (`lexlip.models.speaker.KeepsLengths`). Those of a speaker with a bank keep the length that it
    gives them (`lexlip.models.levels`).
    """
    found = manifest.get("normalise", not has_said(manifest))
    return "kept" if found == "kept" else bool(found)


def is_index(path: Path) -> bool:
    """Return whether a folder holds the manifest of an index.

    One that a killed replacement had moved aside is put back first.
    """
    heal(path)
    return (path / MANIFEST).is_file()


def check_outside(path: Path) -> None:
    """Refuse a place inside of an index, whose files are its own.

    Raises
    ------
    LexLIPError
        When a folder above it is an index.
    """
    for place in (path.resolve(), path.parent.resolve() / path.name):
        for folder in place.parents:
            if _is_manifest(folder / MANIFEST):
                raise LexLIPError(f"{path} is inside of the index {folder}: give another place")


def _is_manifest(path: Path) -> bool:
    """Return whether a file is the manifest of an index, of any version."""
    if not os.path.isfile(path):
        return False
    try:
        found = read_json(path)
    except (LexLIPError, OSError):
        return False
    return isinstance(found, dict) and str(found.get("format")).startswith("lexlip-index/")


def has_own_words(manifest: Mapping[str, Any]) -> bool:
    """Return whether an index was imported without a model: its folder has its vocabulary."""
    return bool(manifest["checkpoint"] == f"./{OWN_WORDS}")


def require_index(path: Path) -> None:
    """Raise a LexLIPError where there is no index."""
    check_local(path)
    if not is_index(path):
        raise LexLIPError(f"no index at {path}: make one with lexlip index PICTURES -o {path}")


def read_manifest(path: Path) -> dict[str, Any]:
    """Read the manifest of an index.

    Raises
    ------
    LexLIPError
        When it is missing, unreadable, or of another format.
    """
    require_index(path)
    manifest = read_sealed(path / MANIFEST)
    if manifest.get("format") != FORMAT:
        raise LexLIPError(
            f"{path} has format {manifest.get('format')!r:.40}, this lexlip reads {FORMAT!r}: "
            "build the index again with lexlip index --replace"
        )
    try:
        wrong = _absurd(manifest)
        Recipe.of(manifest)
    except LexLIPError as error:
        wrong = str(error)
    if wrong:
        raise LexLIPError(f"{path / MANIFEST} is damaged ({wrong}): restore it, or build anew")
    return manifest


def _absurd(manifest: Mapping[str, Any]) -> str | None:
    """Return what no index has, in words, None where all is as it may be."""
    for name in ("checkpoint", "model", "vocabulary", "engine"):
        if not isinstance(manifest.get(name), str):
            return f"{name} is {manifest.get(name)!r:.40}"
    scale, most = manifest.get("scale"), manifest.get("max_terms")
    if type(scale) not in (int, float) or not 0 < scale < _LARGEST:  # type: ignore[operator]
        return f"scale is {scale!r:.40}"
    for name, number, least in (
        ("max_terms", most, 1),
        ("vector_size", manifest.get("vector_size") or 0, 0),
        ("said", manifest.get("said") or 0, 0),
    ):
        if type(number) is not int or not least <= number <= _MOST:
            return f"{name} is {number!r:.40}"
    place = manifest.get("pictures")
    if place is not None and not _is_place(place):
        return f"pictures is {place!r:.40}"
    return None


def _is_place(place: Any) -> bool:
    """Say whether this is where pictures came from: a path, and the split of a data set."""
    return (
        isinstance(place, dict)
        and isinstance(place.get("path"), str)
        and isinstance(place.get("split"), str | None)
        and set(place) <= {"path", "split"}
    )


def check_model(path: Path, manifest: Mapping[str, Any], model: Speaker) -> Speaker:
    """Return the model if it built the index at `path`.

    Raises
    ------
    LexLIPError
        When another model built it.
    """
    advice = "give that checkpoint with --model, or build it again with lexlip index --replace"
    if manifest["vocabulary"] != model.lexicon.hash:
        raise LexLIPError(
            f"{path} was built by another vocabulary ({manifest['checkpoint']}): {advice}"
        )
    check_same(path, manifest, model, advice)
    return model

"""A demonstration: drawn pictures, and an index of them by the model that the package ships."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from platformdirs import user_cache_path

from lexlip.build.manifest import is_index, read_manifest
from lexlip.data.scenes import make_scenes
from lexlip.errors import LexLIPError
from lexlip.index import Index
from lexlip.models.shipped import SHIPPED, load_shipped
from lexlip.storage.files import MANIFEST, atomic_directory, read_json, write_json

if TYPE_CHECKING:
    from lexlip.models.exported import ExportedLexLIP

SCENES, SEED, SIZE = 500, 1, 256
"""Pictures that the model has not seen, the seed that they are drawn with, and their side in
pixels: the model reads 64, and finds as much in those that are drawn larger."""

QUERIES = ("a heart in the snow", "red + moon -night", "two hearts")
"""Queries that show what a search can do."""


def demonstration(folder: Path | None = None) -> Path:
    """Return an index of drawn pictures; they are drawn and indexed where they were not yet.

    Parameters
    ----------
    folder : Path, optional
        Where pictures and index lie; by default in the user's cache folder.

    Raises
    ------
    LexLIPError
        When the shipped model is corrupted, or the folder cannot be written.
    """
    home = folder or user_cache_path("lexlip", appauthor=False) / "demo"
    pictures, index = home / "demo-pictures", home / "demo.lex"
    facts = {"kind": "demo", "scenes": SCENES, "seed": SEED, "size": SIZE}
    drawn = (pictures / MANIFEST).is_file() and read_json(pictures / MANIFEST) == facts
    if not drawn:
        with atomic_directory(pictures) as new:
            for number, scene in enumerate(make_scenes(SCENES, SEED)):
                scene.draw(SIZE).save(new / f"{number:03}.png", compress_level=1)
            write_json(new / MANIFEST, facts)
    model = load_shipped()
    if not (drawn and _is_of(model, index)):
        try:
            Index.create(
                index, model, pictures, engine="postings", checkpoint=SHIPPED,
                replace=is_index(index),
            ).close()  # fmt: skip
        except LexLIPError:
            if not _is_of(model, index):  # else another process has just made it
                raise
    return index


def _is_of(model: ExportedLexLIP, index: Path) -> bool:
    """Say whether there is an index by the model that this version of the package ships."""
    try:
        return is_index(index) and read_manifest(index)["model"] == model.fingerprint
    except LexLIPError:
        return False

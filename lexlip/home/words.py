"""Models for folders: one that has words already, or a dual encoder that is given some."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lexlip.build.progress import current
from lexlip.data.collection import Collection
from lexlip.errors import LexLIPError
from lexlip.home.remembering import Remembering
from lexlip.models import default, load
from lexlip.models.dual import is_dual_encoder, open_dual_encoder
from lexlip.models.speaker import Speaker
from lexlip.storage.files import atomic_directory

SAMPLE = 512
"""Pictures that the words are fitted to, at most."""

Say = Callable[[str], Any]


def speaker_for(
    pictures: Sequence[Collection], model: str | None, target: Path, say: Say
) -> tuple[Speaker, str]:
    """Return a model with words for some pictures, and the checkpoint that an index names.

    A dual encoder is given a lexicon that fits a sample of the pictures; the lexicon is kept at
    `target`, the encoder stays where it is.

    Parameters
    ----------
    pictures : sequence of Collection
        Of each folder.
    model : str, optional
        Folder or hub name; None for the default model.
    target : Path
    say : callable
        Is told what takes a while.

    Raises
    ------
    LexLIPError
        When there is no such model, or no picture that can be read.
    """
    if (target / "config.json").is_file():  # of a build that was interrupted
        return load(target), str(target)
    if model is not None and not is_dual_encoder(model):
        return load(model), model
    place: dict[str, Any] | None = None
    if model is None:
        place = dict(default.DEFAULT.place)
        encoder = open_dual_encoder(default.fetch(say=say), precision=place["precision"])
    else:
        encoder = open_dual_encoder(model)
    return _lexicalised(Remembering(encoder), pictures, target, place, say), str(target)


def _lexicalised(
    encoder: Any,
    pictures: Sequence[Collection],
    target: Path,
    place: dict[str, Any] | None,
    say: Say,
) -> Speaker:
    from lexlip.models.lexical.lexicalise import lexicalise

    sample = [_some(collection, SAMPLE // len(pictures)) for collection in pictures]
    count = sum(map(len, sample))
    say(f"choosing words for your pictures, by {count} of them (once)")
    vectors = [np.zeros((0, encoder.width), np.float32)]
    told = current()
    told.begin(count, "picture")
    try:
        for collection in sample:
            skipped: list[tuple[str, str]] = []
            seen = collection.batches(
                32, skipped, lambda photo: encoder.prepare_image(photo.image), encoder.image_side
            )
            for _, images in seen:
                vectors.append(encoder.embed_image(images))
                told.advance(len(images))
            told.advance(len(skipped))
    finally:
        told.end()
    seen_vectors = np.concatenate(vectors)
    if not len(seen_vectors):
        raise LexLIPError(f"no picture of {pictures[0].source} can be read: {skipped[0][1]}")
    speaker = lexicalise(encoder, seen_vectors)
    if place is not None:
        speaker.facts["encoder"] = place
    with atomic_directory(target, marker="config.json") as folder:
        speaker.save_pretrained(folder, copy_encoder=False)
    speaker.name_or_path = str(target)
    return speaker


def _some(collection: Collection, count: int) -> Collection:
    """Return pictures from all over a collection."""
    step = max(1, -(-len(collection) // max(1, count)))
    return collection.select(range(0, len(collection), step))

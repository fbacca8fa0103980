"""The ``lexlip lexicalise`` command: a lexicon for a CLIP, without training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lexlip.cli.app import app
from lexlip.cli.common import readable
from lexlip.errors import LexLIPError
from lexlip.models.runtime import quiet

SAMPLE = 500
"""Pictures whose mean is taken; its error is then a twentieth of the pictures' spread."""


@app.command()
@readable
def lexicalise(
    pictures: Annotated[str, typer.Argument(help="a sample of the pictures to be searched")],
    out: Annotated[Path, typer.Option("-o", "--out", help="folder of the new checkpoint")],
    clip: Annotated[str, typer.Option(help="transformers CLIPModel: folder or hub name")],
    words: Annotated[
        Path | None,
        typer.Option(help="the lexicon, a word per line; by default CLIP's own words"),
    ] = None,
    size: Annotated[int, typer.Option(min=1, help="number of CLIP's own words to take")] = 8000,
    split: Annotated[str | None, typer.Option(help="split of a data set")] = None,
) -> None:
    """Give a CLIP a lexicon: lexlip lexicalise photos/ --clip openai/clip-vit-base-patch32 -o CKPT.

    Nothing is trained. Use the checkpoint like any other: lexlip index photos/ -m CKPT.
    """
    from lexlip.data.collection import load_collection
    from lexlip.models.lexical_clip import lexicalise as give_words
    from lexlip.storage.files import atomic_directory, check_replaceable

    check_replaceable(out, "config.json")
    collection = load_collection(pictures, split)
    try:
        chosen = None if words is None else words.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise LexLIPError(f"cannot read {words}: give a text file of words, in UTF-8") from error
    quiet()
    step = max(1, len(collection) // SAMPLE)
    skipped: list[tuple[str, str]] = []
    sample = collection.select(range(0, len(collection), step))
    shown = [image for _, images in sample.batches(32, skipped) for image in images]
    captions = [text for texts in sample.captions for text in texts[:1]]
    model = give_words(clip, shown, chosen, captions, size=size)
    with atomic_directory(out, marker="config.json") as folder:
        model.save_pretrained(folder)
    typer.echo(f"{out}: {len(model.lexicon)} words, means of {len(shown)} pictures")

"""The ``lexlip lexicalise`` command: a lexicon for a dual encoder, without training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from lexlip.cli.app import app
from lexlip.cli.common import Device, one_line, readable
from lexlip.errors import LexLIPError
from lexlip.models.lexical.words import SIZE
from lexlip.models.runtime import quiet, use_device

SAMPLE = 1000
"""Pictures that the words are fitted to, at most."""

FEW = 100
"""Pictures below which a line says that the fit is loose."""


@app.command()
@readable
def lexicalise(
    pictures: Annotated[str, typer.Argument(help="a sample of the pictures to be searched")],
    out: Annotated[Path, typer.Option("-o", "--out", help="folder of the new checkpoint")],
    clip: Annotated[str, typer.Option(help="dual encoder (CLIP or kin): folder or hub name")],
    words: Annotated[
        Path | None,
        typer.Option(help="the lexicon, a word or name per line; by default everyday words"),
    ] = None,
    captions: Annotated[
        Path | None,
        typer.Option(
            help="texts as people will ask, one per line; by default captions of PICTURES "
            "where there are some, else lexlip's own"
        ),
    ] = None,
    language: Annotated[
        list[str] | None,
        typer.Option(help="of the words and texts: en, de, zh ...; may be given several times"),
    ] = None,
    size: Annotated[int, typer.Option(min=1, help="number of everyday words to take")] = SIZE,
    device: Device = None,
    split: Annotated[str | None, typer.Option(help="split of a data set")] = None,
) -> None:
    """Give a CLIP a lexicon: lexlip lexicalise photos/ --clip openai/clip-vit-base-patch32 -o CKPT.

    Nothing is trained. Use the checkpoint like any other: lexlip index photos/ -m CKPT.
    """
    from lexlip.data.collection import load_collection
    from lexlip.models.dual import open_dual_encoder
    from lexlip.models.lexical.lexicalise import lexicalise as give_words
    from lexlip.storage.files import atomic_directory, check_replaceable

    use_device(device)
    check_replaceable(out, "config.json")
    chosen = None if words is None else _lines(words, "words")
    asked = None if captions is None else _lines(captions, "texts")
    collection = load_collection(pictures, split)
    quiet()
    step = max(1, len(collection) // SAMPLE)
    skipped: list[tuple[str, str]] = []
    sample = collection.select(range(0, len(collection), step))
    encoder = open_dual_encoder(clip)
    seen = sample.batches(
        32, skipped, lambda photo: encoder.prepare_image(photo.image), encoder.image_side
    )
    vectors = [encoder.embed_image(images) for _, images in seen if images]
    if asked is None:
        asked = [text for texts in sample.captions for text in texts[:1]] or None
    shown = np.concatenate([np.zeros((0, encoder.width), np.float32), *vectors])
    speaker = give_words(encoder, shown, chosen, asked, size=size, languages=language)
    with atomic_directory(out, marker="config.json") as folder:
        speaker.save_pretrained(folder)
    facts = speaker.facts
    typer.echo(
        f"{one_line(str(out))}: {len(speaker.code):,} words, fitted to {facts['pictures']:,} "
        f"pictures and {facts['texts']:,} texts"
    )
    if skipped:
        typer.echo(
            one_line(f"{len(skipped)} pictures were skipped ({skipped[0][0]}: {skipped[0][1]})"),
            err=True,
        )
    if facts["pictures"] < FEW:
        typer.echo(
            f"{facts['pictures']} pictures are few: give {FEW} or more, and the words fit better",
            err=True,
        )


def _lines(file: Path, what: str) -> list[str]:
    """Return the lines of a text file that are not blank."""
    try:
        found = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise LexLIPError(f"cannot read {file}: give a text file of {what}, in UTF-8") from error
    return [line for line in found if line]

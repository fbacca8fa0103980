"""The command ``lexlip compare``: dense vectors for the page to show side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lexlip.cli.app import app
from lexlip.cli.console import one_line, readable, said_once
from lexlip.models.runtime import quiet


@app.command()
@readable
def compare(
    path: Annotated[Path, typer.Argument(metavar="INDEX")],
    dense: Annotated[
        str, typer.Option(help="checkpoint of a dense dual encoder, or of lexlip lexicalise")
    ],
    pictures: Annotated[
        str | None, typer.Option(help="where the pictures are, if moved: folder, table, data set")
    ] = None,
    split: Annotated[str | None, typer.Option(help="split of that data set")] = None,
) -> None:
    """Keep dense vectors with an index: lexlip compare photos.lex --dense CHECKPOINT.

    lexlip serve then shows the hits of exact search with them, side by side.
    """
    from lexlip.data.originals import Originals
    from lexlip.index import Index
    from lexlip.measure.systems import DENSE, DenseVectors

    quiet()
    with Index.open(path) as opened:
        originals = Originals.of(path, opened.manifest)
        if pictures is not None or split is not None:
            originals = originals.at(pictures, split)
        count, skipped = DenseVectors.create(opened, dense, originals)
        missing = len(opened) - count - len(skipped)
    for reason in said_once(reason for _, reason in skipped):
        typer.echo(f"skipped: {one_line(reason)}", err=True)
    if missing:
        where = one_line(str(originals.path))
        typer.echo(f"skipped: {missing} pictures that are not in {where}", err=True)
    typer.echo(
        f"{one_line(str(path / DENSE))}: {count} pictures ({missing + len(skipped)} skipped)"
    )

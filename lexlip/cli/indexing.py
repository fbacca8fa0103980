"""Indexing commands: ``lexlip index``, ``delete``, ``compact``, ``stats`` and ``check``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from lexlip.build.recipe import Recipe
from lexlip.cli.app import app
from lexlip.cli.common import load, one_line, readable
from lexlip.console import with_options
from lexlip.errors import LexLIPError
from lexlip.models.dual import refuse_dual_encoder
from lexlip.models.runtime import quiet


@app.command()
@readable
@with_options(Recipe, "Of a new index")
def index(
    source: Annotated[
        str, typer.Argument(help="folder of pictures, picture, CSV, parquet or data set name")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="folder of the index")],
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="checkpoint, for a new index"),
    ] = None,
    split: Annotated[str | None, typer.Option(help="split of a data set")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="overwrite an existing index")] = False,
    **options: Any,
) -> None:
    """Turn pictures into words and write an index: lexlip index photos/ -o photos.lex -m CKPT.

    If the index exists, new and changed pictures are added to it; an interrupted build goes on.
    """
    from lexlip.build.manifest import is_index
    from lexlip.index import Index

    recipe = Recipe(**options)  # a wrong option is an error before a model is loaded
    if model is not None:
        refuse_dual_encoder(model, pictures=source)
    if replace or not is_index(out):
        if model is None:
            raise LexLIPError("which model? lexlip index SOURCE -o INDEX --model CHECKPOINT")
        built = Index.create(
            out, load(model), source, recipe, split=split, checkpoint=model, replace=replace
        )
        skipped, news = built.skipped, ""
    else:
        quiet()
        built = Index.open(out, load(model), mode="w")
        done = built.add(source, split=split)
        skipped, news = done.skipped, f"{done.written} new, {done.unchanged} unchanged; "
    with built:
        facts = built.stats()
    kept = " (its old version stays)" if news else ""
    for _, reason in skipped:
        typer.echo(f"skipped{kept}: {one_line(reason)}", err=True)
    typer.echo(
        f"{out}: {news}{facts['documents']} pictures ({len(skipped)} skipped), "
        f"{facts['terms_per_image']:.1f} terms and {facts['bytes_per_image']:.0f} bytes each"
    )


@app.command()
@readable
def delete(
    path: Annotated[Path, typer.Argument(metavar="INDEX")],
    ids: Annotated[list[str], typer.Argument(help="as search prints them")],
) -> None:
    """Delete pictures from an index by id: lexlip delete photos.lex trip/a.jpg."""
    from lexlip.index import Index

    with Index.open(path, mode="w") as opened:
        typer.echo(f"{path}: {opened.delete(ids)} deleted, {len(opened)} left")


@app.command()
@readable
def compact(path: Annotated[Path, typer.Argument(metavar="INDEX")]) -> None:
    """Merge an index and drop deleted and replaced documents."""
    from lexlip.index import Index

    with Index.open(path, mode="w") as opened:
        before = opened.stats()["bytes"]
        opened.compact()
        typer.echo(f"{path}: {before} bytes before, {opened.stats()['bytes']} after")


@app.command()
@readable
def stats(path: Annotated[Path, typer.Argument(metavar="INDEX")]) -> None:
    """Print the statistics and the manifest of an index, as JSON."""
    from lexlip.index import Index

    with Index.open(path) as opened:
        typer.echo(json.dumps(opened.stats(), indent=2))


@app.command()
@readable
def check(path: Annotated[Path, typer.Argument(metavar="INDEX")]) -> None:
    """Read all of an index and verify every checksum."""
    from lexlip.index import Index

    with Index.open(path) as opened:
        damaged = opened.check()
    if damaged:
        raise LexLIPError(f"{path} is corrupted ({', '.join(damaged[:3])}): build it again")
    typer.echo(f"{path}: every file is sound")

"""Interchange commands: ``lexlip export`` and ``lexlip import``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lexlip.cli.app import app
from lexlip.cli.common import load, load_speaker, one_line, readable
from lexlip.errors import LexLIPError
from lexlip.models.runtime import quiet

_BY_NAME = {
    ".jsonl": "anserini", ".jsonl.gz": "anserini", ".npz": "npz", ".ciff": "ciff",
    ".ciff.gz": "ciff",
}  # fmt: skip


@app.command()
@readable
def export(
    path: Annotated[Path, typer.Argument(metavar="INDEX")],
    out: Annotated[Path, typer.Option("-o", "--out", help="file to write; of opensearch a folder")],
    format: Annotated[
        str | None,
        typer.Option(help="anserini, ciff, npz or opensearch; by default by the name of -o"),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="checkpoint, if it was moved")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="overwrite what is there")] = False,
) -> None:
    """Write vectors for other programs: lexlip export photos.lex -o photos.jsonl.

    JSON lines as Anserini and pyserini read them, CIFF, a numpy archive, or bodies for OpenSearch.
    Ids, words with their impacts and, except in CIFF, metadata.
    """
    from lexlip.exchange import export as export_index
    from lexlip.index import Index

    kind = format or next((it for end, it in _BY_NAME.items() if out.name.endswith(end)), None)
    if kind is None:
        raise LexLIPError(
            f"{out} says no format by its name: give --format anserini, ciff, npz ..."
        )
    quiet()
    with Index.open(path, load_speaker(path, model, "auto", True)) as opened:
        done = export_index(opened, out, kind, replace=replace)
    for line in done.said:
        typer.echo(one_line(line), err=True)
    typer.echo(f"{one_line(str(out))}: {done.documents:,} documents, {kind}")


@app.command("import")
@readable
def import_(
    source: Annotated[
        Path, typer.Argument(help=".jsonl of Anserini, also gzipped or a folder; .npz; .ciff")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="folder of the index")],
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="checkpoint whose words they are; without, queries are words"
        ),
    ] = None,
    format: Annotated[
        str | None, typer.Option(help="anserini, npz or ciff; by default by the name of SOURCE")
    ] = None,
    engine: Annotated[
        str,
        typer.Option(help="postings, lucene (needs Java >= 21), opensearch:PLACE or milvus:PLACE"),
    ] = "postings",
    skip_wrong: Annotated[
        bool, typer.Option("--skip-wrong", help="leave out documents that cannot be read")
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="overwrite an existing index")] = False,
) -> None:
    """Make an index of vectors from elsewhere: lexlip import vectors.jsonl -o their.lex -m CKPT.

    Everything is checked first. Without -m the words of the file are the vocabulary, and a query
    is words: lexlip search their.lex 'dog^3 beach^1'.
    """
    from lexlip.exchange import import_vectors

    loaded = load(model)
    index, done = import_vectors(
        out, source, loaded,
        format=format, engine=engine, skip_wrong=skip_wrong, replace=replace, checkpoint=model,
    )  # fmt: skip
    with index:
        facts = index.stats()
    for line in done.lines():
        typer.echo(one_line(line), err=True)
    typer.echo(
        f"{one_line(str(out))}: {facts['documents']:,} documents, "
        f"{facts['terms_per_image']:.1f} terms and {facts['bytes_per_image']:.0f} bytes each"
    )

"""The command line: ``lexlip index``, ``lexlip search``, ``lexlip words``, ``lexlip doctor``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lexlip.errors import LexLIPError

app = typer.Typer(no_args_is_help=True, add_completion=True, help="Find pictures with words.")
Checkpoint = Annotated[str, typer.Option("--model", "-m", help="checkpoint folder or hub name")]


def _readable(command: Callable[..., None]) -> Callable[..., None]:
    """Print a LexLIPError as one line and exit with 2."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except LexLIPError as error:
            typer.echo(f"lexlip: {error}", err=True)
            raise typer.Exit(2) from None

    return wrapped


def _load(checkpoint: str | None) -> Any:
    """Load a model without transformers' chatter; None leaves that to the index."""
    from transformers.utils import logging

    from lexlip.model import LexLIP

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return None if checkpoint is None else LexLIP.from_pretrained(checkpoint)


def _picture_or_text(item: str) -> Path | str:
    """A path that exists, or looks like a picture's, is a picture; anything else is a text."""
    from lexlip.data.images import SUFFIXES

    path = Path(item)
    try:
        exists = path.is_file()
    except OSError:  # a text too long to be a name
        exists = False
    return path if exists or path.suffix.lower() in SUFFIXES else item


@app.command()
@_readable
def index(
    source: Annotated[
        str, typer.Argument(help="folder of pictures, CSV, parquet or data set name")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="folder of the new index")],
    model: Checkpoint,
    split: Annotated[str | None, typer.Option(help="split of a data set")] = None,
    max_terms: Annotated[int, typer.Option(help="terms kept of a picture")] = 64,
    engine: Annotated[str, typer.Option(help="lucene, or exact (no Java)")] = "lucene",
) -> None:
    """Turn pictures into words and write an index: lexlip index photos/ -o photos.lex -m CKPT."""
    from lexlip.index import Index

    built = Index.create(
        out, _load(model), source, max_terms=max_terms, engine=engine, split=split, checkpoint=model
    )
    facts = built.manifest
    for line in (out / "skipped.txt").read_text().splitlines():
        typer.echo(f"skipped: {line}", err=True)
    typer.echo(
        f"{out}: {facts['documents']} pictures ({facts['skipped']} skipped), "
        f"{facts['terms_per_image']:.1f} terms and {facts['bytes_per_image']:.0f} bytes each"
    )


@app.command()
@_readable
def search(
    path: Annotated[Path, typer.Argument(metavar="INDEX")],
    text: Annotated[str, typer.Argument(help="what to look for")] = "",
    image: Annotated[Path | None, typer.Option(help="search with a picture instead")] = None,
    k: Annotated[int, typer.Option("-k", help="how many pictures")] = 10,
    model: Annotated[str | None, typer.Option("--model", "-m", help="checkpoint, if moved")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object")] = False,
) -> None:
    """Search an index: lexlip search photos.lex "a dog on a beach" -k 5."""
    from lexlip.index import Index

    if not text.strip() and image is None:
        raise LexLIPError('the query is empty: lexlip search INDEX "a red circle"')
    if not (path / "manifest.json").is_file():
        raise LexLIPError(f"no index at {path}: make one with lexlip index PICTURES -o {path}")
    with Index.open(path, _load(model)) as opened:
        terms = opened.query(image if image is not None else text)
        hits = opened.search(terms, k)
        words = opened.words(terms)
    if as_json:
        found = [{"rank": i, "id": h.id, "score": h.score} for i, h in enumerate(hits, 1)]
        typer.echo(json.dumps({"query": dict(words), "hits": found}))
        return
    if not words:
        typer.echo("nothing found: no word of the query is in the model's lexicon")
        return
    console = Console()
    console.print(
        "query: " + " ".join(f"{word}:{weight}" for word, weight in words[:12]), style="dim"
    )
    if not hits:
        typer.echo("nothing found: no picture has any of these words")
    table = Table("rank", "score", "picture", box=None)
    for rank, hit in enumerate(hits, 1):
        table.add_row(str(rank), str(hit.score), escape(hit.id))
    console.print(table)


@app.command()
@_readable
def words(
    item: Annotated[str, typer.Argument(help="a picture's path or a text")],
    model: Checkpoint,
    k: Annotated[int, typer.Option("-k", help="how many words")] = 20,
) -> None:
    """Show the words a picture or a text becomes: lexlip words cat.jpg -m CKPT."""
    if not item.strip():
        raise LexLIPError('the text is empty: lexlip words "a red circle" -m CKPT')
    found = _load(model).words_of(_picture_or_text(item), k)
    if not found:
        typer.echo("no words: nothing of it is in the model's lexicon")
        return
    width = found[0][1]
    for word, weight in found:
        typer.echo(f"{weight:7.3f}  {word:<20} {'#' * round(30 * weight / width)}")


@app.command()
@_readable
def doctor() -> None:
    """Say what is installed and which Java is used, with a fix for what is missing."""
    import importlib.metadata as metadata

    for package in ("lexlip", "torch", "transformers", "pyserini", "pyjnius"):
        try:
            typer.echo(f"{package:<14}{metadata.version(package)}")
        except metadata.PackageNotFoundError:
            typer.echo(f"{package:<14}missing: pip install {package}")
    typer.echo(f"{'python':<14}{sys.version.split()[0]}")
    typer.echo(f"{'offline':<14}{'yes' if os.environ.get('HF_HUB_OFFLINE') == '1' else 'no'}")
    from lexlip.java import find_java

    typer.echo(f"{'java':<14}{find_java()}")


if __name__ == "__main__":
    app()

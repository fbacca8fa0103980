"""The command line: ``lexlip index``, ``search``, ``words``, ``stats`` and what keeps an index."""

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


def _quiet() -> None:
    """Keep transformers from chattering while it loads."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _load(checkpoint: str | None) -> Any:
    """Load a model; None leaves that to the index."""
    if checkpoint is None:
        return None
    from lexlip.model import LexLIP

    _quiet()
    return LexLIP.from_pretrained(checkpoint)


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
        str, typer.Argument(help="folder of pictures, picture, CSV, parquet or data set name")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="folder of the index")],
    model: Annotated[str | None, typer.Option("--model", "-m", help="checkpoint")] = None,
    split: Annotated[str | None, typer.Option(help="split of a data set")] = None,
    max_terms: Annotated[int, typer.Option(help="terms kept of a picture")] = 64,
    engine: Annotated[str, typer.Option(help="lucene, or postings (no Java)")] = "lucene",
    replace: Annotated[bool, typer.Option("--replace", help="build it anew")] = False,
    keep_floats: Annotated[
        bool, typer.Option("--keep-floats", help="of a new index: for search --rescore")
    ] = False,
) -> None:
    """Turn pictures into words and write an index: lexlip index photos/ -o photos.lex -m CKPT.

    Where the index is there already, new and changed pictures are added to it; an interrupted
    build goes on.
    """
    from lexlip.index import Index

    if replace or not _is_index(out):
        if model is None:
            raise LexLIPError("which model? lexlip index SOURCE -o INDEX --model CHECKPOINT")
        built = Index.create(
            out, _load(model), source, split=split, max_terms=max_terms, engine=engine,
            checkpoint=model, replace=replace, keep_floats=keep_floats,
        )  # fmt: skip
        skipped, news = built.skipped, ""
    else:
        _quiet()
        built = Index.open(out, _load(model), mode="w")
        done = built.add(source, split=split)
        skipped, news = done.skipped, f"{done.written} new, {done.unchanged} unchanged; "
    with built:
        facts = built.stats()
    kept = " (what the index held of it stays)" if news else ""
    for _, reason in skipped:
        typer.echo(f"skipped{kept}: {reason}", err=True)
    typer.echo(
        f"{out}: {news}{facts['documents']} pictures ({len(skipped)} skipped), "
        f"{facts['terms_per_image']:.1f} terms and {facts['bytes_per_image']:.0f} bytes each"
    )


def _is_index(path: Path) -> bool:
    return (path / "manifest.json").is_file()


@app.command()
@_readable
def search(
    path: Annotated[Path, typer.Argument(metavar="INDEX")],
    text: Annotated[str, typer.Argument(help="what to look for")] = "",
    image: Annotated[Path | None, typer.Option(help="search with a picture instead")] = None,
    k: Annotated[int, typer.Option("-k", help="how many pictures")] = 10,
    where: Annotated[
        str | None, typer.Option(help='only pictures with such metadata: "year >= 2020"')
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="the words of each hit")] = False,
    query_terms: Annotated[int, typer.Option(help="words kept of the query")] = 64,
    rescore: Annotated[
        int, typer.Option(min=0, help="order the best so many by exact cosine (--keep-floats)")
    ] = 0,
    model: Annotated[str | None, typer.Option("--model", "-m", help="checkpoint, if moved")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object")] = False,
) -> None:
    """Search an index: lexlip search photos.lex "a dog on a beach" -k 5."""
    from lexlip.index import Index

    if not text.strip() and image is None:
        raise LexLIPError('the query is empty: lexlip search INDEX "a red circle"')
    if not _is_index(path):
        raise LexLIPError(f"no index at {path}: make one with lexlip index PICTURES -o {path}")
    _quiet()
    with Index.open(path, _load(model)) as opened:
        item = image if image is not None else text
        terms = opened.query(item, query_terms)
        hits = opened.search(item if rescore else terms, k, where, rescore, query_terms)
        words = opened.words(terms)
        reasons = [opened.explain(hit.id, terms) if explain else [] for hit in hits]
    if as_json:
        found = [
            {"rank": rank, "id": hit.id, "score": hit.score}
            | ({"words": {c.word: c.score for c in reason}} if explain else {})
            for rank, (hit, reason) in enumerate(zip(hits, reasons, strict=True), 1)
        ]
        typer.echo(json.dumps({"query": dict(words), "hits": found}))
        return
    if not words:
        typer.echo("nothing found: no word of the query is in the model's lexicon")
        return
    # A pipe has no width: one line a hit, whatever its length.
    console = Console(width=None if sys.stdout.isatty() else 10_000)
    console.print(
        "query: " + " ".join(f"{word}:{weight}" for word, weight in words[:12]), style="dim"
    )
    if not hits:
        limit = " that the filter lets through" if where else ""
        typer.echo(f"nothing found: no picture{limit} has any of these words")
        return
    table = Table("rank", "score", "picture", *(["why"] if explain else []), box=None)
    for rank, (hit, reason) in enumerate(zip(hits, reasons, strict=True), 1):
        why = " ".join(f"{c.word}:{c.score}" for c in reason[:8])
        score = f"{hit.score:.4f}" if rescore else str(hit.score)
        table.add_row(str(rank), score, escape(hit.id), *([why] if explain else []))
    console.print(table)


@app.command()
@_readable
def tune(
    path: Annotated[Path, typer.Argument(metavar="INDEX")],
    budget: Annotated[
        str | None, typer.Option(help="most that a search or a picture may cost: 2ms or 100B")
    ] = None,
    queries: Annotated[
        Path | None, typer.Option(help="lines of: id, tab, text; else some of its pictures ask")
    ] = None,
    qrels: Annotated[Path | None, typer.Option(help="TREC judgements of these queries")] = None,
    sample: Annotated[int, typer.Option(min=1, help="pictures that ask")] = 200,
    model: Annotated[str | None, typer.Option("--model", "-m", help="checkpoint, if moved")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object")] = False,
) -> None:
    """Measure what fewer terms would cost: lexlip tune photos.lex --budget 100B.

    Builds temporary indexes of the same pictures with fewer terms a picture, fewer bits an impact
    and fewer terms a query, and compares their ten best hits with those of the index, which
    stays as it is. With a budget, prints the commands that make the best setting within it.
    """
    from lexlip import tune as tuning
    from lexlip.index import Index

    limit = None if budget is None else tuning.Budget.parse(budget)
    asked = None if queries is None else tuning.read_queries(queries)
    judged = None if qrels is None else tuning.read_qrels(qrels)
    _quiet()
    with Index.open(path, _load(model)) as opened:
        found = tuning.tune(opened, limit, asked, judged, sample)
    if as_json:
        typer.echo(json.dumps(found.as_dict()))
        return
    console = Console(width=None if sys.stdout.isatty() else 10_000)
    recalls = list(found.points[0].recall)
    table = Table("terms", "bits", "query terms", "levels", "rescored", "terms/picture",
                  "bytes/picture", "p50 ms", "same of 10", *recalls, box=None)  # fmt: skip
    for point in found.points:
        way = point.setting
        figures = [
            way.max_terms, way.bits, way.query_terms, way.levels, way.rescore or "-",
            f"{point.terms:.1f}", f"{point.bytes:.0f}", f"{point.ms:.3f}",
            f"{point.agreement:.3f}", *(f"{100 * share:.1f}" for share in point.recall.values()),
        ]  # fmt: skip
        table.add_row(*map(str, figures), style="bold" if point == found.best else None)
    console.print(found.queries, style="dim")
    console.print(table)
    if found.best is not None:
        way = found.best.setting
        typer.echo(
            f"best within {budget}: {way.max_terms} terms a picture, {way.query_terms} a query"
            + ("" if found.commands else "; the index is that already")
        )
    for command in found.commands:
        typer.echo(f"  {command}")


@app.command()
@_readable
def delete(
    path: Annotated[Path, typer.Argument(metavar="INDEX")],
    ids: Annotated[list[str], typer.Argument(help="as search prints them")],
) -> None:
    """Delete pictures from an index by id: lexlip delete photos.lex trip/a.jpg."""
    from lexlip.index import Index

    with Index.open(path, mode="w") as opened:
        typer.echo(f"{path}: {opened.delete(ids)} deleted, {len(opened)} left")


@app.command()
@_readable
def compact(path: Annotated[Path, typer.Argument(metavar="INDEX")]) -> None:
    """Merge an index and drop what deletions left behind."""
    from lexlip.index import Index

    with Index.open(path, mode="w") as opened:
        before = opened.stats()["bytes"]
        opened.compact()
        typer.echo(f"{path}: {before} bytes before, {opened.stats()['bytes']} after")


@app.command()
@_readable
def stats(path: Annotated[Path, typer.Argument(metavar="INDEX")]) -> None:
    """Say what is in an index, as JSON."""
    from lexlip.index import Index

    with Index.open(path) as opened:
        typer.echo(json.dumps(opened.stats(), indent=2))


@app.command()
@_readable
def check(path: Annotated[Path, typer.Argument(metavar="INDEX")]) -> None:
    """Read all of an index and say whether every byte is what was written."""
    from lexlip.index import Index

    with Index.open(path) as opened:
        damaged = opened.check()
    if damaged:
        raise LexLIPError(f"{path} is damaged ({', '.join(damaged[:3])}): build it again")
    typer.echo(f"{path}: every file is as it was written")


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

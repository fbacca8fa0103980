"""The command line: ``lexlip index``, ``search``, ``words``, ``stats`` and what keeps an index."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
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


def _read_item(item: str) -> Any:
    """A path that exists, or looks like a picture's, is a picture; anything else is a query."""
    from lexlip.data.images import SUFFIXES
    from lexlip.query import Query

    path = Path(item)
    try:
        exists = path.is_file()
    except (OSError, ValueError):  # a text too long to be a name, or one with a NUL
        exists = False
    query = None if exists else Query.parse(item)
    if query is not None and (query.plain is None or path.suffix.lower() not in SUFFIXES):
        return query
    return path


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
    keep_views: Annotated[
        bool, typer.Option("--keep-views", help="of a new index: for search --rerank")
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
            keep_views=keep_views,
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
    text: Annotated[
        str, typer.Argument(help="what to look for: a text, or flower + 2:bee -people must:red")
    ] = "",
    image: Annotated[Path | None, typer.Option(help="search with a picture, or add one")] = None,
    k: Annotated[int, typer.Option("-k", help="how many pictures")] = 10,
    where: Annotated[
        str | None, typer.Option(help='only pictures with such metadata: "year >= 2020"')
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="the words of each hit")] = False,
    query_terms: Annotated[int, typer.Option(help="words kept of the query")] = 64,
    rescore: Annotated[
        int, typer.Option(min=0, help="order the best so many by exact cosine (--keep-floats)")
    ] = 0,
    rerank: Annotated[
        str | None, typer.Option(help="look again at the best: filip, csd, naaf (--keep-views)")
    ] = None,
    depth: Annotated[int | None, typer.Option(min=1, help="pictures that are reranked")] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="checkpoint, if moved")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object")] = False,
) -> None:
    """Search an index: lexlip search photos.lex "a dog on a beach" -k 5.

    Queries are arithmetic: a dog + 2:beach adds up two texts, -people leaves out what has that
    word, -0.5:people subtracts it, must:red keeps what has it, img:dog.jpg is a picture.
    """
    from lexlip.index import Index
    from lexlip.query import Part, Query

    if not text.strip() and image is None:
        raise LexLIPError('the query is empty: lexlip search INDEX "a red circle"')
    if not _is_index(path):
        raise LexLIPError(f"no index at {path}: make one with lexlip index PICTURES -o {path}")
    _quiet()
    query = Query.parse(text) if text.strip() else Query()
    if image is not None:
        query += Query.image(image)
    with Index.open(path, _load(model)) as opened:
        asked = query.resolved(opened.model, query_terms)
        item = query if rescore or rerank else asked
        hits = opened.search(item, k, where, rescore, query_terms, rerank, depth)
        words = asked.words()
        reasons = [opened.explain(hit.id, asked) if explain else [] for hit in hits]
    if as_json:
        found = [
            {"rank": rank, **hit._asdict()}
            | ({"words": {c.word: c.score for c in reason}} if explain else {})
            for rank, (hit, reason) in enumerate(zip(hits, reasons, strict=True), 1)
        ]
        conditions = {"asked": str(asked)} if asked.musts or asked.exclusions else {}
        typer.echo(json.dumps({"query": words, **conditions, "hits": found}))
        return
    if not words:
        typer.echo("nothing found: no word of the query is in the model's lexicon")
        return
    # A pipe has no width: one line a hit, whatever its length.
    console = Console(width=None if sys.stdout.isatty() else 10_000)
    heaviest = replace(asked, parts=(Part(asked.parts[0].content[:12]),))
    console.print(f"query: {escape(str(heaviest))}", style="dim", highlight=False)
    if not hits:
        limit = " that the filter lets through" if where or asked.musts or asked.exclusions else ""
        typer.echo(f"nothing found: no picture{limit} has any of these words")
        return
    table = Table("rank", "score", "picture", *(["why"] if explain else []), box=None)
    for rank, (hit, reason) in enumerate(zip(hits, reasons, strict=True), 1):
        lowering = [c for c in reason[8:] if c.score < 0]
        why = escape(" ".join(f"{c.word}:{c.score}" for c in [*reason[:8], *lowering[-4:]]))
        score = f"{hit.score:.4f}" if rescore or rerank else str(hit.score)
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
    rerank: Annotated[
        str | None, typer.Option(help="choose and save the shares of filip,csd,... instead")
    ] = None,
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
    if rerank:
        _tune_rerankers(path, _load(model), rerank.split(","), asked, judged)
        return
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


def _tune_rerankers(path: Path, model: Any, names: list[str], asked: Any, judged: Any) -> None:
    from lexlip.index import Index
    from lexlip.rerank.choose import choose

    if asked is None or judged is None:
        raise LexLIPError("rerankers are tuned on judged queries: give --queries and --qrels")
    with Index.open(path, model) as opened:
        for it in choose(opened, names, asked, judged):
            typer.echo(
                f"{it.name}: R@1 {100 * it.words:.1f} by words, {100 * it.alone:.1f} alone, "
                f"{100 * it.recall:.1f} with a share of {it.share} (saved)"
            )


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
    item: Annotated[str, typer.Argument(help="a picture's path, a text or a query")],
    model: Checkpoint,
    k: Annotated[int, typer.Option("-k", help="how many words")] = 20,
) -> None:
    """Show the words a picture or a text becomes: lexlip words cat.jpg -m CKPT.

    Of a query such as flower + 2:bee -people, the words that it adds up to, as they are asked.
    """
    from lexlip.query import Query

    if not item.strip():
        raise LexLIPError('the text is empty: lexlip words "a red circle" -m CKPT')
    read, loaded, conditions = _read_item(item), _load(model), ""
    if isinstance(read, Query) and read.plain is None:
        asked = read.resolved(loaded)
        found = list(asked.words().items())[:k]
        conditions = str(replace(asked, parts=()))
    else:
        found = loaded.words_of(read.plain if isinstance(read, Query) else read, k)
    if not found:
        typer.echo("no words: nothing of it is in the model's lexicon")
        return
    width = max(abs(weight) for _, weight in found)
    for word, weight in found:
        typer.echo(f"{weight:7.3f}  {word:<20} {'#' * round(30 * abs(weight) / width)}")
    if conditions:
        typer.echo(conditions)


@app.command()
@_readable
def align(
    picture: Annotated[Path, typer.Argument(help="a picture's path")],
    text: Annotated[str, typer.Argument(help="what it may show")],
    model: Checkpoint,
    out: Annotated[Path, typer.Option("-o", "--out", help="where to draw it")] = Path("align.png"),
) -> None:
    """Draw which word each patch matches best: lexlip align cat.jpg "a cat on grass" -m CKPT."""
    from lexlip.rerank.patches import align, draw

    found = align(_load(model), picture, text)
    draw(picture, found).save(out)
    for number, word in enumerate(found.words):
        typer.echo(f"{word:<20} {int((found.patches == number).sum()):4} patches")
    typer.echo(f"drawn in {out}")


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

"""What asks: ``lexlip search``, ``words`` and ``align``."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lexlip.cli.app import app
from lexlip.cli.common import (
    Checkpoint,
    LexiconTable,
    in_our_words,
    is_index,
    load,
    load_speaker,
    quiet,
    read_item,
    readable,
)
from lexlip.errors import LexLIPError


@app.command()
@readable
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
    encoder: Annotated[
        str, typer.Option(help="network, or table: texts without one (make pretrain-queries)")
    ] = "network",
    lexicon_map: LexiconTable = None,
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
    if not is_index(path):
        raise LexLIPError(f"no index at {path}: make one with lexlip index PICTURES -o {path}")
    quiet()
    query = in_our_words(Query.parse(text) if text.strip() else Query(), lexicon_map)
    if image is not None:
        query += Query.image(image)
    with Index.open(path, load_speaker(path, model, encoder)) as opened:
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
@readable
def words(
    item: Annotated[str, typer.Argument(help="a picture's path, a text or a query")],
    model: Checkpoint,
    k: Annotated[int, typer.Option("-k", help="how many words")] = 20,
    lexicon_map: LexiconTable = None,
) -> None:
    """Show the words a picture or a text becomes: lexlip words cat.jpg -m CKPT.

    Of a query such as flower + 2:bee -people, the words that it adds up to, as they are asked.
    """
    from lexlip.query import Query

    if not item.strip():
        raise LexLIPError('the text is empty: lexlip words "a red circle" -m CKPT')
    read, loaded, conditions = read_item(item), load(model), ""
    if isinstance(read, Query):
        read = in_our_words(read, lexicon_map)
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
@readable
def align(
    picture: Annotated[Path, typer.Argument(help="a picture's path")],
    text: Annotated[str, typer.Argument(help="what it may show")],
    model: Checkpoint,
    out: Annotated[Path, typer.Option("-o", "--out", help="where to draw it")] = Path("align.png"),
) -> None:
    """Draw which word each patch matches best: lexlip align cat.jpg "a cat on grass" -m CKPT."""
    from lexlip.rerank.patches import align, draw

    found = align(load(model), picture, text)
    draw(picture, found).save(out)
    for number, word in enumerate(found.words):
        typer.echo(f"{word:<20} {int((found.patches == number).sum()):4} patches")
    typer.echo(f"drawn in {out}")

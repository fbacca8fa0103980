"""The ``lexlip tune`` command: the cost of fewer terms, and the shares of rerankers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lexlip.cli.app import app
from lexlip.cli.common import load, one_line, readable
from lexlip.errors import LexLIPError
from lexlip.models.runtime import quiet

if TYPE_CHECKING:
    from lexlip.models.speaker import Speaker


@app.command()
@readable
def tune(
    path: Annotated[Path, typer.Argument(metavar="INDEX")],
    budget: Annotated[
        str | None, typer.Option(help="upper limit per search or per picture: 2ms or 100B")
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(help="id, tab, text a line, or TREC topics; by default pictures"),
    ] = None,
    qrels: Annotated[Path | None, typer.Option(help="TREC judgements of these queries")] = None,
    sample: Annotated[int, typer.Option(help="number of pictures used as queries")] = 200,
    rerank: Annotated[
        str | None, typer.Option(help="instead, choose and save the shares of filip,csd,...")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="checkpoint, if moved")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object")] = False,
) -> None:
    """Measure what fewer terms would cost: lexlip tune photos.lex --budget 100B.

    Builds temporary indexes of the same pictures with fewer terms per picture, fewer bits per
    impact and fewer terms per query, and compares their ten best hits with those of the index,
    which does not change. With a budget, prints the commands for the best setting within it.
    """
    from lexlip.data.qrels import read_qrels
    from lexlip.data.trec import read_topics
    from lexlip.index import Index
    from lexlip.measure import tune as tuning

    limit = None if budget is None else tuning.Budget.parse(budget)
    asked = None if queries is None else read_topics(queries)
    judged = None if qrels is None else read_qrels(qrels)
    quiet()
    if rerank:
        _tune_rerankers(path, load(model), rerank.split(","), asked, judged)
        return
    with Index.open(path, load(model)) as opened:
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
    console.print(escape(one_line(found.queries)), style="dim")
    console.print(table)
    if found.best is not None:
        way = found.best.setting
        typer.echo(
            f"best within {budget}: {way.max_terms} terms per picture, {way.query_terms} per query"
            + ("" if found.commands else "; the index has it already")
        )
    for command in found.commands:
        typer.echo(f"  {one_line(command)}")


def _tune_rerankers(
    path: Path, model: Speaker | None, names: list[str], asked: Any, judged: Any
) -> None:
    from lexlip.index import Index
    from lexlip.measure.shares import choose

    if asked is None or judged is None:
        raise LexLIPError("rerankers are tuned on judged queries: give --queries and --qrels")
    with Index.open(path, model) as opened:
        for it in choose(opened, names, asked, judged):
            typer.echo(
                f"{it.name}: R@1 {100 * it.words:.1f} by words, {100 * it.alone:.1f} alone, "
                f"{100 * it.recall:.1f} with a share of {it.share} (saved)"
            )

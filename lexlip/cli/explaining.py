"""The command ``lexlip explain``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lexlip.cli.app import app
from lexlip.cli.common import load, one_line, read_query, readable, save_drawing
from lexlip.cli.dashes import QueryCommand
from lexlip.errors import LexLIPError
from lexlip.models.runtime import quiet

if TYPE_CHECKING:
    from lexlip.explain.explanation import Explanation
    from lexlip.rerank.account import Account

_SHOWN = 8
"""Words shown of those that add most, and of those that subtract most."""


@app.command(cls=QueryCommand)
@readable
def explain(
    path: Annotated[Path, typer.Argument(metavar="INDEX")],
    text: Annotated[str, typer.Argument(metavar="QUERY", help="as for search")],
    image: Annotated[
        str, typer.Argument(metavar="IMAGE", help="an id as search prints it, or a picture's path")
    ],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="draw the heaviest words: why.png")
    ] = None,
    pixels: Annotated[
        bool, typer.Option("--pixels", help="which pixels a word needs: hides each patch in turn")
    ] = False,
    rerank: Annotated[
        str | None, typer.Option(help="what orders the list, as for search: vectors, terms, none")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="checkpoint, if moved")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object")] = False,
) -> None:
    """Say why a picture has its score: lexlip explain photos.lex "a bee" bee.jpg -o why.png.

    Prints what each word adds (the sum is the score of search), the patch of the picture that won
    it, and which word of the query raised which words. Draws the patches of the heaviest
    words. A patch has seen more than its own pixels: --pixels draws the pixels that a word needs.
    """
    from lexlip.explain.explanation import explain as explained
    from lexlip.explain.lookup import find_id, find_picture
    from lexlip.explain.sheet import draw_explanation
    from lexlip.index import Index

    if not text.strip():
        raise LexLIPError('the query is empty: lexlip explain INDEX "two hearts" IMAGE')
    query = read_query(text)
    quiet()
    with Index.open(path, load(model)) as opened:
        id = find_id(opened, image)
        given = id != image and os.path.isfile(image)
        picture = Path(image) if given else find_picture(opened, id)
        found = explained(opened, id, query, picture, pixels, rerank=rerank)
    drawn = out is not None and found.patches is not None
    if out is not None and found.patches is not None:
        save_drawing(draw_explanation(found, picture), out)
    if as_json:
        typer.echo(json.dumps(found.as_dict()))
    else:
        _print(found)
    shown = one_line(id)
    if found.changed:
        typer.echo(f"{shown}: the picture is not the one in the index, its patches may differ; "
                   "lexlip index adds it again", err=True)  # fmt: skip
    if picture is None:
        typer.echo(f"{shown}: its picture is not where it was indexed, so no patches: give its "
                   "path instead of its id", err=True)  # fmt: skip
    elif out is not None and not drawn:
        said = one_line(f"{path}: its model weighs pictures as a whole, so no patches to draw")
        typer.echo(said, err=True)
    elif drawn and not as_json:
        typer.echo(f"drawn in {one_line(str(out))}")


def _print(found: Explanation) -> None:
    console = Console(width=None if sys.stdout.isatty() else 10_000)
    where = ["row, column"] if found.patches is not None else []
    table = Table("word", "query", "impact", "score", *where, box=None)
    for word in found.words:
        place = []
        if found.patches is not None:
            patch = found.patch(word.word)
            row, column = divmod(patch, found.patches.grid[1])
            place = ["-" if patch < 0 else f"{row + 1}, {column + 1}"]
        cells = [str(word.query), str(word.impact), str(word.score), *place]
        table.add_row(escape(one_line(word.word)), *cells)
    table.add_row("sum", "", "", str(found.score), style="bold")
    console.print(table)
    if found.account.score is not None:
        console.print(_ordered(found.account))
    for text in found.as_dict()["texts"]:
        console.print()
        subtracted = " (subtracted)" if text["weight"] < 0 else ""
        heads = [f"word of the text{subtracted}", "raised"]
        if attention := any(word["attention"] is not None for word in text["words"]):
            heads += ["attention (no part of the score)"]
        table = Table(*heads, box=None)
        for word in text["words"]:
            terms = list(word["terms"].items())
            raised = " ".join(f"{term}:{weight:.2f}" for term, weight in terms[: 2 * _SHOWN])
            raised += f" and {more} more" if (more := len(terms) - 2 * _SHOWN) > 0 else ""
            shown = map(escape, map(one_line, (word["word"], raised)))
            table.add_row(*shown, *([f"{word['attention']:.2f}"] if attention else []))
        console.print(table)


def _ordered(account: Account) -> Table:
    """The score that orders: the words that add and subtract most, and the rest."""
    many = len(account.words) > 2 * _SHOWN
    shown = [*account.words[:_SHOWN], *account.words[-_SHOWN:]] if many else account.words
    table = Table(f"ordered by {account.ordered_by}", "query", "weight", "score", box=None)
    for word in shown:
        numbers = (word.query, word.weight, word.score)
        table.add_row(escape(one_line(word.word)), *(f"{number:.4f}" for number in numbers))
    if many:
        rest = sum(word.score for word in account.words[_SHOWN:-_SHOWN])
        table.add_row(f"{len(account.words) - len(shown)} other words", "", "", f"{rest:.4f}")
    if account.beyond or account.constant:
        table.add_row("beyond words", "", "", f"{account.beyond:.4f}")
        table.add_row("liked in general", "", "", f"{account.constant:.4f}")
    table.add_row("sum", "", "", f"{account.score:.4f}", style="bold")
    return table

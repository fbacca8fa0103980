"""What says why: ``lexlip explain``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lexlip.cli.app import app
from lexlip.cli.common import load, quiet, readable
from lexlip.errors import LexLIPError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lexlip.explain.explanation import Why


@app.command()
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
    model: Annotated[str | None, typer.Option("--model", "-m", help="checkpoint, if moved")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object")] = False,
) -> None:
    """Say why a picture has its score: lexlip explain photos.lex "a bee" bee.jpg -o why.png.

    Prints what each word adds (the sum is the score of search), the patch of the picture that won
    it, and which word of the query raised which words. Draws what each patch says of the heaviest
    words. A patch has seen more than its own pixels: --pixels draws which of them a word needs.
    """
    from lexlip.explain.explanation import draw_why, find_id, find_picture, why
    from lexlip.index import Index
    from lexlip.query.query import Query

    if not text.strip():
        raise LexLIPError('the query is empty: lexlip explain INDEX "a red circle" IMAGE')
    query = Query.parse(text)
    quiet()
    with Index.open(path, load(model)) as opened:
        id = find_id(opened, image)
        given = id != image and os.path.isfile(image)
        picture = Path(image) if given else find_picture(opened, id)
        found = why(opened, id, query, picture, pixels)
        tokens = opened.model.lexicon.tokens
    drawn = out is not None and found.patches is not None
    if out is not None and found.patches is not None:
        _save(draw_why(found, picture), out)
    if as_json:
        typer.echo(json.dumps(as_dict(found, tokens)))
    else:
        _print(found, tokens)
    if found.changed:
        typer.echo(f"{id}: the picture is not the one in the index, its patches may differ; "
                   "lexlip index adds it again", err=True)  # fmt: skip
    if picture is None:
        typer.echo(f"{id}: its picture is not where it was indexed, so no patches: give its path "
                   "instead of its id", err=True)  # fmt: skip
    elif out is not None and not drawn:
        typer.echo(f"{path}: its model weighs pictures as a whole, so no patches to draw", err=True)
    elif drawn and not as_json:
        typer.echo(f"drawn in {out}")


def as_dict(found: Why, tokens: Any) -> dict[str, Any]:
    """Return an explanation as JSON says it; heat is a share of the word's largest."""
    seen = found.patches
    patches = None
    if seen is not None:
        scores = {found.terms[word.word]: word.score for word in found.words}
        patches = {
            "grid": list(seen.grid),
            "box": list(seen.box),
            "words": _shares(found, seen.heat),
            "pixels": None if found.pixels is None else _shares(found, found.pixels),
            "scores": seen.shares(scores).flatten().tolist(),
        }
    return {
        "id": found.id,
        "score": found.score,
        "words": [
            {**word._asdict(), "score": word.score, "patch": found.patch(word.word)}
            for word in found.words
        ],
        "patches": patches,
        "text": [
            {"word": word, "terms": {tokens[term]: round(w, 4) for term, w in terms.items()}}
            for text in found.texts
            for word, terms in text.by_word()
        ],
        "attention": [
            {"word": word, "share": round(share, 4)}
            for text in found.attention
            for word, share in text
        ],
        "changed": found.changed,
    }


def _shares(found: Why, heat: Mapping[int, NDArray[np.float32]]) -> dict[str, list[float]]:
    """Return maps by word, row by row, as shares of each word's largest value."""
    maps = {word: heat[term] for word, term in found.terms.items()}
    shares = {word: one / max(float(one.max()), 1e-9) for word, one in maps.items()}
    return {word: one.flatten().round(4).tolist() for word, one in shares.items()}


def _print(found: Why, tokens: Any) -> None:
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
        table.add_row(escape(word.word), *cells)
    table.add_row("sum", "", "", str(found.score), style="bold")
    console.print(table)
    for text, attention in zip(found.texts, found.attention, strict=True):
        console.print()
        table = Table("word of the text", "raised", "attention (no part of the score)", box=None)
        for (spoken, terms), (_, share) in zip(text.by_word(), attention, strict=True):
            raised = " ".join(f"{tokens[t]}:{weight:.2f}" for t, weight in terms.items())
            table.add_row(escape(spoken), escape(raised), f"{share:.2f}")
        console.print(table)


def _save(drawn: Any, out: Path) -> None:
    try:
        drawn.save(out)
    except (OSError, ValueError) as error:  # Pillow's word for an unknown suffix
        reason = " ".join(str(error).split())
        raise LexLIPError(f"cannot draw in {out} ({reason}): give a path such as why.png") from None

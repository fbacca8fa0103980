"""Output of ``lexlip search``: tables for people; JSON, TREC runs and paths for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lexlip.cli.console import one_line
from lexlip.data.originals import Originals
from lexlip.data.trec import run_lines
from lexlip.errors import LexLIPError
from lexlip.query.contributions import Contribution
from lexlip.query.query import Part, Query
from lexlip.rerank.fit import WEAK_SHARE, weak_from

if TYPE_CHECKING:
    from lexlip.index import Index

Reasons = Sequence[Sequence[Contribution]]
"""The words of each hit."""

_HEIGHT = 8
"""Lines of text that a picture takes in a terminal; a line is two pixels."""


def as_json(
    asked: Query,
    hits: Sequence[Any],
    reasons: Reasons | None,
    ordered_by: str,
    query: Query,
    fits: Sequence[float | None],
) -> str:
    """One JSON object: the query as it was read, its words, what orders, and the hits."""
    return json.dumps(as_object(asked, hits, reasons, ordered_by, query, fits))


def as_object(
    asked: Query,
    hits: Sequence[Any],
    reasons: Reasons | None,
    ordered_by: str,
    query: Query,
    fits: Sequence[float | None],
) -> dict[str, Any]:
    """The object of `as_json`."""
    found: list[dict[str, Any]] = [
        {"rank": rank, **hit._asdict(), "fit": fit}
        for rank, (hit, fit) in enumerate(zip(hits, fits, strict=True), 1)
    ]
    for row, words in zip(found, reasons or (), strict=False):
        if "words" in row:  # the score of the first stage
            row["first_stage"] = row.pop("words")
        row["words"] = {word.word: word.score for word in words}
    conditions = {"asked": str(asked)} if asked.musts or asked.exclusions else {}
    read = {"query": asked.words(), "read_as": str(query), **conditions}
    return {**read, "ordered_by": ordered_by, "hits": found}


def as_trec(query: str, hits: Sequence[Any]) -> Iterator[str]:
    """Lines of a TREC run (`lexlip.data.trec.run_lines`).

    Examples
    --------
    >>> from lexlip.engines import Hit
    >>> list(as_trec("q1", [Hit("my dog.jpg", 208)]))
    ['q1 Q0 my%20dog.jpg 1 208 lexlip']
    """
    return run_lines(query, [(hit.id, hit.score) for hit in hits], "lexlip")


def as_paths(
    index: Path, manifest: Mapping[str, Any], hits: Sequence[Any]
) -> tuple[list[str], list[str]]:
    """The files of hits in their order, and the ids of hits without a file.

    Raises
    ------
    LexLIPError
        When the index is of no folder of pictures.
    """
    originals = Originals.of(index, manifest)
    if originals.folder is None:
        raise LexLIPError("this index is of no folder of pictures: it has ids, and no paths")
    found = {hit.id: originals.find(hit.id) for hit in hits}
    paths = [str(path) for path in found.values() if path is not None]
    return paths, [id for id, path in found.items() if path is None]


def print_paths(paths: Sequence[str], end: str) -> list[str]:
    """Print files, each with `end` after it, and return those that lines cannot carry.

    On a terminal line breaks and terminal codes are escaped. For other programs names stay as they
    are, also those that are not UTF-8.
    """
    if end == "\n" and sys.stdout.isatty():
        typer.echo("\n".join(map(one_line, paths)), nl=bool(paths))
        return []
    broken = [path for path in paths if end == "\n" and ("\n" in path or "\r" in path)]
    kept = [path for path in paths if path not in broken]
    typer.echo(b"".join(os.fsencode(path) + end.encode() for path in kept), nl=False)
    return broken


def show(
    index: Index,
    asked: Query,
    hits: Sequence[Any],
    reasons: Reasons | None,
    filtered: bool,
    thumbnails: bool,
    fits: Sequence[float | None],
) -> None:
    """Print the words of the query and a table of hits."""
    words = asked.words()
    # A pipe has no width: one line per hit.
    console = Console(width=None if sys.stdout.isatty() else 10_000)
    if not words:
        console.print("nothing found: no word of the query is in the model's lexicon")
        return
    heaviest = replace(asked, parts=(Part(asked.parts[0].content[:12]),))
    console.print(f"query: {escape(one_line(str(heaviest)))}", style="dim", highlight=False)
    if not hits:
        filtered = bool(filtered or asked.musts or asked.exclusions)
        limit = " that the filter lets through" if filtered else ""
        console.print(f"nothing found: no picture{limit} has any of these words")
        return
    weak = index.weak_below
    known = any(fit is not None for fit in fits)
    table = Table(
        "rank", "score", *(["fit"] if known else []), "picture", *([""] if thumbnails else []),
        *(["why"] if reasons else []), box=None,
    )  # fmt: skip
    line = weak_from(fits, weak)
    originals = Originals.of(index.path, index.manifest)
    for number, hit in enumerate(hits):
        if number == line and known:
            table.add_row("", "", "", "weak from here" if number else "no picture fits this well")
        score = f"{hit.score:.4f}" if isinstance(hit.score, float) else str(hit.score)
        fit = _fit(fits[number], weak)
        shown = escape(one_line(hit.id))
        cells: list[Any] = [str(number + 1), score, *([fit] if known else []), shown]
        if thumbnails:
            cells.append(_thumbnail(originals.find(hit.id)))
        if reasons:
            cells.append(escape(one_line(_why(reasons[number]))))
        table.add_row(*cells)
    console.print(table)


def _fit(fit: float | None, weak: float) -> str:
    """A share in per cent, or standard deviations."""
    if fit is None:
        return ""
    return f"{100 * fit:.0f}%" if weak == WEAK_SHARE else f"{fit:.1f}"


def _why(words: Sequence[Contribution]) -> str:
    """The heaviest words of a hit, and those that lower its score most."""
    lowering = [word for word in words[8:] if word.score < 0]
    return " ".join(f"{word.word}:{word.score}" for word in [*words[:8], *lowering[-4:]])


def _thumbnail(picture: Any) -> Any:
    """A picture in characters, for a cell of a table; the reason where there is none."""
    from rich_pixels import Pixels

    from lexlip.data.images import read_image

    if picture is None:
        return "(not where it was indexed)"
    try:
        small = read_image(picture, None, 4 * _HEIGHT)
    except LexLIPError:
        return "(cannot be read any more)"
    small.thumbnail((4 * _HEIGHT, 2 * _HEIGHT))
    return Pixels.from_image(small)

"""The picture of results: each query, its words, and the pictures that the index found."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lexlip.cli.console import Config, Job, Overrides, Run
from lexlip.errors import LexLIPError
from lexlip.settings import from_overrides, option
from lexlip.storage.files import write_bytes

if TYPE_CHECKING:
    from PIL.Image import Image

RIGHT, OTHER = "#2e9e5b", "#d5d8dc"  # frames: green for a relevant picture, pale grey for others
BAR, INK, PALE = "#8fb8de", "#22303c", "#7b8794"
SHOWN, WORDS = 5, 8


@dataclass(frozen=True)
class ResultRow:
    """One query and its answers.

    Attributes
    ----------
    query : str
        The text.
    words : Sequence[tuple[str, float]]
        The query's decoded words with their weights, heaviest first.
    images : Sequence[Image]
        The pictures found, best first; five are shown.
    relevant : Sequence[bool]
        For each picture whether it is a right answer.
    scores : Sequence[float]
        For each picture its score; optional.
    """

    query: str
    words: Sequence[tuple[str, float]]
    images: Sequence[Image]
    relevant: Sequence[bool]
    scores: Sequence[float] = field(default=())


def draw_results(path: str | Path, rows: Sequence[ResultRow], title: str = "") -> None:
    """Draw one row per query: text, weighted words as bars, the first five pictures.

    Relevant pictures have a green frame and a tick. The file is written whole or not at all.

    Parameters
    ----------
    path : str or Path
        The PNG file.
    rows : Sequence[ResultRow]
        Top to bottom.
    title : str
        A headline, none by default.

    Raises
    ------
    LexLIPError
        No rows, or a row whose judgements do not match its pictures.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not rows:
        raise LexLIPError("no results to draw: give at least one query")
    for row in rows:
        if len(row.relevant) != len(row.images) or len(row.scores) not in (0, len(row.images)):
            raise LexLIPError(
                f"{row.query!r}: {len(row.images)} pictures, {len(row.relevant)} judgements and "
                f"{len(row.scores)} scores: give one of each per picture"
            )
    head = 0.5 if title else 0.1
    height = 2.1 * len(rows) + head
    figure = Figure(figsize=(13.5, height), dpi=110, facecolor="white")
    FigureCanvasAgg(figure)
    if title:
        figure.text(0.015, 1 - 0.17 / height, title, size=15, weight="bold", color=INK, va="top")
    grid = figure.add_gridspec(
        len(rows),
        SHOWN + 1,
        width_ratios=[2.1, *[1] * SHOWN],
        left=0.015,
        right=0.99,
        top=1 - (head + 0.15) / height,
        bottom=0.1 / height,
        wspace=0.08,
        hspace=0.22,
    )
    for i, row in enumerate(rows):
        _draw_query(figure, grid[i, 0], row)
        for j in range(min(SHOWN, len(row.images))):
            _draw_picture(figure.add_subplot(grid[i, j + 1]), row, j)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_bytes(path, buffer.getvalue())


def _draw_query(figure: Any, cell: Any, row: ResultRow) -> None:
    """Draw the text above and its words as bars below it."""
    lines = textwrap.wrap(row.query, 38)[:3] or [""]
    upper, lower = cell.subgridspec(2, 1, height_ratios=[len(lines), 5], hspace=0.06)
    above = figure.add_subplot(upper)
    above.axis("off")
    above.text(0, 1, "\n".join(lines), size=12, weight="bold", color=INK, va="top", wrap=False)
    below = figure.add_subplot(lower)
    below.axis("off")
    words = list(row.words)[:WORDS]
    if not words:
        below.text(0, 0.9, "no words", size=10, color=PALE, va="top")
        return
    heaviest = max(weight for _, weight in words) or 1.0
    places = np.arange(len(words))
    # Words are left of the axis's zero, weights right of the bars; x runs from -0.75 to 1.25.
    below.barh(places, [weight / heaviest for _, weight in words], height=0.72, color=BAR)
    for place, (word, weight) in zip(places, words, strict=True):
        below.text(-0.03, place, word[:18], size=9.5, color=INK, ha="right", va="center")
        below.text(
            weight / heaviest + 0.02, place, f"{weight:.3g}", size=8, color=PALE, va="center"
        )
    below.set_xlim(-0.75, 1.25)
    below.set_ylim(WORDS - 0.5, -0.5)


def _draw_picture(axes: Any, row: ResultRow, j: int) -> None:
    """Draw one answer with its rank, score and frame."""
    right = bool(row.relevant[j])
    axes.imshow(np.asarray(row.images[j].convert("RGB")))
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(RIGHT if right else OTHER)
        spine.set_linewidth(4.0 if right else 1.5)
    label = f"{j + 1}" + (" ✓" if right else "")
    if row.scores:
        label += f"   {row.scores[j]:g}"
    axes.set_title(
        label, size=9.5, color=RIGHT if right else PALE, weight="bold" if right else None, pad=4
    )


def rows_of(index: Any, gallery: Any, queries: Sequence[str]) -> list[ResultRow]:
    """Search an index (`lexlip.Index` of the gallery's pictures) with some of its captions."""
    place = {name: i for i, name in enumerate(gallery.ids)}
    text = {
        f"{name}#{i}": caption
        for name, captions in zip(gallery.ids, gallery.captions, strict=True)
        for i, caption in enumerate(captions)
    }
    rows = []
    for query in queries:
        terms = index.query(text[query])
        hits = index.search(terms, k=SHOWN)
        rows.append(
            ResultRow(
                query=text[query],
                words=[(word, float(weight)) for word, weight in index.words(terms)],
                images=[gallery.image(place[hit.id]) for hit in hits],
                relevant=[hit.id in gallery.qrels[query] for hit in hits],
                scores=[float(hit.score) for hit in hits],
            )
        )
    return rows


@dataclass(frozen=True)
class Settings:
    """Settings of the drawing; each field is a key."""

    count: int = option(6, "queries to draw")


def main(overrides: Overrides = None, config: Config = "scenes", run: Run = "runs/scenes") -> None:
    """Draw a few queries with their words and answers into RUN/results.png."""
    from eval.bench.task import Measured, read_settings
    from lexlip.index import Index

    count = from_overrides(Settings, overrides or []).count
    settings = read_settings(Measured, config)
    gallery = settings.collection.open(settings.split)
    names = list(gallery.qrels)
    # Spread over the split, and over the captions of a picture (short ones, long ones).
    asked = [names[i * len(names) // count + i % 5] for i in range(count)]
    with Index.open(f"{run}/index") as index:
        draw_results(f"{run}/results.png", rows_of(index, gallery, asked), title="lexlip")


app = Job(main, Settings)

if __name__ == "__main__":
    app()

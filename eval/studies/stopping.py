"""Stopping points: one threshold for all queries, on drawn scenes.

    python -m eval.studies.stopping model=runs/demo/stage2

Relevance of scenes is complete. Queries name a shape, a colour, or two of them. Each score is cut
at one threshold, chosen on one half of the queries and measured on the other.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray

from eval.bench.systems import load_model
from eval.studies.joint import things
from lexlip.cli.console import Job, Overrides
from lexlip.data.meaning import Predicate
from lexlip.data.scenes import Scene, make_scenes, matches
from lexlip.errors import LexLIPError
from lexlip.index import Index
from lexlip.models.speaker import HasVectors
from lexlip.settings import from_overrides, option

FIRST = (5, 10, 20)
PAIRS = 150
"""Queries that name two things."""


def f1(returned: NDArray[np.bool_], right: NDArray[np.bool_]) -> float:
    """Mean over queries of F1, per cent."""
    both = (returned & right).sum(1)
    return float(100 * (2 * both / np.maximum(returned.sum(1) + right.sum(1), 1)).mean())


def stopping(
    scores: Mapping[str, NDArray], right: NDArray[np.bool_], order_by: str, seed: int
) -> dict[str, dict[str, float]]:
    """Cut all queries at one threshold, chosen on one half of them and measured on the other.

    Parameters
    ----------
    scores : mapping of str to float [Q, N]
        Of each query and document; -inf where a query does not find a document.
    right : bool [Q, N]
    order_by : str
        The score of `scores` that ranks.
    seed : int
        Of the halves.
    """
    counts = right.sum(1)
    asked, absent = np.flatnonzero((counts >= 3) & (counts <= 300)), np.flatnonzero(counts == 0)
    half = np.random.default_rng(seed).permutation(len(asked)) % 2
    table: dict[str, dict[str, float]] = {}
    for name, one in scores.items():
        rows = []
        for mine, other in ((0, 1), (1, 0)):
            known, new = asked[half == mine], asked[half == other]
            found = one[known][np.isfinite(one[known])]
            grid = np.unique(np.quantile(found, np.linspace(0, 0.9999, 600)))
            cut = float(grid[np.argmax([f1(one[known] >= t, right[known]) for t in grid])])
            empty = one[absent] >= cut
            nothing = 100 * (~empty.any(1)).mean() if len(absent) else np.nan
            returned = empty.sum(1).mean() if len(absent) else np.nan
            rows.append((f1(one[new] >= cut, right[new]), cut, nothing, returned))
        keys = ("F1", "threshold", "nothing where nothing is (%)", "returned where nothing is")
        table[name] = dict(zip(keys, map(float, np.mean(rows, axis=0)), strict=True))
    order = np.argsort(-scores[order_by][asked], axis=1, kind="stable")
    for count in FIRST:
        table[f"the first {count}"] = {"F1": f1(order.argsort(1) < count, right[asked])}
    hits = np.take_along_axis(right[asked], order, 1).cumsum(1)
    places = np.arange(1, hits.shape[1] + 1)
    best = (2 * hits / (places + right[asked].sum(1)[:, None])).max(1)
    table["the best cut of each query"] = {"F1": float(100 * best.mean())}
    return table


def asked(seed: int) -> list[tuple[str, Predicate]]:
    """Queries and their meanings: every shape and colour, and pairs of them."""
    single = things()
    pairs = list(combinations(single, 2))
    chosen = np.random.default_rng(seed).permutation(len(pairs))[:PAIRS]
    queries = [(thing.text, Predicate((thing.pattern,))) for thing in single]
    for number in chosen:
        a, b = pairs[number]
        queries.append((f"{a.text} and {b.text}", Predicate((a.pattern, b.pattern))))
    return queries


def measure(model: Any, scenes: Sequence[Scene], seed: int) -> dict[str, dict[str, float]]:
    """Index the scenes, ask, and cut at one threshold of each score."""
    queries = asked(seed)
    right = np.array([[matches(meaning, scene) for scene in scenes] for _, meaning in queries])
    names = ("score", "cosine", "fit") if not isinstance(model, HasVectors) else ("score", "fit")
    scores = {name: np.full(right.shape, -np.inf) for name in names}
    place = {scene.id: number for number, scene in enumerate(scenes)}
    pictures = {scene.id: scene.draw() for scene in scenes}
    with tempfile.TemporaryDirectory(prefix="lexlip-eval-") as folder:
        with Index.create(Path(folder) / "i", model, pictures, engine="postings") as index:
            for row, (text, _) in enumerate(queries):
                prepared = index.prepare(text)
                hits = index.search(prepared, len(scenes))
                columns = [place[hit.id] for hit in hits]
                found = np.array([hit.score for hit in hits], np.float64)
                scores["score"][row, columns] = found
                scores["fit"][row, columns] = index.fits(hits, prepared)
                if "cosine" in scores:
                    weights = np.array(list(prepared.terms.values()), np.float64)
                    length = index.manifest["scale"] * np.linalg.norm(weights)
                    scores["cosine"][row, columns] = found / max(length, 1e-9)
    return stopping(scores, right, "score", seed)


@dataclass(frozen=True)
class Settings:
    """Settings of the study; each field is a key."""

    model: str = option("", "checkpoint that encodes pictures")
    scenes: int = option(600, "pictures to draw")
    size: int = option(64, "of a picture, in pixels")
    draw: int = option(99, "seed of the pictures: others than those of training")
    seed: int = option(0, "of the pairs and of the halves")


def main(overrides: Overrides = None) -> None:
    """Measure one threshold for all queries on scenes."""
    settings = from_overrides(Settings, overrides or [])
    if not settings.model:
        raise LexLIPError("no model: give model=CHECKPOINT")
    scenes = make_scenes(settings.scenes, settings.draw, settings.size)
    for name, row in measure(load_model(settings.model), scenes, settings.seed).items():
        typer.echo(f"{name:>28}  " + "  ".join(f"{key} {value:.2f}" for key, value in row.items()))


app = Job(main, Settings)

if __name__ == "__main__":
    app()

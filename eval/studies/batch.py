"""Batches: queries a second one by one and many at once, on each engine, in one run.

    python -m eval.studies.batch

Queries are short texts, all different. The pictures are drawn scenes of the shipped model, each
also under other ids with impacts that differ a little, so that a search has some work. Texts go
through the shipped model's network and through its query table. One by one and many at once take
turns, and the median of the rounds is shown; the hits are compared.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import typer
from scipy.sparse import csr_array

from eval.bench import report
from lexlip import Index
from lexlip.cli.console import Job, Overrides
from lexlip.data.draw import COLOURS, SHAPES
from lexlip.data.scenes import make_scenes
from lexlip.engines import ENGINES
from lexlip.errors import LexLIPError
from lexlip.models.runtime import quiet
from lexlip.models.shipped import load_shipped
from lexlip.settings import from_overrides, option
from lexlip.storage.files import write_json

HEADS = ("engine", "texts by", "one by one, queries/s", "many at once, queries/s", "times")
_PLACES = ("above", "below", "beside", "left of", "right of", "and", "or", "near")


@dataclass(frozen=True)
class Settings:
    """Settings of the study; each field is a key."""

    scenes: int = option(250, "pictures to draw")
    copies: int = option(40, "ids of each picture")
    queries: int = option(1000, "texts to search for")
    k: int = option(10, "hits of each")
    rounds: int = option(5, "turns of each way")
    threads: int = option(0, "threads of a batch; 0 for one a core")
    out: str = option("", "JSON file to write the table to")


def queries(count: int) -> list[str]:
    """Return different texts of two coloured shapes each."""
    things = [f"{colour} {shape}" for colour, shape in product(COLOURS, SHAPES)]
    texts = [f"a {a} {p} a {b}" for a, p, b in product(things, _PLACES, things) if a != b]
    if count > len(texts):
        raise LexLIPError(f"queries is {count}: at most {len(texts):,} are different")
    chosen = np.random.default_rng(0).choice(len(texts), count, replace=False)
    return [texts[number] for number in chosen.tolist()]


def make_index(folder: Path, engine: str, model: Any, settings: Settings) -> Index:
    """Index drawn scenes, each also under other ids with impacts that differ a little."""
    scenes = {scene.id: scene.draw(128) for scene in make_scenes(settings.scenes, 1)}
    index = Index.create(folder / f"{engine}.lex", model, scenes, engine=engine)
    names = index.engine.ids()
    rows = index.engine.impacts(names)
    noise = np.random.default_rng(0)
    for copy in range(1, settings.copies):  # equal ones would tie
        shifted = rows.data + noise.integers(-40, 41, len(rows.data))
        others = csr_array((np.clip(shifted, 1, 255), rows.indices, rows.indptr), shape=rows.shape)
        index.engine.add([f"{name}-{copy}" for name in names], others)
    index.engine.commit()
    index.compact()
    return index


def rates(
    index: Index, texts: Sequence[str], settings: Settings
) -> tuple[tuple[float, float], bool]:
    """Return queries a second one by one and at once, and whether the hits are the same."""
    threads = settings.threads or None
    ways: tuple[Callable[[], Any], ...] = (
        lambda: [index.search(text, settings.k) for text in texts],
        lambda: index.search_many(texts, settings.k, threads=threads),
    )
    took: tuple[list[float], list[float]] = ([], [])
    found: list[Any] = [way() for way in ways]  # compiles, and fills caches
    for _ in range(settings.rounds):
        for seconds, way in zip(took, ways, strict=True):
            begun = time.perf_counter()
            way()
            seconds.append(time.perf_counter() - begun)
    one, many = (len(texts) / median(seconds) for seconds in took)
    return (one, many), found[0] == found[1]


def study(settings: Settings) -> list[dict[str, Any]]:
    """Return a row for each engine and each way to read texts."""
    texts, rows = queries(settings.queries), []
    with tempfile.TemporaryDirectory(prefix="lexlip-") as home:
        for engine in ENGINES:
            model = load_shipped()
            table = model.table
            with make_index(Path(home), engine, model, settings) as index:
                for name, reads in (("network", None), ("query table", table)):
                    model.table = reads
                    (one, many), same = rates(index, texts, settings)
                    if not same:
                        raise LexLIPError(f"{engine}, {name}: hits differ; look into it")
                    figures = (round(one), round(many), round(many / one, 1))
                    rows.append(dict(zip(HEADS, (engine, name, *figures), strict=True)))
    return rows


def main(overrides: Overrides = None) -> None:
    """Time queries one by one and many at once."""
    settings = from_overrides(Settings, overrides or [])
    quiet()
    rows = study(settings)
    cells = [[str(value) for value in row.values()] for row in rows]
    typer.echo("\n".join(report.aligned(HEADS, cells, 2)))
    if settings.out:
        write_json(Path(settings.out), {"settings": asdict(settings), "rows": rows})


app = Job(main, Settings)

if __name__ == "__main__":
    app()

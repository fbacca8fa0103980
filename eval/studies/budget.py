"""Budgets: bytes on disk and recall when fewer words of a picture are kept.

    python -m eval.studies.budget --config flickr8k-tiny --run runs/x terms=8,16,32,64,128

Pictures and captions are encoded once. For each engine and term budget an index of the pictures is
built in a temporary folder, compacted, closed and measured: all of its files with ids, without
metadata, as a search by words needs. The first row of an engine keeps all terms, and recall is
compared with it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from eval import metrics
from eval.bench import report
from eval.bench.sparse import LexLIPSystem, indexed, search_rows
from eval.bench.task import Pooled, Task, load_task, read_settings
from eval.race.worker import size
from lexlip.build.recipe import Recipe
from lexlip.cli.console import Config, Job, Overrides, Run
from lexlip.engines import open_engine
from lexlip.errors import LexLIPError
from lexlip.impacts import document_impacts
from lexlip.models.speaker import HasVectors
from lexlip.settings import option, option_of
from lexlip.storage.files import write_json

if TYPE_CHECKING:
    from scipy.sparse import csr_array

ENGINES = ("lucene", "postings")
TERMS = (8, 16, 32, 64, 128)
DENSE_BYTES = 4 * 512
"""Bytes of a dense vector of 512 float32 numbers, as CLIP stores per picture."""

UNSAID = ("collection", "engine", "out", "terms")
"""Settings that are elsewhere in ``budget.json``, or not in it."""

HEADS = (
    *("engine", "at most", "terms", "bytes", "dense/bytes"),
    *(f"T2I@{k}" for k in metrics.KS),
    *("loss@10", "p"),
)


def measure(
    system: LexLIPSystem,
    task: Task,
    engines: Sequence[str] = ENGINES,
    budgets: Sequence[int] = TERMS,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Build and search an index for each engine and budget, and one that keeps all terms.

    Parameters
    ----------
    system : LexLIPSystem
        The encoder; its budget and engine are ignored.
    task : Task
    engines : sequence of {"lucene", "postings"}
    budgets : sequence of int
        Terms kept of a picture.
    seed : int
        Of the test of a loss (`eval.metrics.paired_test`).

    Returns
    -------
    list of dict
        Rows with ``engine``, ``max_terms`` (None keeps all), ``terms_per_image``,
        ``bytes_per_image``, ``dense_ratio`` (2,048 over the bytes), ``t2i`` (recall as fractions),
        ``loss`` (R@10 of all terms minus that of the row) and its ``p_value``.

    Raises
    ------
    LexLIPError
        A budget below 1, an unknown engine, or no Java for Lucene.
    """
    if min(budgets, default=0) < 1:
        raise LexLIPError(f"term budgets are {list(budgets)}: give numbers of 1 or more")
    unknown = set(engines) - set(ENGINES)
    if unknown or not engines:
        raise LexLIPError(f"no engine {', '.join(unknown)}: choose from {', '.join(ENGINES)}")
    if "lucene" in engines:  # before the encoding
        from lexlip.engines.lucene.java import find_java

        find_java()
    pictures = system.picture_weights(task.gallery)
    scaled = isinstance(system.model, HasVectors)  # rows have their length already
    asked = system.query_weights(task.queries)
    rows = []
    for kind in engines:
        full: metrics.Run = {}
        for budget in (None, *sorted(set(budgets), reverse=True)):
            most = budget or pictures.shape[1]
            impacts = (
                document_impacts(pictures, most, normalise=False)[0]
                if scaled
                else indexed(system.model, pictures, most)
            )
            weight, run = _index(kind, task, impacts, asked)
            full = full or run
            test = metrics.paired_test(full, run, task.qrels, k=10, seed=seed)
            bytes_per_image = weight / len(task.gallery)
            rows.append(
                {
                    "engine": kind,
                    "max_terms": budget,
                    "terms_per_image": impacts.nnz / len(task.gallery),
                    "bytes_per_image": bytes_per_image,
                    "dense_ratio": DENSE_BYTES / bytes_per_image,
                    "t2i": metrics.recall_at(run, task.qrels),
                    "loss": test.difference,
                    "p_value": test.p_value,
                }
            )
    return rows


def _index(kind: str, task: Task, impacts: csr_array, asked: csr_array) -> tuple[int, metrics.Run]:
    """Build an index, search it and return the bytes of its folder, and the run."""
    with tempfile.TemporaryDirectory(prefix="lexlip-budget-") as name:
        folder = Path(name) / "index"
        with closing(open_engine(kind, folder, "w")) as engine:
            engine.add(task.gallery.ids, impacts)
            engine.compact()
            run, _ = search_rows(engine, asked, list(task.queries), 10, kind)
        return size(folder), run


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Format the rows of `measure`; recall in percent, the loss in points."""
    cells = [
        [
            row["engine"],
            "all" if row["max_terms"] is None else str(row["max_terms"]),
            f"{row['terms_per_image']:.1f}",
            f"{row['bytes_per_image']:,.1f}",
            f"{row['dense_ratio']:.1f}",
            *(f"{100 * value:.1f}" for value in row["t2i"].values()),
            f"{100 * row['loss']:+.2f}",
            f"{row['p_value']:.3f}",
        ]
        for row in rows
    ]
    return "\n".join(report.aligned(HEADS, cells, 1))


@dataclass(frozen=True)
class Settings(Pooled):
    """Settings of the study; each field is a key."""

    crops: int = option_of(Recipe, "crops")
    terms: tuple[int, ...] = option(TERMS, "term budgets")
    engine: tuple[str, ...] = option(ENGINES, "engines that hold the indexes")


def main(overrides: Overrides = None, config: Config = None, run: Run = None) -> None:
    """Measure the size and the recall of indexes with several term budgets."""
    settings = read_settings(Settings, config, overrides, run)
    if settings.model is None:
        raise LexLIPError("nothing to measure: give model=CHECKPOINT, or --run")
    task = load_task(settings)
    system = LexLIPSystem.from_pretrained(settings.model, crops=settings.crops)
    rows = measure(system, task, settings.engine, settings.terms, settings.seed)
    path = Path(settings.out) / "budget.json"
    results = {
        "format": 1,
        "settings": {key: value for key, value in vars(settings).items() if key not in UNSAID},
        "fingerprint": system.fingerprint,
        "images": len(task.gallery),
        "queries": len(task.queries),
        "dense_bytes": DENSE_BYTES,
        "rows": rows,
    }
    write_json(path, results)
    typer.echo(table(rows))
    typer.echo(
        f"\n{len(task.gallery):,} pictures, {len(task.queries):,} queries; dense/bytes: "
        f"{DENSE_BYTES:,} over bytes per picture; loss@10: points of T2I@10 below all terms\n"
        f"wrote {path}"
    )


app = Job(main, Settings)

if __name__ == "__main__":
    app()

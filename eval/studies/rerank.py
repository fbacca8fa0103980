"""The second stage: recall of each reranker over the first stage's best candidates.

    python -m eval.studies.rerank --config flickr8k-tiny --run runs/flickr8k-tiny

Texts are the queries. The inverted index returns its best candidates; each reranker scores them,
alone and added to the score by words. The weight of that sum is chosen on the queries of one half
of the pictures and used for the other half, both ways round: no query is measured with a weight
that it helped to choose. ``first_stage_R@depth`` is the ceiling: no reranker finds a picture that
the first stage missed.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray

from eval import metrics
from eval.bench import report
from eval.bench.sparse import indexed, search_rows
from eval.bench.systems import Gallery, batches, check_gallery, load_model
from eval.bench.task import Pooled, Task, load_task, read_settings
from lexlip.build.recipe import Recipe
from lexlip.cli.console import Config, Job, Overrides, Run
from lexlip.engines import PostingsEngine
from lexlip.impacts import quantise_query
from lexlip.models.runtime import set_threads
from lexlip.models.speaker import HasViews, require_views
from lexlip.rerank.fuse import reranked
from lexlip.rerank.rerankers import RERANKERS, Reranker, open_reranker
from lexlip.settings import option, option_of
from lexlip.storage.files import write_json
from lexlip.storage.forward import ForwardStore
from lexlip.storage.views import Views

DEPTH = 100
STEPS = tuple(round(0.1 * step, 1) for step in range(11))
"""Shares of the reranker's score in the sum with that of the words."""

HEADS = (
    *("reranker", "store"),
    *(f"alone@{k}" for k in metrics.KS),
    *(f"fused@{k}" for k in metrics.KS),
    *("share", "ms/100", "bytes"),
)


@dataclass(frozen=True)
class FirstStage:
    """The first stage's result: candidates, their scores, and the queries.

    Attributes
    ----------
    run : Run
        Query id to candidates, best first.
    queries : Views
        A row per query, in the order of `run`.
    """

    run: metrics.Run
    queries: Views


def first_stage(
    model: HasViews, task: Task, max_terms: int, depth: int
) -> tuple[FirstStage, Views, PostingsEngine]:
    """Encode pictures and queries, and search; returns the pictures' views and the engine too."""
    weights, views = _represent_pictures(model, task.gallery)
    engine = PostingsEngine()
    engine.add(task.gallery.ids, indexed(model, weights, max_terms))
    engine.commit()
    texts = list(task.queries.values())
    parts = [
        model.represent_text([texts[i] for i in part])
        for part in batches(len(texts), 128, "encoding queries")
    ]
    from scipy.sparse import csr_array, vstack

    asked = quantise_query(csr_array(vstack([part[0] for part in parts])))
    run, _ = search_rows(engine, asked, list(task.queries), depth, "first stage")
    return FirstStage(run, Views.concatenate([part[1] for part in parts])), views, engine


def _represent_pictures(model: HasViews, gallery: Gallery) -> tuple[Any, Views]:
    from scipy.sparse import csr_array, vstack

    check_gallery(gallery)
    parts = [
        model.represent_image([gallery.image(i) for i in part])
        for part in batches(len(gallery), 32, "encoding pictures")
    ]
    weights = csr_array(vstack([part[0] for part in parts]))
    return weights, Views.concatenate([part[1] for part in parts])


def scores_of(
    reranker: Reranker, first: FirstStage, sample: int = 200
) -> tuple[list[NDArray[np.float32]], float]:
    """Score the candidates of every query.

    Returns
    -------
    list of float32 [K]
        One array per query.
    float
        Median milliseconds of a query with a full list, over `sample` of them, query encoding
        excluded; one thread.
    """
    found, times = [], list[float]()
    full = max((len(hits) for hits in first.run.values()), default=0)
    for number, hits in enumerate(first.run.values()):
        query, ids = first.queries.take([number]), [name for name, _ in hits]
        began = time.perf_counter()
        found.append(reranker.score(query, ids))
        if len(ids) == full and len(times) < sample + 20:
            times.append(1000 * (time.perf_counter() - began))
    return found, median(times[20:] or times or [0.0])


def fused(
    first: FirstStage, scores: Sequence[NDArray[np.float32]], weights: Sequence[float]
) -> metrics.Run:
    """Rankings by the sum of both stages; `weights` has the share of the second for each query."""
    run: metrics.Run = {}
    for (query, hits), ours, weight in zip(first.run.items(), scores, weights, strict=True):
        order = reranked([score for _, score in hits], ours, weight)
        run[query] = [(hits[place][0], float(-rank)) for rank, place in enumerate(order)]
    return run


def best_weights(
    first: FirstStage, scores: Sequence[NDArray[np.float32]], qrels: metrics.Qrels
) -> list[float]:
    """Choose a weight for each query, on the queries of the other half of the pictures."""
    half = np.array([_half(query) for query in first.run])
    right = np.zeros((len(half), len(STEPS)), bool)  # is the best one relevant?
    for number, (query, hits) in enumerate(first.run.items()):
        good = np.array([name in qrels[query] for name, _ in hits], bool)
        words = [score for _, score in hits]
        for step, weight in enumerate(STEPS if hits else ()):
            right[number, step] = good[reranked(words, scores[number], weight)[0]]
    chosen = [
        STEPS[int(right[half == 1 - side].mean(0).argmax())] if (half != side).any() else 0.5
        for side in (0, 1)
    ]
    return [chosen[side] for side in half]


def _half(query: str) -> int:
    """Half of each query's picture: all captions of a picture are in one half."""
    return sum(query.rpartition("#")[0].encode()) % 2


def measure(
    model: HasViews,
    task: Task,
    rerankers: Sequence[str],
    codecs: Sequence[str] = ("int8",),
    max_terms: int = 64,
    depth: int = DEPTH,
) -> dict[str, Any]:
    """Run every reranker over every kind of store.

    Returns
    -------
    dict
        ``first_stage`` (recall, and the ceiling), ``rows``, and ``uncertainty`` if the model has a
        Gaussian head.
    """
    from eval.studies.uncertainty import deciles

    first, views, engine = first_stage(model, task, max_terms, depth)
    engine.close()
    base = metrics.recall_at(first.run, task.qrels, (*metrics.KS, depth))
    rows = []
    for codec in codecs:
        with tempfile.TemporaryDirectory(prefix="lexlip-eval-") as folder:
            store = ForwardStore(Path(folder) / "views", "w", codec=codec)
            try:
                store.write(task.gallery.ids, views)
                for name in rerankers:
                    reranker = open_reranker(name, store, model)
                    if codec != codecs[0] and reranker.needs != "tokens":
                        continue  # codecs store only tokens
                    scores, ms = scores_of(reranker, first)
                    weights = best_weights(first, scores, task.qrels)
                    alone = fused(first, scores, [1.0] * len(scores))
                    both = fused(first, scores, weights)
                    rows.append(
                        {
                            "reranker": name,
                            "codec": codec,
                            **{f"first_stage_{k}": v for k, v in base.items()},
                            **metrics.recall_at(alone, task.qrels),
                            **{
                                f"fused_{k}": v
                                for k, v in metrics.recall_at(both, task.qrels).items()
                            },
                            "weight": float(np.mean(weights)),
                            "ms_per_100": ms,
                            "bytes_per_image": store.bytes / len(task.gallery),
                        }
                    )
            finally:
                store.close()
    results: dict[str, Any] = {"first_stage": base, "rows": rows}
    if first.queries.has_gaussians:
        results["uncertainty"] = deciles(first.queries, list(first.run), first.run, task.qrels)
    return results


def table(results: Mapping[str, Any]) -> str:
    """Format the results for the terminal."""
    first = results["first_stage"]
    shares = ", ".join(f"{name} {100 * share:.1f}" for name, share in first.items())
    cells = []
    for row in results["rows"]:
        recalls = [row[f"{kind}R@{k}"] for kind in ("", "fused_") for k in metrics.KS]
        cells.append(
            [
                row["reranker"],
                row["codec"],
                *(f"{100 * share:.1f}" for share in recalls),
                *(f"{row['weight']:.2f}", f"{row['ms_per_100']:.2f}"),
                f"{row['bytes_per_image']:.0f}",
            ]
        )
    return "\n".join([f"first stage: {shares}", *report.aligned(HEADS, cells, 2)])


@dataclass(frozen=True)
class Settings(Pooled):
    """Settings of the study; each field is a key."""

    out: str = option("runs/bench-rerank", "folder for the numbers")
    max_terms: int = option_of(Recipe, "max_terms")
    rerankers: tuple[str, ...] = option((), f"of {', '.join(RERANKERS)}; default: all possible")
    codecs: tuple[str, ...] = option(("int8", "float16"), "how tokens are stored")
    depth: int = option(DEPTH, "candidates that are reranked")


def main(overrides: Overrides = None, config: Config = None, run: Run = None) -> None:
    """Measure rerankers over the best candidates of the first stage."""
    settings = read_settings(Settings, config, overrides, run, trained="heads", into_run=False)
    encoder = require_views(load_model(settings.model))
    names = settings.rerankers or possible(encoder)
    set_threads(1)
    task = load_task(settings)
    results = measure(encoder, task, names, settings.codecs, settings.max_terms, settings.depth)
    facts = {"split": settings.split, "seed": settings.seed}
    results["rows"] = [{**row, **facts} for row in results["rows"]]
    about = {"checkpoint": settings.model, "data": settings.data, "depth": settings.depth, **facts}
    folder = Path(settings.out)
    if "uncertainty" in results:
        from eval.studies.uncertainty import plot

        plot(results["uncertainty"], folder / "uncertainty.png")
    write_json(folder / "metrics.json", {"format": 1, **about, **results})
    typer.echo(table(results))
    typer.echo(f"\nwrote {folder / 'metrics.json'}")


def possible(model: HasViews) -> list[str]:
    """Name the rerankers that a model's heads allow."""
    names = list[str]()
    if model.token_size:
        names += ["filip", "filip-i2t", "filip-avg", "scan"]
        names += [] if model.naaf_threshold is None else ["naaf"]
    if model.gaussian_size:
        names += ["csd", "mc", "mu", "w2", "elk", "bhattacharyya", "jeffreys", "hellinger"]
    return names


app = Job(main, Settings)

if __name__ == "__main__":
    app()

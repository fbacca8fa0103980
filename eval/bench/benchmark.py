"""The benchmark: systems over the same pictures, texts and judgements; runs, numbers, a table.

    python -m eval.bench --config flickr8k-tiny --run runs/flickr8k-tiny
    python -m eval.bench data=flickr8k split=dev model=runs/stage2 bm25=true out=runs

Text to image: every caption asks for its picture. Image to text: every picture asks for its
captions. ``pool=FILE`` restricts both to a pool that somebody else's vectors cover, so that all
rows of a table answer the same questions. ``vectors=FILE`` keeps LexLIP's impacts and query
weights, and the vectors of the first dense system, for a race of engines (`eval.race.engines`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import typer

from eval import metrics
from eval.bench import report
from eval.bench.phased import PhasedSystem
from eval.bench.sparse import LexLIPSystem
from eval.bench.systems import Gallery, System, check_gallery, load_model
from eval.bench.task import Settings, Task, load_task, read_settings
from lexlip import settings as toml
from lexlip.cli.console import Config, Job, Overrides, Run
from lexlip.errors import LexLIPError
from lexlip.models.query_table import is_table
from lexlip.models.speaker import HasVectors
from lexlip.storage.files import write_json


def load_systems(settings: Settings) -> list[System]:
    """Load every checkpoint that the settings name, before anything is measured.

    Raises
    ------
    LexLIPError
        A checkpoint is missing, or no system is named.
    """
    systems: list[System] = []
    if settings.model:
        kept: dict[str, Any] = {
            "max_terms": settings.max_terms,
            "engine": settings.engine,
            "crops": settings.crops,
        }
        model = load_model(settings.model)
        if isinstance(model, HasVectors):
            named = kept | {"checkpoint": settings.model}
            systems.append(PhasedSystem(model, **named))
            systems.append(PhasedSystem(model, name="lexlip, words alone", order="terms", **named))
        else:
            kept["levels"] = settings.levels
            systems.append(LexLIPSystem(model, checkpoint=settings.model, **kept))
        if is_table(settings.model):
            systems.append(LexLIPSystem.with_table(settings.model, **kept))
    if settings.dense:
        from eval.bench.baselines.dense import dual_encoder

        systems.append(dual_encoder(settings.dense, crops=settings.crops))
    if settings.clip:
        from eval.bench.baselines.clip import clip

        systems.append(clip(toml.resolve(settings.clip), crops=settings.crops))
    if settings.clip_embeddings:
        from eval.bench.baselines.clip import precomputed

        systems.append(precomputed(toml.resolve(settings.clip_embeddings)))
    if settings.bm25:
        from eval.bench.baselines.bm25 import BM25System

        systems.append(BM25System())
    if not systems:
        raise LexLIPError(
            "nothing to measure: give model, dense, clip, clip_embeddings or bm25=true, or --run"
        )
    return systems


def measure(system: System, task: Task) -> tuple[dict[str, Any], metrics.Run, metrics.Run]:
    """Run one system in both directions.

    Returns
    -------
    dict
        The system's entry of ``metrics.json``.
    Run, Run
        Text to image and image to text.
    """
    system.index(task.gallery)
    asked = system.answers(task.queries)
    if not asked:
        raise LexLIPError(f"{system.name} can answer none of the {len(task.queries)} queries")
    queries = {query: task.queries[query] for query in asked}
    qrels = {query: task.qrels[query] for query in asked}
    back = metrics.invert(qrels)
    pictures = [name for name in task.gallery.ids if name in back]
    t2i = system.t2i(queries)
    i2t = system.i2t(pictures, queries)
    recall_t2i, recall_i2t = metrics.recall_at(t2i, qrels), metrics.recall_at(i2t, back)
    words = system.words()
    entry = {
        "t2i": recall_t2i,
        "i2t": recall_i2t,
        "rsum": metrics.rsum(recall_t2i, recall_i2t),
        "grounded_p10": None if words is None else _grounded(system, words, task.gallery, 10),
        "grounded_p5": None if words is None else _grounded(system, words, task.gallery, 5),
        "terms_per_image": system.terms_per_image,
        "bytes_per_image": system.bytes_per_image,
        "p50_ms": system.p50_ms,
        "encode_ms": system.encode_ms,
        "queries": len(queries),
        "checkpoint": system.checkpoint,
        "fingerprint": system.fingerprint,
        "note": system.note,
    }
    return entry, t2i, i2t


def _grounded(
    system: System, words: list[list[tuple[str, float]]], gallery: Gallery, k: int
) -> float | None:
    """Grounded precision at k over the pictures that have captions."""
    judged = [i for i, captions in enumerate(gallery.captions) if captions]
    return metrics.grounded_precision(
        [[word for word, _ in words[i]] for i in judged],
        [gallery.captions[i] for i in judged],
        k=k,
        tokenize=system.tokenize,
    )


def chance(task: Task) -> dict[str, dict[str, float]]:
    """Expected scores of random rankings on the task."""
    back = metrics.invert(task.qrels)
    sides = {"t2i": (task.qrels, len(task.gallery)), "i2t": (back, len(task.queries))}
    return {
        side: {
            f"R@{k}": float(
                np.mean([metrics.chance_recall(size, len(r), min(k, size)) for r in qrels.values()])
            )
            for k in metrics.KS
        }
        for side, (qrels, size) in sides.items()
    }


def run_benchmark(systems: Sequence[System], task: Task, settings: Settings) -> dict[str, Any]:
    """Measure the systems one after the other and write everything under ``settings.out``.

    Files: ``metrics.json`` (last, so that it marks a finished benchmark), ``t2i.qrels``,
    ``i2t.qrels``, and ``<system>.t2i.run`` / ``<system>.i2t.run`` in TREC format; with
    ``settings.vectors`` that file too (`eval.race.store.write_file`).

    Returns
    -------
    dict
        The content of ``metrics.json``: the settings, the task's size, the chance level, one entry
        per system, and paired tests of every later system against the first where both answered
        the same queries.

    Raises
    ------
    LexLIPError
        A gallery or ranking with duplicates, two systems of one name, or vectors without LexLIP.
    """
    check_gallery(task.gallery)
    if settings.vectors and not any(isinstance(system, LexLIPSystem) for system in systems):
        raise LexLIPError(
            "only LexLIP's vectors can be written: give model=CHECKPOINT, or no vectors"
        )
    names = [file_name(system.name) for system in systems]
    if len(set(names)) < len(names):
        raise LexLIPError(f"two systems share a name ({', '.join(names)}): measure them one by one")
    out = Path(settings.out)
    entries: dict[str, Any] = {}
    runs: dict[str, metrics.Run] = {}
    for system, stem in zip(systems, names, strict=True):
        try:
            entry, t2i, i2t = measure(system, task)
        finally:
            system.close()
        entries[system.name] = {**entry, "seed": settings.seed, "split": settings.split}
        runs[system.name] = t2i
        metrics.write_trec_run(out / f"{stem}.t2i.run", t2i, stem)
        metrics.write_trec_run(out / f"{stem}.i2t.run", i2t, stem)
    metrics.write_qrels(out / "t2i.qrels", task.qrels)
    metrics.write_qrels(out / "i2t.qrels", metrics.invert(task.qrels))
    if settings.vectors:
        _write_vectors(settings.vectors, systems, task)
    results = {
        "format": 1,
        "settings": asdict(settings),
        "images": len(task.gallery),
        "queries": len(task.queries),
        "chance": chance(task),
        "systems": entries,
        "paired": _paired(runs, task, settings.seed),
    }
    write_json(out / "metrics.json", results)
    return results


def _write_vectors(path: str, systems: Sequence[System], task: Task) -> None:
    """Write LexLIP's impacts and query weights, and the vectors of the first dense system, if any.

    Rows are in the order of the gallery and of the queries.
    """
    from eval.bench.baselines.dense import DenseSystem
    from eval.race.store import write_file

    ids = task.gallery.ids
    found = [
        next((s.vectors(ids, task.queries) for s in systems if isinstance(s, kind)), None)
        for kind in (LexLIPSystem, DenseSystem)
    ]
    assert found[0] is not None
    place = {name: row for row, name in enumerate(ids)}
    pairs = [
        (query, place[name])
        for query, names in enumerate(task.qrels[query] for query in task.queries)
        for name in sorted(names)
    ]
    write_file(Path(path), *found[0], found[1], np.array(pairs))


def _paired(runs: Mapping[str, metrics.Run], task: Task, seed: int) -> list[dict[str, Any]]:
    first, *others = runs
    tests = []
    for other in others:
        if runs[first].keys() == runs[other].keys():
            test = metrics.paired_test(runs[first], runs[other], task.qrels, k=1, seed=seed)
            tests.append({"a": first, "b": other, "measure": "t2i R@1", **asdict(test)})
    return tests


def file_name(name: str) -> str:
    """Turn the name of a system into a part of a file name.

    Examples
    --------
    >>> file_name("dense dual encoder")
    'dense-dual-encoder'
    """
    return "-".join(metrics.split_words(name)) or "system"


def main(overrides: Overrides = None, config: Config = None, run: Run = None) -> None:
    """Measure retrieval systems over the same pictures and texts."""
    settings = read_settings(Settings, config, overrides, run)
    systems = load_systems(settings)
    results = run_benchmark(systems, load_task(settings), settings)
    typer.echo(report.table({settings.out: results}))
    for name, entry in results["systems"].items():
        if entry["grounded_p5"] is not None:
            typer.echo(
                f"{name}: {entry['grounded_p5']:.2f} of a picture's 5 heaviest words, "
                f"{entry['grounded_p10']:.2f} of its 10, occur in its captions"
            )
    typer.echo(f"\nwrote {Path(settings.out) / 'metrics.json'}")


app = Job(main, Settings)

"""Run systems over the same pictures, texts and judgements; write runs, numbers and the table.

    python -m eval.benchmark --data flickr8k --split dev --model runs/stage2 --bm25 --out runs/dev

Text to image: every caption asks for its picture. Image to text: every picture asks for its
captions. ``--pool`` restricts both to a pool that somebody else's vectors cover, so that all rows
of a table answer the same questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from eval import metrics, report
from eval.systems import Gallery, LexLIPSystem, System, check_gallery
from lexlip import settings as toml
from lexlip.errors import LexLIPError
from lexlip.files import read_json, write_json

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Settings:
    """What to measure; each field is an option of the command and a key of ``[bench]``."""

    data: str = "scenes"
    split: str = "dev"
    limit: int | None = None
    model: str | None = None
    dense: str | None = None
    clip: str | None = None
    clip_embeddings: str | None = None
    bm25: bool = False
    max_terms: int = 64
    engine: str = "auto"
    pool: str | None = None  # $LEXLIP_PEERS and the like are expanded
    out: str = "runs/bench"
    seed: int = 0
    collection: toml.Data = field(default_factory=toml.Data)  # how `data` is cached or drawn


@dataclass(frozen=True)
class Task:
    """One set of questions: the gallery, the texts that ask, and what is relevant to each."""

    gallery: Gallery
    queries: dict[str, str]
    qrels: dict[str, set[str]]


class Part:
    """Some pictures of one or several collections, read when asked for.

    Parameters
    ----------
    collections : Sequence[Gallery]
        Galleries laid end to end.
    keep : set[str] or None
        Ids of the pictures to keep; None keeps all.
    """

    def __init__(self, collections: Sequence[Gallery], keep: set[str] | None = None) -> None:
        self._places = [
            (collection, i)
            for collection in collections
            for i, name in enumerate(collection.ids)
            if keep is None or name in keep
        ]
        self.ids = [collection.ids[i] for collection, i in self._places]
        self.captions = [list(collection.captions[i]) for collection, i in self._places]

    def image(self, i: int) -> Image:
        """Picture number i."""
        collection, place = self._places[i]
        return collection.image(place)

    def __len__(self) -> int:
        return len(self._places)


def load_task(settings: Settings) -> Task:
    """Read the collection (several splits joined by ``+``), restricted to the pool if there is one.

    Raises
    ------
    LexLIPError
        Unknown data or split, or a pool that shares no picture or query with the data.
    """
    source = replace(settings.collection, source=settings.data)
    collections = [source.open(split) for split in settings.split.split("+")]
    if settings.limit is not None:
        collections = [c.select(range(min(settings.limit, len(c)))) for c in collections]
    qrels = {query: items for c in collections for query, items in c.qrels.items()}
    pool: set[str] | None = None
    asked: dict[str, str] | None = None
    if settings.pool is not None:
        pool, asked = read_pool(toml.resolve(settings.pool))
    gallery = Part(collections, pool)
    inside = set(gallery.ids)
    texts = {
        f"{name}#{i}": text
        for name, captions in zip(gallery.ids, gallery.captions, strict=True)
        for i, text in enumerate(captions)
    }
    if asked is not None:
        texts = {q: t for q, t in asked.items() if q.rpartition("#")[0] in inside}
    if not texts:
        raise LexLIPError(
            f"no queries for {settings.data}, split {settings.split}: choose data whose pictures "
            "have captions and lie in the pool"
        )
    if pool is not None and asked is not None:
        typer.echo(
            f"pool: {len(gallery)} of {len(pool)} pictures, {len(texts)} of {len(asked)} queries"
        )
    judged = {q: qrels.get(q, {q.rpartition("#")[0]}) & inside for q in texts}
    return Task(gallery, texts, judged)


def read_pool(path: str | Path) -> tuple[set[str], dict[str, str] | None]:
    """Read a pool: a JSON list of picture ids and, if it stands beside it, ``queries.tsv``.

    Raises
    ------
    LexLIPError
        The file is missing or not a list of ids.
    """
    from eval.baselines.clip import read_queries

    ids = read_json(path)
    if not isinstance(ids, list) or not all(isinstance(name, str) for name in ids):
        raise LexLIPError(f"the pool {path} is not a JSON list of picture ids")
    queries = Path(path).with_name("queries.tsv")
    return set(ids), read_queries(queries) if queries.exists() else None


def load_systems(settings: Settings) -> list[System]:
    """Read every checkpoint that the settings name, before anything is measured.

    Raises
    ------
    LexLIPError
        A checkpoint is missing, or no system was named at all.
    """
    systems: list[System] = []
    if settings.model:
        systems.append(
            LexLIPSystem.from_pretrained(
                settings.model, max_terms=settings.max_terms, engine=settings.engine
            )
        )
    if settings.dense:
        from eval.baselines.dense import dual_encoder

        systems.append(dual_encoder(settings.dense))
    if settings.clip:
        from eval.baselines.clip import clip

        systems.append(clip(toml.resolve(settings.clip)))
    if settings.clip_embeddings:
        from eval.baselines.clip import precomputed

        systems.append(precomputed(toml.resolve(settings.clip_embeddings)))
    if settings.bm25:
        from eval.baselines.bm25 import BM25System

        systems.append(BM25System())
    if not systems:
        raise LexLIPError(
            "nothing to measure: give --model, --dense, --clip, --clip-embeddings or --bm25"
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
    """What random rankings would score on the task, in expectation."""
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

    Files: ``metrics.json`` (last, so that it stands for a finished benchmark), ``t2i.qrels``,
    ``i2t.qrels``, and ``<system>.t2i.run`` / ``<system>.i2t.run`` in TREC format.

    Returns
    -------
    dict
        What ``metrics.json`` holds: the settings, the task's size, the chance level, one entry a
        system, and paired tests of every later system against the first where both answered the
        same queries.

    Raises
    ------
    LexLIPError
        A gallery or ranking with duplicates, or two systems of one name.
    """
    check_gallery(task.gallery)
    names = [file_name(system.name) for system in systems]
    if len(set(names)) < len(names):
        raise LexLIPError(f"two systems share a name ({', '.join(names)}): their runs would too")
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


def _paired(runs: Mapping[str, metrics.Run], task: Task, seed: int) -> list[dict[str, Any]]:
    first, *others = runs
    tests = []
    for other in others:
        if runs[first].keys() == runs[other].keys():
            test = metrics.paired_test(runs[first], runs[other], task.qrels, k=1, seed=seed)
            tests.append({"a": first, "b": other, "measure": "t2i R@1", **asdict(test)})
    return tests


def file_name(name: str) -> str:
    """Name of a system as part of a file name.

    Examples
    --------
    >>> file_name("dense dual encoder")
    'dense-dual-encoder'
    """
    return "-".join(metrics.split_words(name)) or "system"


def read_settings(
    config: str | Path | None, options: Mapping[str, Any], run: str | None = None
) -> Settings:
    """Settings from the tables ``[bench]`` and ``[data]`` of a config, then of a run's folder,
    then options that are given.

    Parameters
    ----------
    config : str or Path, optional
        TOML file, or the name of a shipped one.
    options : Mapping[str, Any]
        Those that are None were not given.
    run : str, optional
        Folder that training wrote: its ``stage2`` and, if it is there, its ``dense`` are
        measured, and results go into the folder itself.

    Raises
    ------
    LexLIPError
        Unreadable file, or a key that is no setting (the nearest one is named).
    """
    table: dict[str, Any] = {}
    if config is not None:
        file = toml.read(config)
        shared = toml.build(toml.Data, file.get("data", {}), "data.")
        table = {"data": shared.source, "split": shared.dev, **file.get("bench", {})}
        table["collection"] = shared
    if run is not None:
        table = {"model": f"{run}/stage2", **table, "out": run}
        if Path(run, "dense", "config.json").is_file():
            table["dense"] = f"{run}/dense"
        manifest = Path(run, "stage2", "manifest.json")
        if manifest.is_file():
            table["seed"] = read_json(manifest)["settings"]["seed"]
    given = {key: value for key, value in options.items() if value is not None}
    return toml.build(Settings, {**table, **given}, "bench.")


def main(
    data: Annotated[
        str | None, typer.Option(help="Collection: scenes, flickr8k, or a folder.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split; several joined by '+'.")] = None,
    limit: Annotated[int | None, typer.Option(help="First so many pictures of a split.")] = None,
    model: Annotated[str | None, typer.Option(help="LexLIP checkpoint folder.")] = None,
    dense: Annotated[str | None, typer.Option(help="Dense dual encoder checkpoint folder.")] = None,
    clip: Annotated[str | None, typer.Option(help="CLIP checkpoint, name or folder.")] = None,
    clip_embeddings: Annotated[str | None, typer.Option(help="Folder of CLIP vectors.")] = None,
    bm25: Annotated[
        bool | None, typer.Option("--bm25/--no-bm25", help="BM25 over captions.")
    ] = None,
    max_terms: Annotated[int | None, typer.Option(help="Terms kept of a picture.")] = None,
    engine: Annotated[str | None, typer.Option(help="auto, lucene or exact.")] = None,
    pool: Annotated[str | None, typer.Option(help="JSON list of picture ids to keep.")] = None,
    out: Annotated[str | None, typer.Option(help="Folder for runs and numbers.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed that the checkpoints had.")] = None,
    config: Annotated[
        str | None, typer.Option(help="TOML file (or a shipped one's name) with these options.")
    ] = None,
    run: Annotated[
        str | None, typer.Option(help="Folder that training wrote: measure what is in it.")
    ] = None,
) -> None:
    """Measure retrieval systems over the same pictures and texts."""
    options = {key: value for key, value in locals().items() if key not in ("config", "run")}
    try:
        settings = read_settings(config, options, run)
        systems = load_systems(settings)
        results = run_benchmark(systems, load_task(settings), settings)
    except LexLIPError as error:
        typer.echo(f"lexlip: {error}", err=True)
        raise typer.Exit(2) from None
    typer.echo(report.table({settings.out: results}))
    for name, entry in results["systems"].items():
        if entry["grounded_p5"] is not None:
            typer.echo(
                f"{name}: {entry['grounded_p5']:.2f} of a picture's 5 heaviest words, "
                f"{entry['grounded_p10']:.2f} of its 10, stand in its captions"
            )
    typer.echo(f"\nwrote {Path(settings.out) / 'metrics.json'}")


if __name__ == "__main__":
    typer.run(main)

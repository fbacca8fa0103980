"""The race: search engines over the same vectors; time, memory, size, distance to the floor.

    python -m eval.race out=runs/bench-engine documents=10000,100000

``light`` and ``heavy`` are synthetic sparse and dense vectors (`eval.race.synthetic`); ``flickr``
is a file of a trained model's vectors, which a benchmark writes:

    python -m eval.bench --config flickr8k-tiny --run runs/x vectors=runs/x/vectors.npz
    python -m eval.race vectors=runs/x/vectors.npz

Each engine runs in a separate process, in one thread. Exact engines are checked against scipy
before they are timed; settings of approximate ones are raised until recall is 0.99 (0.95 for a
dense graph, against exact dense search). Timing starts with a vector and ends with numbers and
scores of documents.
"""

from __future__ import annotations

import os
import platform
import shlex
import sys
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer

from eval.race import CONTENDERS, contender, report, store
from eval.race.base import Vectors
from eval.race.race import Lane, Rules, race
from eval.race.synthetic import LAW, dense, learned_sparse
from lexlip.cli.console import Job, Overrides
from lexlip.errors import LexLIPError
from lexlip.settings import from_overrides, option
from lexlip.storage.files import write_json, write_text

FILE = "flickr"


@dataclass(frozen=True)
class Settings(Rules):
    """Settings of a race; each field is a key."""

    out: str = option("runs/bench-engine", "folder for numbers, table and plot")
    documents: tuple[int, ...] = option((10_000, 100_000), "numbers of synthetic documents")
    data: tuple[str, ...] = option((), "light, heavy or flickr; light,heavy if no vectors")
    engine: tuple[str, ...] = option((), "engines to race; by default all that are installed")
    queries: int = option(1000, "number of synthetic queries")
    vectors: str | None = option(None, "file of vectors for data=flickr")
    scratch: str | None = option(None, "where indexes are built; by default the system's choice")
    seed: int = option(0, "seed of the synthetic vectors")


def run(settings: Settings) -> dict[str, Any]:
    """Run all races and write ``metrics.json``, ``table.txt`` and ``engines.png`` after each.

    Returns
    -------
    dict
        The content of ``metrics.json``: rows, floors, machine, settings, engines left out.

    Raises
    ------
    LexLIPError
        For unknown engines or data, or an exact engine that is not.
    """
    names = settings.engine or tuple(CONTENDERS)
    asked = settings.data or ((FILE,) if settings.vectors else ("light", "heavy"))
    kinds = {contender(name).kind for name in names}
    unknown = set(asked) - {*LAW, FILE}
    if unknown:
        raise LexLIPError(f"no data {min(unknown)!r}: choose from {', '.join([*LAW, FILE])}")
    if FILE in asked and settings.vectors is None:
        raise LexLIPError(f"data {FILE} is read from a file: give vectors=FILE")
    numbers = (settings.queries, settings.k, settings.rounds, settings.threads, settings.checked)
    if min(*numbers, *settings.documents) < 1:
        raise LexLIPError("documents, queries, k, rounds, checked and threads are 1 or more")
    results: dict[str, Any] = {
        "format": 1,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.executable).name, *sys.orig_argv[1:]]),
        "settings": {**asdict(settings), "data": asked},
        "machine": machine(),
        "versions": {},
        "rows": [],
        "floors": [],
        "left_out": [],
    }
    for data in asked:
        for count in settings.documents if data != FILE else (0,):
            with tempfile.TemporaryDirectory(prefix="lexlip-race-", dir=settings.scratch) as name:
                _race(Path(name), data, count, names, kinds, settings, results)
            _write(Path(settings.out), results)
    return results


def _race(
    folder: Path,
    data: str,
    count: int,
    names: tuple[str, ...],
    kinds: set[str],
    settings: Settings,
    results: dict[str, Any],
) -> None:
    """Make the vectors, race the engines over them, and add their rows to the results."""
    place = folder / "vectors"
    place.mkdir()
    if data == FILE:
        count = store.unpack(Path(settings.vectors or ""), place)
    else:
        asked = settings.queries
        if "sparse" in kinds:
            pair = learned_sparse(count, data, settings.seed, queries=asked)  # type: ignore[arg-type]
            store.save_sparse(place, *pair)
            del pair
        if "dense" in kinds:
            vectors = dense(count, seed=settings.seed, queries=asked, out=place / "documents.npy")
            store.save_dense_queries(place, vectors[1])

    def say(line: str) -> None:
        if line not in results["left_out"]:
            results["left_out"].append(line)
            typer.echo(line, err=True)

    lanes: list[Lane] = []
    for name in names:
        engine = contender(name)
        if not Vectors(place).has(engine.kind):
            say(f"{engine.name} is left out of {data}: no {engine.kind} vectors in the file")
        elif engine.ceiling and count > engine.ceiling and not settings.engine:
            say(f"{engine.name} is left out beyond {engine.ceiling:,} documents: name it in engine")
        else:
            lanes.append(Lane(name, place, folder / f"index-{len(lanes)}"))
    rows, floor = race(lanes, settings, say)
    for row in rows:
        results["versions"] |= row.pop("versions")
        results["rows"].append({"engine": row["engine"], "data": data, **row})
    results["floors"].append({"data": data, "n": count, **floor})


def _write(out: Path, results: dict[str, Any]) -> None:
    write_text(out / "table.txt", report.table(results))
    if results["rows"]:
        try:
            report.plot(results, out / "engines.png")
        except ImportError:
            typer.echo("no plot: pip install matplotlib", err=True)
    write_json(out / "metrics.json", results)


def machine() -> dict[str, Any]:
    """Describe the machine that the times depend on."""
    processor = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            models = [line.partition(":")[2].strip() for line in file if "model name" in line]
        processor = models[0] if models else processor
    except OSError:
        pass
    return {
        "cpus": os.cpu_count(),
        "processor": processor,
        "system": platform.platform(),
        "python": platform.python_version(),
        "load": [round(load, 1) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None,
    }


def main(overrides: Overrides = None) -> None:
    """Race search engines over the same vectors."""
    settings = from_overrides(Settings, overrides or [])
    results = run(settings)
    typer.echo(report.table(results))
    typer.echo(f"wrote {Path(settings.out) / 'metrics.json'}")


app = Job(main, Settings)

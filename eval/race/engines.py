"""Race search engines over the same vectors: time, memory, size, and how far from the floor.

    python -m eval.race.engines --out runs/bench-engine --documents 10000 --documents 100000

``light`` and ``heavy`` are made-up sparse vectors with dense ones beside them
(`eval.race.synthetic`); ``flickr`` is a file of a trained model's vectors, which a benchmark
writes:

    python -m eval.bench.benchmark --config flickr8k-tiny --run runs/x --vectors runs/x/vectors.npz
    python -m eval.race.engines --vectors runs/x/vectors.npz

Each engine runs in a process of its own, in one thread. Exact engines are checked against scipy
before they are timed; approximate ones have their settings raised until recall is 0.99 (0.95 for a
dense graph, against exact dense search). What is timed starts with a vector at hand and ends with
the numbers and scores of documents at hand.
"""

from __future__ import annotations

import os
import platform
import shlex
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from eval.race import CONTENDERS, contender, report, store
from eval.race.base import Vectors
from eval.race.race import Lane, Rules, race
from eval.race.synthetic import LAW, dense, learned_sparse
from lexlip.errors import LexLIPError
from lexlip.storage.files import write_json, write_text

FILE = "flickr"


@dataclass(frozen=True)
class Settings:
    """What to race; each field is an option of the command."""

    out: str = "runs/bench-engine"
    documents: tuple[int, ...] = (10_000, 100_000)
    data: tuple[str, ...] = ("light", "heavy")
    engine: tuple[str, ...] = ()  # all that are installed
    queries: int = 1000
    vectors: str | None = None
    scratch: str | None = None
    seed: int = 0
    rules: Rules = field(default_factory=Rules)


def run(settings: Settings) -> dict[str, Any]:
    """Run all races and write ``metrics.json``, ``table.txt`` and ``engines.png`` after each.

    Returns
    -------
    dict
        What ``metrics.json`` holds: rows, floors, the machine, the settings, what was left out.

    Raises
    ------
    LexLIPError
        For unknown engines or data, or an exact engine that is not.
    """
    names = settings.engine or tuple(CONTENDERS)
    kinds = {contender(name).kind for name in names}
    unknown = set(settings.data) - {*LAW, FILE}
    if unknown:
        raise LexLIPError(f"no data {min(unknown)!r}: choose from {', '.join([*LAW, FILE])}")
    if FILE in settings.data and settings.vectors is None:
        raise LexLIPError(f"data {FILE} is read from a file: give --vectors")
    rules = settings.rules
    numbers = (*settings.documents, settings.queries, rules.k, rules.rounds, rules.threads)
    if min(*numbers, rules.checked) < 1:
        raise LexLIPError("documents, queries, k, rounds, checked and threads are 1 or more")
    results: dict[str, Any] = {
        "format": 1,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.executable).name, *sys.orig_argv[1:]]),
        "settings": asdict(settings),
        "machine": machine(),
        "versions": {},
        "rows": [],
        "floors": [],
        "left_out": [],
    }
    for data in settings.data:
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
    """Make the vectors, race the engines over them, and add what came out to the results."""
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
            say(f"{engine.name} is left out beyond {engine.ceiling:,} documents: ask by --engine")
        else:
            lanes.append(Lane(name, place, folder / f"index-{len(lanes)}"))
    rows, floor = race(lanes, settings.rules, say)
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
    """Return what the times depend on besides the code."""
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


def main(
    out: Annotated[str, typer.Option(help="Folder for numbers, table and plot.")] = Settings.out,
    documents: Annotated[
        list[int] | None, typer.Option(help="Number of made-up documents; again for more races.")
    ] = None,
    data: Annotated[
        list[str] | None, typer.Option(help="light, heavy or flickr; may be repeated.")
    ] = None,
    engine: Annotated[
        list[str] | None, typer.Option(help="Engine to race; all that are installed if left out.")
    ] = None,
    queries: Annotated[int, typer.Option(help="Queries to make up.")] = Settings.queries,
    k: Annotated[int, typer.Option(help="Documents wanted.")] = Rules.k,
    rounds: Annotated[int, typer.Option(help="Turns of every engine.")] = Rules.rounds,
    seconds: Annotated[float, typer.Option(help="Longest turn of one engine.")] = Rules.seconds,
    checked: Annotated[int, typer.Option(help="Queries whose answers are judged.")] = Rules.checked,
    threads: Annotated[int, typer.Option(help="Threads, where an engine allows it.")] = 1,
    vectors: Annotated[str | None, typer.Option(help="File of vectors for data flickr.")] = None,
    scratch: Annotated[
        str | None, typer.Option(help="Where indexes are built; the system's choice if left out.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the made-up vectors.")] = 0,
) -> None:
    """Race search engines over the same vectors."""
    settings = Settings(
        out=out,
        documents=tuple(documents or Settings.documents),
        data=tuple(data or ((FILE,) if vectors else Settings.data)),
        engine=tuple(engine or ()),
        queries=queries,
        vectors=vectors,
        scratch=scratch,
        seed=seed,
        rules=Rules(k=k, rounds=rounds, seconds=seconds, checked=checked, threads=threads),
    )
    try:
        results = run(settings)
    except LexLIPError as error:
        typer.echo(f"lexlip: {error}", err=True)
        raise typer.Exit(2) from None
    typer.echo(report.table(results))
    typer.echo(f"wrote {Path(out) / 'metrics.json'}")


if __name__ == "__main__":
    typer.run(main)

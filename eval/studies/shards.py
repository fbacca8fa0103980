"""Shards: times of each shard, measured, and times of a search over many, simulated.

    python -m eval.studies.shards engine=postings documents=100000 shards=10

A search over shards waits for the slowest. The study builds real shards of made-up documents
(`eval.race.synthetic`, ``light``) and times each query on each of them, again and again. To
simulate n shards it takes a query, and for each shard one of that query's measured times: slow
queries are slow on all shards, a pause of one shard hits one of them. The way between machines is
`hop` milliseconds, and merging the answers is timed. What is simulated for as many shards as were
built stands beside the measured maximum of them.
"""

from __future__ import annotations

import heapq
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray

from eval.bench import report
from eval.race.synthetic import learned_sparse
from lexlip.cli.console import Job, Overrides
from lexlip.engines import check_engine, open_engine
from lexlip.errors import LexLIPError
from lexlip.settings import from_overrides, option
from lexlip.storage.files import write_json

HEADS = ("shards", "p50 ms", "p95 ms", "p99 ms", "with a second copy, p99 ms")
QUANTILES = (50, 95, 99)


@dataclass(frozen=True)
class Settings:
    """Settings of the study; each field is a key."""

    engine: str = option("postings", "lucene, postings, or a place whose last part is a prefix")
    documents: int = option(100_000, "documents of each shard that is built")
    shards: int = option(10, "shards that are built")
    queries: int = option(200, "queries, all different")
    rounds: int = option(5, "times that each query is timed on each shard")
    k: int = option(100, "hits wanted")
    many: tuple[int, ...] = option((10, 100, 1000), "numbers of shards to simulate")
    searches: int = option(20_000, "searches that are simulated")
    hop: float = option(0.5, "milliseconds to a shard and back")
    hedge: int = option(95, "per cent of shard times after which a second copy is asked")
    seed: int = option(0, "of documents, queries and the simulation")
    out: str = option("", "JSON file to write the figures to")


def measure(folder: Path, settings: Settings) -> NDArray[np.float64]:
    """Build the shards and time all queries on each.

    Returns
    -------
    float64 [rounds, shards, queries]
        Milliseconds.
    """
    count, size = settings.documents, settings.shards
    documents, queries = learned_sparse(
        count * size, "light", settings.seed, queries=settings.queries
    )
    asked = [
        dict(zip(row.indices.tolist(), row.data.tolist(), strict=True))
        for row in (queries[[i]] for i in range(queries.shape[0]))
    ]
    times = np.empty((settings.rounds, size, len(asked)))
    with ExitStack() as stack:
        engines = []
        for shard in range(size):
            rows = documents[shard * count : (shard + 1) * count]
            kind = settings.engine if ":" not in settings.engine else f"{settings.engine}-{shard}"
            place = folder / f"shard-{shard}"
            engine = open_engine(kind, place, "w")
            stack.callback(engine.close)
            for start in range(0, count, 10_000):
                part = rows[start : start + 10_000]
                engine.add([f"{shard}-{start + i:08}" for i in range(part.shape[0])], part)
            engine.commit()
            engine.compact()
            engines.append(engine)
        for turn in range(-1, settings.rounds):  # the first warms up
            for shard, engine in enumerate(engines):
                for number, terms in enumerate(asked):
                    began = time.perf_counter_ns()
                    engine.search(terms, settings.k)
                    if turn >= 0:
                        times[turn, shard, number] = (time.perf_counter_ns() - began) / 1e6
    return times


def merge_ms(shards: int, k: int, seed: int = 0, times: int = 20) -> float:
    """Return the median milliseconds of merging the best k of each shard."""
    rng = np.random.default_rng(seed)
    lists = [
        sorted(((-int(score), f"{shard}-{i}") for i, score in enumerate(row)))
        for shard, row in enumerate(rng.integers(1, 60_000, (shards, k)))
    ]
    found = []
    for _ in range(times):
        began = time.perf_counter_ns()
        merged = heapq.merge(*lists)
        for _, _hit in zip(range(k), merged, strict=False):
            pass
        found.append((time.perf_counter_ns() - began) / 1e6)
    return float(np.median(found))


def simulate(
    times: NDArray[np.float64],
    shards: int,
    searches: int,
    hop: float = 0.0,
    merge: float = 0.0,
    hedge: float | None = None,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Draw times of searches over many shards.

    Parameters
    ----------
    times : float64 [rounds, shards that were measured, queries]
        Milliseconds.
    shards, searches : int
        Shards of the simulated index, and how many searches are drawn.
    hop, merge : float
        Milliseconds to a shard and back, and of merging.
    hedge : float, optional
        Milliseconds after which a second copy of a shard is asked as well.
    seed : int

    Returns
    -------
    float64 [searches]
        Milliseconds.

    Examples
    --------
    >>> simulate(np.full((2, 3, 4), 5.0), 100, 3, hop=1.0).tolist()
    [6.0, 6.0, 6.0]
    """
    rng = np.random.default_rng(seed)
    rounds, built, queries = times.shape
    of_query = times.transpose(2, 0, 1).reshape(queries, rounds * built)
    found = np.empty(searches)
    step = max(1, 4_000_000 // shards)
    for start in range(0, searches, step):
        some = min(step, searches - start)
        asked = rng.integers(queries, size=(some, 1))

        def draw(asked: NDArray[np.int64] = asked, some: int = some) -> NDArray[np.float64]:
            return of_query[asked, rng.integers(rounds * built, size=(some, shards))]

        drawn = draw()
        if hedge is not None:
            drawn = np.minimum(drawn, hedge + draw())
        found[start : start + some] = drawn.max(1) + hop + merge
    return found


def run(settings: Settings) -> dict[str, Any]:
    """Measure, simulate, and return the figures."""
    numbers = (settings.documents, settings.shards, settings.queries, settings.rounds, settings.k)
    if min(*numbers, settings.searches, *settings.many) < 1 or not 0 < settings.hedge < 100:
        raise LexLIPError("give 1 or more of each number, and a hedge between 1 and 99")
    check_engine(settings.engine)
    with tempfile.TemporaryDirectory(prefix="lexlip-shards-") as folder:
        times = measure(Path(folder), settings)
    late = float(np.percentile(times, settings.hedge))

    def cut(values: NDArray[np.float64]) -> list[float]:
        return [round(float(v), 3) for v in np.percentile(values, QUANTILES)]

    rows = []
    for shards in sorted({settings.shards, *settings.many}):
        merge = merge_ms(shards, settings.k, settings.seed)
        options = (shards, settings.searches, settings.hop, merge)
        plain = simulate(times, *options, seed=settings.seed)
        hedged = simulate(times, *options, hedge=late, seed=settings.seed)
        row = {"shards": shards, "ms": cut(plain), "hedged_ms": cut(hedged), "merge_ms": merge}
        rows.append(row)
    return {
        "settings": asdict(settings),
        "shard_ms": cut(times),
        "measured_ms": cut(times.max(1)),
        "simulated_ms": cut(simulate(times, settings.shards, settings.searches)),
        "rows": rows,
    }


def table(found: dict[str, Any]) -> str:
    """Lay the figures out."""
    built = found["settings"]["shards"]
    cells = [
        (f"{row['shards']:,}", *(f"{v:.2f}" for v in row["ms"]), f"{row['hedged_ms'][-1]:.2f}")
        for row in found["rows"]
    ]
    said = [
        f"{name}: {' / '.join(f'{v:.2f}' for v in found[key])} ms"
        for name, key in (
            ("one shard, p50 / p95 / p99", "shard_ms"),
            (f"slowest of {built}, measured", "measured_ms"),
            (f"slowest of {built}, simulated", "simulated_ms"),
        )
    ]
    return "\n".join([*report.aligned(HEADS, cells, 1), *said])


def main(overrides: Overrides = None) -> None:
    """Measure shards and simulate searches over many."""
    settings = from_overrides(Settings, overrides or [])
    found = run(settings)
    typer.echo(table(found))
    if settings.out:
        write_json(settings.out, found)


app = Job(main, Settings)

if __name__ == "__main__":
    app()

"""Plan: machines for an index of any size, from the measured growth of each engine.

    python -m eval.race data=light documents=10000,100000 engine=postings,lucene out=runs/scale
    python -m eval.studies.plan metrics=runs/scale/metrics.json pictures=1000000000 shard=5000000

Bytes grow with the documents. The time of a search on a shard is a line through the two largest
sizes that were measured, mean and not median, since machines pay for the mean. Everything else
follows: shards, memory if all postings stay in it, cores for a rate of searches, and their cost by
the prices that you give. The line is a forecast beyond the largest measured size: measure a shard
of the size that you plan, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, NamedTuple

import typer

from eval.bench import report
from lexlip.cli.console import Job, Overrides
from lexlip.errors import LexLIPError
from lexlip.settings import from_overrides, option
from lexlip.storage.files import read_json

HEADS = (
    *("engine", "shards", "GB a copy", "GB a shard", "ms a shard", "core s a search"),
    *("cores", "$ a million searches", "$ a month"),
)
_HOURS = 730  # in a month


@dataclass(frozen=True)
class Settings:
    """Settings of the plan; each field is a key."""

    metrics: tuple[str, ...] = option((), "metrics.json of races, of two or more sizes together")
    data: str = option("light", "vectors of the race to take")
    pictures: int = option(1_000_000_000, "documents of the index")
    shard: int = option(5_000_000, "documents of a shard")
    copies: int = option(2, "copies of each shard")
    rate: float = option(10.0, "searches a second that it must answer")
    busy: float = option(0.5, "share of the cores' time that searches may take")
    core_hour: float = option(0.04, "price of a core for an hour, dollars")
    gb_month: float = option(3.0, "price of a GB of memory for a month, dollars")


class Growth(NamedTuple):
    """Growth of an engine: bytes a document, and milliseconds of a search on n documents.

    Attributes
    ----------
    bytes : float
        A document.
    fixed : float
        Milliseconds of a search on no documents.
    slope : float
        Milliseconds more for each document.
    largest : int
        Documents of the largest index that was measured.
    """

    bytes: float
    fixed: float
    slope: float
    largest: int

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]]) -> Growth:
        """Fit the rows of one engine.

        Raises
        ------
        LexLIPError
            When only one size was measured.

        Examples
        --------
        >>> row = {"engine": "lucene", "bytes_per_image": 100.0}
        >>> Growth.of([{**row, "n": 1000, "qps": 1000.0}, {**row, "n": 2000, "qps": 500.0}])
        Growth(bytes=100.0, fixed=0.0, slope=0.001, largest=2000)
        """
        by_size = {row["n"]: row for row in rows}
        if len(by_size) < 2:
            name = rows[0]["engine"]
            raise LexLIPError(
                f"{name} was measured at one size: growth needs two, as documents=10000,100000"
            )
        few, many = sorted(by_size)[-2:]
        first, last = (1000 / by_size[n]["qps"] for n in (few, many))
        slope = max(0.0, (last - first) / (many - few))
        fixed = max(0.0, last - slope * many)
        return cls(by_size[many]["bytes_per_image"], fixed, slope, many)

    def ms(self, documents: int) -> float:
        """Milliseconds of a search on so many documents."""
        return self.fixed + self.slope * documents


def plan(growth: Growth, settings: Settings) -> dict[str, float]:
    """Return what an index needs.

    Examples
    --------
    >>> settings = Settings(pictures=10**9, shard=10**7, copies=2, rate=1, busy=0.5)
    >>> found = plan(Growth(200.0, 1.0, 1e-6, 10**6), settings)
    >>> found["shards"], found["gb"], found["ms"], found["core_s"], found["cores"]
    (100, 200.0, 11.0, 1.1, 3)
    """
    shards = ceil(settings.pictures / settings.shard)
    size = min(settings.shard, settings.pictures)
    ms = growth.ms(size)
    work = shards * ms / 1000
    cores = ceil(settings.rate * work / settings.busy)
    gb = growth.bytes * settings.pictures / 1e9
    month = cores * _HOURS * settings.core_hour + settings.copies * gb * settings.gb_month
    return {
        "shards": shards,
        "gb": gb,
        "shard_gb": growth.bytes * size / 1e9,
        "ms": ms,
        "core_s": work,
        "cores": cores,
        "million": work * 1e6 / 3600 * settings.core_hour / settings.busy,
        "month": month,
    }


def plans(settings: Settings) -> dict[str, dict[str, float]]:
    """Return the plan of each engine of a race.

    Raises
    ------
    LexLIPError
        No such race, or numbers that no index has.
    """
    numbers = (settings.pictures, settings.shard, settings.copies)
    if min(numbers) < 1 or settings.rate <= 0 or not 0 < settings.busy <= 1:
        raise LexLIPError("pictures, shard and copies are 1 or more, rate above 0, busy 0 to 1")
    if not settings.metrics:
        raise LexLIPError("no race: give metrics=FOLDER/metrics.json of python -m eval.race")
    races = [row for path in settings.metrics for row in read_json(path)["rows"]]
    rows = [row for row in races if row["data"] == settings.data]
    if not rows:
        raise LexLIPError(
            f"no race of {settings.data} in {', '.join(settings.metrics)}: give data="
        )
    found: dict[str, list[Any]] = {}
    for row in rows:
        found.setdefault(row["engine"], []).append(row)
    return {name: plan(Growth.of(own), settings) for name, own in found.items()}


def table(found: Mapping[str, Mapping[str, float]]) -> str:
    """Lay plans out."""
    cells = [
        (
            name,
            f"{row['shards']:,.0f}",
            f"{row['gb']:,.0f}",
            f"{row['shard_gb']:.2f}",
            f"{row['ms']:.2f}",
            f"{row['core_s']:.2f}",
            f"{row['cores']:,.0f}",
            f"{row['million']:,.0f}",
            f"{row['month']:,.0f}",
        )
        for name, row in found.items()
    ]
    return "\n".join(report.aligned(HEADS, cells, 1))


def main(overrides: Overrides = None) -> None:
    """Plan machines for an index from a race."""
    settings = from_overrides(Settings, overrides or [])
    typer.echo(table(plans(settings)))


app = Job(main, Settings)

if __name__ == "__main__":
    app()

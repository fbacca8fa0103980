"""One race: several engines over the same vectors, checked first, then timed in turns."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.race import contender
from eval.race.base import Vectors
from eval.race.process import Process
from eval.race.truth import Truth, touched_bytes
from lexlip.errors import LexLIPError
from lexlip.settings import option

STREAM = 256 * 2**20
"""Bytes read to measure the bandwidth: more than the caches of common machines."""
_SLICE = 4 * 2**20


@dataclass(frozen=True)
class Rules:
    """Rules of timing: the same for all engines."""

    k: int = option(10, "documents wanted")
    rounds: int = option(5, "turns of every engine; medians over them are reported")
    seconds: float = option(10.0, "longest turn; a slow engine answers only the first queries")
    checked: int = option(200, "queries whose answers are judged")
    threads: int = option(1, "threads that search at once, where an engine allows it")


class Lane:
    """One engine in a race: built, opened, checked, timed; `row` is the result."""

    def __init__(self, name: str, vectors: Path, index: Path) -> None:
        self.engine = contender(name)
        self.vectors, self.index = vectors, index
        self.name = name
        self.rounds: list[dict[str, Any]] = []
        self.facts: dict[str, Any] = {}

    def build(self) -> None:
        """Build the index, unless an earlier race did."""
        note = self.index.with_suffix(".json")
        if note.is_file():
            self.facts = json.loads(note.read_text())
            return
        with Process(self.name, self.vectors, self.index) as process:
            self.facts = {**process.ask("build"), "versions": process.versions}
            process.ask("close")
        note.write_text(json.dumps(self.facts))

    def open(self, stack: ExitStack) -> None:
        """Open it in a process that lives as long as the stack."""
        self.process = stack.enter_context(Process(self.name, self.vectors, self.index))
        self.facts |= self.process.ask("open")

    def check(self, truth: Truth, rules: Rules) -> None:
        """Judge the answers; raise the settings of an approximate engine up to its target."""
        for settings in self.engine.settings:
            self.process.ask("set", settings=settings)
            answer = self.process.ask("answer", k=rules.k, count=rules.checked)
            recall = truth.recall(answer["documents"])
            self.facts |= {"settings": settings, "recall_at_10": recall}
            if self.engine.exact:
                truth.check(self.engine, answer["documents"], answer["scores"])
                return
            if recall >= self.engine.target:
                return

    def turn(self, rules: Rules) -> dict[str, Any]:
        """Time the queries, once."""
        self.threads = rules.threads if self.engine.threads else 1
        return self.process.ask("round", k=rules.k, seconds=rules.seconds, threads=self.threads)

    def row(self, count: int, rules: Rules) -> dict[str, Any]:
        """Close the process and return the engine's row."""
        peak = self.process.ask("close")["peak_mb"]
        middle = {
            key: median(turn[key] for turn in self.rounds)
            for key in ("p50_ms", "p95_ms", "p99_ms", "qps", "cpu_ms")
        }
        if self.engine.interpreter:
            middle["cpu_ms"] = None  # the work is done in a separate process
        return {
            "engine": self.engine.name,
            "kind": self.engine.kind,
            "n": count,
            "k": rules.k,
            **middle,
            "build_s": self.facts["build_s"],
            "open_s": self.facts["open_s"],
            "bytes_per_image": self.facts["bytes"] / count,
            "recall_at_10": self.facts["recall_at_10"],
            "peak_mb": peak,
            "build_peak_mb": self.facts["build_peak_mb"],
            "threads": self.threads,
            "exact": self.engine.exact,
            "reached": self.engine.exact or self.facts["recall_at_10"] >= self.engine.target,
            "settings": self.facts["settings"],
            "queries": min(turn["queries"] for turn in self.rounds),
            "versions": self.facts["versions"],
        }


def bandwidth(array: NDArray[np.int64]) -> float:
    """Bytes per second that one thread reads from memory.

    The median over slices of a large array, each as short as a query: other load on the machine
    then affects it as it affects the engines' medians.

    Parameters
    ----------
    array
        Read once; larger than the caches.
    """
    step = _SLICE // array.itemsize
    times = []
    for start in range(0, len(array) - step + 1, step):
        begin = time.perf_counter()
        array[start : start + step].sum()
        times.append(time.perf_counter() - begin)
    return _SLICE / median(times)


def race(
    lanes: Sequence[Lane], rules: Rules, say: Callable[[str], None] = print
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Build, check and time engines over the same documents.

    All stay open together and take turns, each round starting with another one, so that other load
    on the machine affects all alike. The first round is not counted.

    Parameters
    ----------
    lanes
        The engines, with vectors of the same number of documents.
    rules
        Rules of timing.
    say
        Called with a line for each engine that is left out or fails.

    Returns
    -------
    rows : list[dict]
        One for each engine that ran.
    floor : dict
        Streaming bandwidth of the same run, and for each kind of vectors the bytes that a query
        has to touch and the milliseconds that this takes.

    Raises
    ------
    LexLIPError
        When an exact engine is not exact.
    """
    with ExitStack() as stack:
        ready = [lane for lane in lanes if _starts(lane, stack, say)]
        truths: dict[str, Truth] = {}
        floor: dict[str, Any] = {}
        for lane in ready:
            vectors, kind = Vectors(lane.vectors), lane.engine.kind
            if kind not in truths:
                truths[kind] = Truth(vectors, kind, max(rules.k, 10), rules.checked)
                floor[kind] = {"bytes": touched_bytes(vectors, kind)}
            lane.check(truths[kind], rules)
        count = max((Vectors(lane.vectors).count(lane.engine.kind) for lane in ready), default=0)
        truths.clear()
        stream = np.ones(STREAM // 8, dtype=np.int64)
        streams = []
        for number in range(rules.rounds + 1):
            streams.append(bandwidth(stream))
            for place in range(len(ready)):
                lane = ready[(place + number) % len(ready)]
                turn = lane.turn(rules)
                if number:
                    lane.rounds.append(turn)
        rows = [lane.row(count, rules) for lane in ready]
    speed = median(streams)
    for entry in floor.values():
        entry["ms"] = 1000 * entry["bytes"] / speed
    for row in rows:
        least = floor[row["kind"]]["ms"]
        row["floor_ms"] = least if row["exact"] else None  # an approximate engine need not read all
        row["times_floor"] = row["p50_ms"] / least if row["exact"] and least else None
    return rows, {"bandwidth_gb_s": speed / 1e9, **floor}


def _starts(lane: Lane, stack: ExitStack, say: Callable[[str], None]) -> bool:
    try:
        lane.build()
        lane.open(stack)
    except LexLIPError as error:
        say(str(error))
        return False
    return True

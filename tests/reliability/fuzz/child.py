"""The process that tries inputs: `python -m tests.reliability.fuzz.child MODULE:CLASS ...`.

It may hang or die, so its parent watches it (`tests.reliability.fuzz.run`).
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.reliability.fuzz.harness import MAX_INPUT, Harness
from tests.reliability.fuzz.tally import Tally

FAILED = 3
"""Status of a process that found failures; 1 is that of Python where it cannot go on."""

FIRST = 40
"""Seeds, at most, that are tried as they are."""

KEPT = 400
"""Inputs that are mutated again."""


def memory_of(pid: int | None) -> float:
    """Return the most memory that a process has had, in MB: this one, or another one."""
    # Not resource.getrusage: that begins with the memory of the process that this one comes from.
    try:
        status = Path(f"/proc/{pid or 'self'}/status").read_text()
    except OSError:
        return 0.0
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


class Judge:
    """Tries inputs, and keeps those that fail.

    Parameters
    ----------
    harness : Harness
        Open.
    tally : Tally
    failures : Path
        Folder of the inputs that fail; one for each place where they do.
    """

    def __init__(self, harness: Harness, tally: Tally, failures: Path) -> None:
        self.harness, self.tally, self.failures = harness, tally, failures
        self.said: list[str] = []
        self._places: set[str] = set()
        self._before = memory_of(harness.pid()) if harness.pid() is None else 0.0

    def attempt(self, data: bytes) -> None:
        """Try an input."""
        data = data[:MAX_INPUT]
        self.tally.begin(data)
        place = wrong = None
        try:
            self.harness.attempt(data)
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{type(error).__name__} {last.filename}:{last.lineno}"
            wrong = "".join(traceback.format_exception(error)[-4:]).strip()
        peak = memory_of(self.harness.pid()) - self._before
        seconds = self.tally.end(peak)
        if wrong is None and seconds > self.harness.seconds:
            place = wrong = f"slow: {seconds:.1f} s, the limit is {self.harness.seconds:g} s"
        if wrong is None and peak > self.harness.megabytes:
            place = wrong = f"memory: {peak:.0f} MB, the limit is {self.harness.megabytes} MB"
        if wrong is not None:
            place = str(place).split(":")[0] if place == wrong else place
            self._fail(str(place), wrong, data)

    def _fail(self, place: str, wrong: str, data: bytes) -> None:
        self.tally.counts.failures += 1
        self.tally.write()
        if place not in self._places:
            self._places.add(place)
            told = f"{self.harness.name}: {wrong}\n{keep(self.harness.name, data, self.failures)}"
            self.said.append(told)
            print(told, flush=True)


def keep(name: str, data: bytes, failures: Path) -> str:
    """Write an input that fails; return how to try it again."""
    failures.mkdir(parents=True, exist_ok=True)
    path = failures / f"{name}-{sha256(data).hexdigest()[:12]}"
    path.write_bytes(data)
    return f"  again: python -m tests.reliability.fuzz --only {name} --replay {path}"


def mutate_on(
    harness: Harness, seed: int, attempt: Callable[[bytes], None], more: Callable[[int], bool]
) -> None:
    """Mutate seeds, and some of what came of them, as long as `more(count)` says so."""
    dice, seeds = random.Random(seed), harness.seeds()
    pool = list(seeds)
    for data in seeds[:: 1 + len(seeds) // FIRST]:
        attempt(data)
    count = 0
    while more(count):
        data = harness.mutate(dice.choice(pool if dice.random() < 0.5 else seeds), dice)[:MAX_INPUT]
        attempt(data)
        if dice.random() < 0.1 and len(data) < 20_000:
            if len(pool) < KEPT + len(seeds):
                pool.append(data)
            else:
                pool[dice.randrange(len(seeds), len(pool))] = data
        count += 1


def guide(harness: Harness, seed: int, attempt: Callable[[bytes], None], seconds: int) -> None:
    """Let atheris choose inputs by the coverage that they reach; does not return."""
    import tempfile

    import atheris

    corpus = Path(tempfile.mkdtemp())
    for number, data in enumerate(harness.seeds()):
        (corpus / str(number)).write_bytes(data)

    def change(data: bytes, most: int, number: int) -> bytes:
        dice = random.Random(number)
        if dice.random() < 0.6:
            return harness.mutate(bytes(data), dice)[:most]
        return atheris.Mutate(data, most)

    # The parent watches time and memory.
    options = [
        f"-seed={seed % 2**31 or 1}", f"-max_total_time={seconds}", "-rss_limit_mb=0",
        "-timeout=1000000", f"-artifact_prefix={corpus}/", "-max_len=65536", "-verbosity=0",
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *options, str(corpus)], attempt, custom_mutator=change)
    atheris.Fuzz()


def load(spec: str) -> Harness:
    """Return the harness that MODULE:CLASS names."""
    module, _, kind = spec.partition(":")
    harness: Harness = getattr(importlib.import_module(module), kind)()
    return harness


def main(arguments: list[str]) -> None:
    """Try inputs until the time is over, or one, and exit with FAILED where some failed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("spec")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tally", type=Path, required=True)
    parser.add_argument("--failures", type=Path, required=True)
    parser.add_argument("--guided", action="store_true")
    parser.add_argument("--replay", type=Path)
    given = parser.parse_args(arguments)
    os.fsync = lambda descriptor: None  # nobody cuts the power
    harness = load(given.spec)
    instrumented: Any = nullcontext()
    if given.guided and harness.packages:
        import atheris

        instrumented = atheris.instrument_imports(include=list(harness.packages))
    with instrumented:
        harness.open()
    harness.warm()
    judge = Judge(harness, Tally(given.tally), given.failures)
    end = time.monotonic() + given.seconds
    try:
        if given.replay:
            judge.attempt(given.replay.read_bytes())
        elif given.guided and harness.packages:
            guide(harness, given.seed, judge.attempt, int(given.seconds))
        else:
            mutate_on(harness, given.seed, judge.attempt, lambda _: time.monotonic() < end)
    finally:
        harness.close()
    raise SystemExit(FAILED if judge.said else 0)


if __name__ == "__main__":
    main(sys.argv[1:])

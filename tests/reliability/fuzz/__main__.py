"""Runs all harnesses, or one: `python -m tests.reliability.fuzz --seconds 600`."""

from __future__ import annotations

import argparse
import importlib.util
import random
from pathlib import Path

from tests.reliability.fuzz.run import HARNESSES, run


def main() -> None:
    """Run harnesses one after the other; exit with 1 where something failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability.fuzz")
    parser.add_argument("--seconds", type=float, default=600, help="of all together")
    parser.add_argument("--only", choices=HARNESSES, action="append")
    parser.add_argument("--seed", type=int, default=None, help="another one each time by default")
    parser.add_argument("--failures", type=Path, default=Path("runs/fuzz"))
    parser.add_argument("--replay", type=Path, help="an input that failed; needs --only")
    parser.add_argument("--unguided", action="store_true", help="without atheris")
    given = parser.parse_args()
    if given.replay and len(given.only or ()) != 1:
        parser.error("--replay needs --only with one name")
    names = given.only or list(HARNESSES)
    guided = not given.unguided and importlib.util.find_spec("atheris") is not None
    seed = random.SystemRandom().randrange(2**31) if given.seed is None else given.seed
    print(f"seed {seed}, {'guided by coverage' if guided else 'random'}", flush=True)
    failures = 0
    for name in names:
        report = run(
            HARNESSES[name], given.seconds / len(names), seed, given.failures.absolute(), guided,
            given.replay,
        )  # fmt: skip
        it = report.counts
        print(
            f"{name:>10}  {it.inputs:>9,} inputs  {it.bytes:>13,} bytes  {report.seconds:>6.0f} s  "
            f"worst {it.worst:.2f} s  peak {it.peak:.0f} MB  {it.failures} failures",
            flush=True,
        )
        failures += it.failures
    raise SystemExit(bool(failures))


if __name__ == "__main__":
    main()

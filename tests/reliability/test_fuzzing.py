"""Short fuzzing of every place that reads what others give, and the watch over its processes.

The seeds are fixed; `make fuzz` runs longer, with new ones.
"""

from __future__ import annotations

import os
import random
import tempfile
import time

import pytest

from tests.reliability.fuzz.child import Judge, load, mutate_on
from tests.reliability.fuzz.harness import Harness
from tests.reliability.fuzz.run import HARNESSES, run
from tests.reliability.fuzz.tally import Tally

COUNTS = {"queries": 600, "filters": 3000, "indexes": 40, "pictures": 2500, "requests": 40}
"""Inputs besides the seeds: some seconds each."""


@pytest.fixture(autouse=True)
def below_tmp_path(tmp_path, monkeypatch):
    """Harnesses make their files below the test's own folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.mark.filterwarnings("ignore")  # of Pillow on odd metadata; ours are off outside of pytest
@pytest.mark.usefixtures("no_flush")
@pytest.mark.parametrize("name", HARNESSES)
def test_nothing_that_must_not_happen(name, tmp_path):
    harness = load(HARNESSES[name])
    harness.open()
    try:
        judge = Judge(harness, Tally(tmp_path / "tally"), tmp_path / "failures")
        mutate_on(harness, 0, judge.attempt, lambda count: count < COUNTS[name])
    finally:
        harness.close()
    assert judge.said == []
    counts = judge.tally.read()
    assert counts.inputs > COUNTS[name] and counts.bytes > 0 and counts.failures == 0


@pytest.mark.parametrize("name", HARNESSES)
def test_mutations_are_many_and_the_same_for_a_seed(name):
    harness = load(HARNESSES[name])
    harness.open()
    try:
        seeds = harness.seeds()
        runs = [
            [harness.mutate(seed, random.Random(n)) for n, seed in enumerate(seeds * 3)]
            for _ in range(2)
        ]
    finally:
        harness.close()
    assert runs[0] == runs[1]
    assert len(set(runs[0])) > 2 * len(set(seeds)) and len(set(seeds)) == len(seeds)


class Faulty(Harness):
    """What harnesses look for, on order."""

    name = "faulty"
    seconds = 0.6
    megabytes = 400

    def seeds(self):
        return [b"well"]

    def mutate(self, raw, dice):
        return dice.choice((b"well", os.environ["LEXLIP_FAULT"].encode()))

    def attempt(self, data):
        if data == b"raise":
            raise ZeroDivisionError("wrong")
        if data == b"slow":
            time.sleep(0.7)
        if data == b"hang":
            time.sleep(60)
        if data == b"abort":
            os.abort()
        if data == b"memory":
            bytearray(2**29)
        if data == b"much memory":
            held = [bytearray(b"k" * 2**20) for _ in range(1200)]
            time.sleep(60 * bool(held))


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("raise", "ZeroDivisionError: wrong"),
        ("slow", "slow: 0.7 s"),
        ("hang", "hangs: over 2 s"),
        ("abort", "died, -6"),
        ("memory", "memory: "),
        ("much memory", "memory: over 600 MB"),
    ],
)
def test_what_must_not_happen_is_found_and_kept(fault, line, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("LEXLIP_FAULT", fault)
    report = run("tests.reliability.test_fuzzing:Faulty", 3, 0, tmp_path)
    said = capfd.readouterr().out
    assert report.counts.failures and report.counts.inputs
    assert line in said
    kept = [path for path in tmp_path.iterdir() if path.read_bytes() == fault.encode()]
    assert len(kept) == 1 and f"--only faulty --replay {kept[0]}" in said
    if fault in ("hang", "abort"):  # and it went on
        assert report.lines[0].startswith("faulty: ")


def test_a_harness_that_does_not_start_is_no_success(tmp_path, capfd):
    report = run("tests.reliability.test_fuzzing:Unready", 30, 0, tmp_path)
    assert report.counts.failures and report.seconds < 25
    assert "no seeds today" in capfd.readouterr().out


class Unready(Faulty):
    """Cannot begin."""

    def seeds(self):
        raise RuntimeError("no seeds today")


def test_a_kept_input_is_tried_again(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("LEXLIP_FAULT", "raise")
    (tmp_path / "kept").write_bytes(b"raise")
    spec = "tests.reliability.test_fuzzing:Faulty"
    report = run(spec, 30, 0, tmp_path / "failures", replay=tmp_path / "kept")
    assert (report.counts.inputs, report.counts.failures) == (1, 1)

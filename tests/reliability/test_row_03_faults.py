"""Rows 3 and 11 of the failure matrix: a kill, or a full or broken disk, at any system call.

A part of the calls in each run, others with each seed. `make faults` tries them all.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array

from lexlip.engines.postings import Segment
from lexlip.storage.arrays import map_array, save_array
from lexlip.storage.spool import Spool
from pretrain.cache import _fill

from . import faults

REPOSITORY = Path(__file__).resolve().parents[2]
REFUSED = faults.allowed()
traced = pytest.mark.skipif(REFUSED is not None, reason=str(REFUSED))
EVERY = {"add": 19, "delete": 7, "compact": 19, "create": 31, "replace": 37}


@traced
@pytest.mark.slow
@pytest.mark.parametrize("change", EVERY)
def test_row_03_a_fault_at_a_system_call_leaves_old_or_new(tmp_path, change, figure):
    every = EVERY[change] if "LEXLIP_EVERY_CALL" not in os.environ else 1
    first = random.randint(1, every)
    print(f"calls {first}, {first + every}, ...")
    done = subprocess.run(
        [sys.executable, "-m", "tests.reliability.commits", change, str(every), str(first)],
        env={**os.environ, "TMPDIR": str(tmp_path), "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True, text=True, cwd=REPOSITORY, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["failures"] == [], done.stderr[-3000:]
    assert found["ended"]["killed"] >= 5 and found["ended"]["refused"] >= 5
    assert {"openat", "write", "fsync", "rename", "flock"} <= found["calls"].keys()
    figure(f"system calls of {change}", str(sum(found["calls"].values())))
    figure("calls that were the last", found["ended"]["killed"])
    figure("calls that failed", found["ended"]["refused"] + found["ended"].get("done", 0))


@traced
@pytest.mark.parametrize("fault", ["ENOSPC", "EIO"])
def test_row_03_no_array_ends_early_in_silence(tmp_path, fault):
    """What numpy's own function does not say: the last bytes of a small array were not written."""
    array = np.arange(300)

    def save():
        save_array(tmp_path, "a", array)

    calls = faults.run(save, tmp_path).calls
    assert np.array_equal(map_array(tmp_path, "a"), array) and "write" in calls
    for at in range(1, len(calls) + 1):
        assert faults.run(save, tmp_path, at, faults.FAULTS[fault]).status == 4, calls[at - 1]


@traced
@pytest.mark.parametrize("what", ["spool", "cache", "segment"])
def test_row_03_a_full_disk_behind_a_map_is_an_error(tmp_path, what):
    """Not the signal that ends a process which writes through a map where there is no room."""
    matrix = csr_array(np.eye(40, dtype=np.uint8))

    def work():
        if what == "spool":
            spool = Spool(tmp_path / "rows", np.uint8)
            spool.append(matrix)
            spool.turned(tmp_path / "columns", 40)
        elif what == "segment":
            Segment.write(tmp_path / "segment", matrix)
        else:
            _fill(tmp_path, "key", "pixels", 3, [range(3)], lambda _: np.ones((3, 4), np.uint8))

    calls = faults.run(work, tmp_path).calls
    at = calls.index("fallocate") + 1
    for path in list(tmp_path.iterdir()):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert faults.run(work, tmp_path, at, faults.FAULTS["ENOSPC"]).status == 4  # an OSError


@traced
def test_row_03_the_tracer_sees_every_way_to_write(tmp_path):
    """Also of C libraries: a fault at each call of numpy's own function is reached."""
    path = str(tmp_path / "a.npy")
    calls = faults.run(lambda: np.save(path, np.arange(300)), tmp_path).calls
    assert calls.count("write") == 2 and calls[0] == "openat"
    killed = faults.run(lambda: np.save(path, np.arange(300)), tmp_path, len(calls), faults.KILL)
    assert killed.status == -9 and os.path.getsize(path) < 300 * 8

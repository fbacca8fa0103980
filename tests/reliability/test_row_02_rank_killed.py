"""Row 2 of the failure matrix: a process of several that train together is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from lexlip.storage.files import sha256_file
from pretrain.checkpoint import Checkpoint

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]
REPOSITORY = Path(__file__).resolve().parents[2]
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
FILES = ("model.safetensors", "train_state/state.safetensors")


def _start(config, run, *options):
    job = ["-m", "--", "pretrain.stage1", "--config", config, "--run", str(run)]
    settings = ["processes=2", "stage1.epochs=4"]
    return subprocess.Popen(
        [*LAUNCH, *options, *job, "--resume", *settings], text=True, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def _children(process):
    """Return the processes that a launcher started."""
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(number) for number in path.read_text().split()]


def _step(run):
    with suppress(Exception):  # it is being replaced
        return Checkpoint(run / "stage1").progress.get("step", 0)
    return 0


def _kill_a_rank(process, run, which, after):
    """Kill -9 a rank once there is a checkpoint of a step; return the step."""
    while process.poll() is None:
        if (step := _step(run)) >= after and len(_children(process)) == 2:
            os.kill(_children(process)[which], signal.SIGKILL)
            return step
        time.sleep(0.01)
    raise AssertionError(f"it was over before: {process.stderr.read()[-2000:]}")


def _hashes(run):
    Checkpoint(run / "stage1").verify()
    return {name: sha256_file(run / "stage1" / name) for name in FILES}


def test_row_02_killed_ranks_change_nothing(tiny_run, tmp_path, figure):
    """Without restarts the launcher ends, and no rank stays. With them all ranks start again.

    Either way they go on from the last checkpoint, and the run ends in the same bits.
    """
    whole, killed = _start(tiny_run, tmp_path / "whole"), tmp_path / "killed"
    _, said = whole.communicate(timeout=300)
    assert whole.returncode == 0, said[-3000:]
    assert Checkpoint(tmp_path / "whole" / "stage1").progress["step"] == 24

    process = _start(tiny_run, killed)
    ranks = _ranks(process)
    first = _kill_a_rank(process, killed, 1, 4)
    _, said = process.communicate(timeout=120)
    assert process.returncode != 0, said[-3000:]
    assert not any(Path(f"/proc/{rank}").exists() for rank in ranks)

    # Connections of gloo fail at times while ranks come and go, which costs a restart, and now and
    # then they wait for each other for ever (torch 2.13): then all is started once more.
    process = _start(tiny_run, killed, "--max-restarts", "8")
    second = _kill_a_rank(process, killed, 0, first + 4)
    said = _ended(process)
    if process.returncode != 0:
        process = _start(tiny_run, killed)
        said = _ended(process)
    assert process.returncode == 0, said[-3000:]
    assert first < second < 24 and _hashes(killed) == _hashes(tmp_path / "whole")
    figure("ranks killed", 2)


def _ended(process, seconds=120):
    """Wait for a launcher, and end it with its ranks where it hangs; return what it said."""
    try:
        return process.communicate(timeout=seconds)[1]
    except subprocess.TimeoutExpired:
        for rank in _children(process):
            os.kill(rank, signal.SIGKILL)
        process.kill()
        return process.communicate()[1]


def _ranks(process):
    """Wait for the ranks of a launcher, and return their processes."""
    while process.poll() is None:
        if len(found := _children(process)) == 2:
            return found
        time.sleep(0.01)
    raise AssertionError(process.stderr.read()[-2000:])

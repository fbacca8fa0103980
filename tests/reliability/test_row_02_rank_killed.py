"""Row 2 of the failure matrix: a process or a machine of several that train together is killed."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from pretrain.checkpoint import Checkpoint
from tests.support.launchers import children, hashes, kill, launch, wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]
ALONE = ("--standalone", "--nproc_per_node", "2")


@pytest.fixture(scope="module")
def whole(tiny_run, tmp_path_factory):
    """The hashes of a run of two processes that nobody kills."""
    run = tmp_path_factory.mktemp("whole")
    process = launch(tiny_run, run, *ALONE)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said[-3000:]
    assert Checkpoint(run / "stage1").progress["step"] == 24
    return hashes(run)


@pytest.fixture
def started(tiny_run, tmp_path):
    """Return a function that launches a run in `tmp_path`; what is left of it is ended."""
    launchers = []

    def start(*options):
        launchers.append(launch(tiny_run, tmp_path, *options))
        return launchers[-1]

    yield start
    for process in launchers:
        if process.poll() is None:
            kill(process)


def _kill_a_rank(process, run, which, after):
    found = wait_for(process, run, 2, after)
    os.kill(children(process)[which], signal.SIGKILL)
    return found


@pytest.mark.full
def test_row_02_killed_ranks_change_nothing(started, whole, tmp_path, figure):
    """Without restarts the launcher ends, and no rank stays. With them all ranks start again.

    Either way they go on from the last checkpoint, and the run ends in the same bits. Nobody waits
    for ever: connections of gloo fail at times while ranks come and go, which costs a restart.
    """
    process = started(*ALONE)
    ranks = _ranks(process)
    first = _kill_a_rank(process, tmp_path, 1, 4)
    _, said = process.communicate(timeout=120)
    assert process.returncode != 0, said[-3000:]
    assert not any(Path(f"/proc/{rank}").exists() for rank in ranks)

    process = started(*ALONE, "--max-restarts", "8")
    second = _kill_a_rank(process, tmp_path, 0, first + 4)
    _, said = process.communicate(timeout=240)
    assert process.returncode == 0, said[-3000:]
    assert first < second < 24 and hashes(tmp_path) == whole
    figure("ranks killed", 2)


@pytest.mark.full
def test_row_02_a_killed_machine_comes_back_and_changes_nothing(started, whole, tmp_path, figure):
    """Two launchers with one meeting point; the second one is killed with its rank, and started."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = (
        "--nnodes", "2", "--nproc_per_node", "1", "--rdzv_backend", "c10d", "--rdzv_id", "test",
        "--rdzv_endpoint", f"127.0.0.1:{port}", "--local_addr", "127.0.0.1",
        "--max-restarts", "8", "--rdzv_conf", "join_timeout=120,keep_alive_interval=1",
    )  # fmt: skip
    head = started(*options)
    time.sleep(1)  # the first one is the meeting point
    other = started(*options)
    found = wait_for(other, tmp_path, 1, 4)
    kill(other)
    assert head.poll() is None
    again = started(*options)
    for process in (head, again):
        _, said = process.communicate(timeout=240)
        assert process.returncode == 0, said[-3000:]
    assert 4 <= found < 24 and hashes(tmp_path) == whole
    figure("machines killed", 1)


def _ranks(process):
    """Wait for the ranks of a launcher, and return their processes."""
    while process.poll() is None:
        if len(found := children(process)) == 2:
            return found
        time.sleep(0.01)
    raise AssertionError(process.stderr.read()[-2000:])

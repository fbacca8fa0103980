"""Worker processes: work is done, deaths are told, orphans end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from lexlip.build.processes import worker_processes
from lexlip.errors import LexLIPError


def test_work_is_done_elsewhere():
    with worker_processes(1, "", os.chdir, "/") as pool:
        assert pool.submit(os.getcwd).result() == "/"
        assert pool.submit(os.getpid).result() != os.getpid()
        with pytest.raises(ZeroDivisionError):
            pool.submit(divmod, 1, 0).result()


def test_a_death_is_one_line():
    with pytest.raises(LexLIPError, match="worker process died .*: try again"):
        with worker_processes(1, "try again") as pool:
            waiting = [pool.submit(os._exit, 1), pool.submit(os.getpid)]
            [future.result() for future in waiting]


def test_workers_end_with_their_parent():
    """The worker holds the pipe's other end: it closes when the worker is gone."""
    program = """
import os, time
from lexlip.build.processes import worker_processes
with worker_processes(1, "") as pool:
    print(pool.submit(os.getpid).result(), flush=True)
    pool.submit(time.sleep, 600).result()
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert int(parent.stdout.readline()) not in (0, parent.pid)
    os.kill(parent.pid, signal.SIGKILL)
    assert parent.communicate(timeout=60) == ("", None)

"""A disk that is really full: one line says so, and the last commit stays.

The disk is a file system of 2 MB that only the process of the test sees; where such a one cannot be
had, and beside it, files that may not grow beyond a limit.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="made of Linux's means")

FILL = """
import json, resource, sys
import numpy as np
from scipy.sparse import csr_array
from lexlip import engines
from lexlip.errors import LexLIPError

kind, folder, limit = getattr(engines, sys.argv[1]), sys.argv[2], int(sys.argv[3])
engine, random = kind(folder), np.random.default_rng(0)

def add(n):
    impacts = np.zeros((1000, 400), np.int32)
    impacts[:, :32] = random.integers(1, 256, (1000, 32))
    engine.add([f"{n:04}-{i:03}" for i in range(1000)], csr_array(impacts))
    engine.commit({"n": str(n)})
    engine.search({1: 1}, 3)  # compiles, before files are limited

add(0)
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
errors, n = [], 0
try:
    while n < 400:
        add(n + 1)
        n += 1
except LexLIPError as error:
    errors.append(str(error))
before = engine.search({1: 1, 2: 3}, 7)
try:  # still full
    add(n + 1)
    errors.append("")
except LexLIPError as error:
    errors.append(str(error))
engine.close()
reader = kind(folder, "r")
print(json.dumps({
    "errors": errors, "commits": n + 1, "documents": len(reader), "data": reader.user_data,
    "same": reader.search({1: 1, 2: 3}, 7) == before, "damaged": reader.verify(),
}))
reader.close()
"""
ENGINES = ["PostingsEngine", pytest.param("LuceneEngine", marks=pytest.mark.java)]


@functools.cache
def can_mount():
    """Return whether a process may mount a file system that it alone sees."""
    if shutil.which("unshare") is None:
        return False
    test = "mount -t tmpfs -o size=1m none /tmp"
    return not subprocess.run(["unshare", "-Urm", "sh", "-c", test], capture_output=True).returncode


@pytest.mark.parametrize("disk", ["mounted", "limited"])
@pytest.mark.parametrize("name", ENGINES)
def test_a_full_disk_keeps_the_last_commit(request, tmp_path, name, disk):
    if name == "LuceneEngine":
        request.getfixturevalue("lucene")
    if disk == "mounted" and not can_mount():
        pytest.skip("no file system may be mounted here")
    (tmp_path / "disk").mkdir()
    index = tmp_path / "disk" / "index"
    limit = 250_000 if disk == "limited" else 0
    command = [sys.executable, "-c", FILL, name, str(index), str(limit)]
    if disk == "mounted":
        mount = 'mount -t tmpfs -o size=2m none "$0" && exec "$@"'
        command = ["unshare", "-Urm", "sh", "-c", mount, str(index.parent), *command]
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr  # no signal, as a write through a map would be
    result = json.loads(done.stdout)
    reasons = ("No space left on device", "File too large", "is the disk full?")
    assert len(result["errors"]) == 2
    for error in filter(None, result["errors"]):
        assert error.startswith(f"{index} keeps its last commit, this one failed: ")
        assert any(reason in error for reason in reasons) and "\n" not in error
    assert result["errors"][0]
    assert result["commits"] > 3
    assert result["documents"] == 1000 * (result["commits"] + (not result["errors"][1]))
    assert result["data"]["n"] == str(result["documents"] // 1000 - 1)
    assert result["same"] or not result["errors"][1]
    assert result["damaged"] == []

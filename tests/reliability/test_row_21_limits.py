"""Row 21 of the failure matrix: an engine that is away, or cannot start, is one line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lexlip import Index
from lexlip.models.shipped import load_shipped

REPOSITORY = Path(__file__).resolve().parents[2]
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv.pop(1)) << 20,) * 2)
from lexlip.cli.__main__ import main
main()
"""


def _limited(megabytes, *command):
    return subprocess.run(
        [sys.executable, "-c", LIMITED, str(megabytes), *map(str, command)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.java
@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's here")
def test_row_21_java_under_a_limit_of_memory_searches_or_says_one_line(tmp_path, lucene):
    """A JVM that finds too little ends the process that it is a guest of, with lines of its own."""
    path, ended = tmp_path / "i.lex", set()
    Index.create(path, load_shipped(), {"1": "a red circle"}, engine="lucene").close()
    for megabytes in (700, 900, 1100, 1500, 2000, 3000, 6000):
        done = _limited(megabytes, "search", path, "a red circle")
        if "MemoryError" in done.stderr or "cannot allocate" in done.stderr.lower():
            continue  # Python itself had too little
        ended.add(done.returncode)
        assert done.returncode in (0, 2), (megabytes, done.stdout[-500:], done.stderr[-500:])
        if done.returncode == 2:
            assert len(done.stderr.splitlines()) == 1, done.stderr
            assert "ulimit -v" in done.stderr and "postings" in done.stderr
    assert 0 in ended
    assert _limited(3000, "search", path, "a red circle").returncode == 0


@pytest.mark.java
def test_row_21_files_of_a_lucene_index_that_vanish_are_one_line(build, lucene, lexlip):
    path = build(engine="lucene")
    for file in (path / "engine").glob("_*"):
        file.unlink()
    for command in (["search", path, "a red circle"], ["check", path], ["stats", path]):
        done = lexlip(*command)
        assert done.exit_code == 2 and len(done.stderr.splitlines()) == 1, done.output


@pytest.mark.parametrize("gone", ["engine", "manifest.json", ""])
def test_row_21_a_folder_that_vanishes_is_one_line(build, lexlip, gone):
    path = build()
    if (path / gone).is_dir():
        shutil.rmtree(path / gone)
    else:
        (path / gone).unlink()
    for command in (["search", path, "a red circle"], ["check", path], ["delete", path, "0.png"]):
        done = lexlip(*command)
        assert done.exit_code == 2 and len(done.stderr.splitlines()) == 1, done.output

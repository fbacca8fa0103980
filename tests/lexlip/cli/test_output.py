"""Output that cannot be written: one line, whatever the command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lexlip import Index
from lexlip.models.shipped import load_shipped

ROOT = Path(__file__).resolve().parents[3]
COMMANDS = [
    ["search", "{}", "red"], ["search", "{}", "red", "--json"], ["stats", "{}"], ["check", "{}"],
    ["--help"], ["search", "{}", "red", "--trec", "q1"], ["delete", "{}", "a"], ["doctor"],
]  # fmt: skip


@pytest.fixture
def index(tmp_path):
    Index.create(tmp_path / "i.lex", load_shipped(), {"a": "red", "b": "blue"}).close()
    return tmp_path / "i.lex"


def run(index, command, **options):
    main = "from lexlip.cli.__main__ import main; main()"
    return subprocess.run(
        [sys.executable, "-c", main, *(part.format(index) for part in command)],
        stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False, **options,
    )  # fmt: skip


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command[:1]))
def test_a_full_disk_behind_the_output_is_one_line(index, command):
    with open("/dev/full", "w") as full:
        done = run(index, command, stdout=full)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("lexlip: the output cannot be written: No space left")


@pytest.mark.skipif(os.name == "nt", reason="closes a descriptor before the start")
def test_a_closed_output_is_no_traceback(index):
    done = run(index, ["search", "{}", "red"], preexec_fn=lambda: os.close(1))
    assert done.returncode == 0 and done.stderr == ""


def test_a_reader_that_has_enough_is_no_traceback(index):
    read, write = os.pipe()
    os.close(read)
    done = run(index, ["search", "{}", "red"], stdout=write)
    os.close(write)
    assert "Traceback" not in done.stderr

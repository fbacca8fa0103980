"""The study of the first minute: real processes and a real server, timed a few times."""

from __future__ import annotations

import sys

import pytest
from typer.testing import CliRunner

from eval.studies import first_minute
from lexlip.errors import LexLIPError


def test_a_process_is_timed_and_its_memory_measured():
    seconds, memory = first_minute.process([sys.executable, "-c", "import time; time.sleep(0.2)"])
    assert 0.2 < seconds < 20 and memory > 5
    with pytest.raises(LexLIPError, match="went wrong"):
        first_minute.process([sys.executable, "-c", "import sys; sys.exit('it went wrong')"])


def test_the_study_times_searches_and_requests():
    done = CliRunner().invoke(first_minute.app, ["runs=1", "requests=3", "torch=false"])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert len(lines) == 4 and "lexlip search " in lines[1] and " ms, " in lines[-1]


def test_a_server_that_does_not_start_is_one_line(tmp_path):
    with pytest.raises(LexLIPError, match="does not start"):
        first_minute.requests(str(tmp_path / "gone"), 1)

"""Sessions of onnxruntime: threads, devices, errors, and nothing on standard error."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from lexlip.errors import LexLIPError
from lexlip.models import runtime
from lexlip.models.onnx import open_session, road
from tests.support.graphs import doubling


@pytest.fixture
def graph(tmp_path):
    return doubling(tmp_path / "graph.onnx")


def test_a_graph_takes_and_gives_arrays(graph):
    found = open_session(graph).run(None, {"x": np.ones((2, 3), np.float32)})[0]
    np.testing.assert_array_equal(found, np.full((2, 3), 2, np.float32))


def test_threads_are_those_that_were_set(graph, monkeypatch):
    monkeypatch.setattr(runtime, "_count", 3)
    options = open_session(graph).get_session_options()
    assert options.intra_op_num_threads == 3
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert open_session(graph, threads=2).get_session_options().intra_op_num_threads == 2


def test_the_environment_says_how_many_threads(monkeypatch):
    monkeypatch.setattr(runtime, "_count", None)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert runtime.threads() == 5
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert runtime.threads() >= 1


@pytest.mark.parametrize("device", ["quantum", "rocm", "cpu:x", ""])
def test_a_device_that_is_not_there_is_one_line(graph, device):
    with pytest.raises(LexLIPError, match="no device .* cpu") as raised:
        open_session(graph, device=device)
    assert "\n" not in str(raised.value)


def test_corrupted_and_missing_graphs_are_one_line(graph):
    whole = graph.read_bytes()
    for part in (b"", b"nothing", whole[: len(whole) // 2]):
        graph.write_bytes(part)
        with pytest.raises(LexLIPError, match="corrupted") as raised:
            open_session(graph)
        assert "\n" not in str(raised.value)
    with pytest.raises(LexLIPError, match="no graph at"):
        open_session(graph.with_name("other.onnx"))


def test_nothing_is_printed_and_torch_is_not_imported(graph):
    code = (
        "import sys\nfrom lexlip.models.onnx import open_session, road\n"
        f"open_session({str(graph)!r})\n"
        "assert 'torch' not in sys.modules\nprint('still there', file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "still there\n")


def test_the_road_is_told_in_one_line(monkeypatch):
    monkeypatch.setattr(runtime, "_count", 3)
    assert "onnxruntime" in road() and "cpu with 3 threads" in road() and "\n" not in road()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert road().startswith("torch: onnxruntime, which is faster, is missing")

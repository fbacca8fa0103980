"""Devices: a name that is not there is one line, on every road."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from lexlip.cli import app
from lexlip.errors import LexLIPError
from lexlip.models import load, runtime


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch):
    monkeypatch.setattr(runtime, "_device", None)


def test_the_default_is_what_the_machine_has(monkeypatch):
    assert runtime.device_name() == "auto"
    monkeypatch.setenv("LEXLIP_DEVICE", "cpu")
    assert runtime.device_name() == "cpu"
    runtime.use_device("cuda:1")
    runtime.use_device(None)
    assert runtime.device_name() == "cuda:1"


def test_a_network_on_a_device_that_is_not_there(checkpoint):
    runtime.use_device("hpu")
    with pytest.raises(LexLIPError, match="no device 'hpu'"):
        load(checkpoint).encode_text(["red"])


def test_the_command_line_names_the_device(checkpoint, photos, tmp_path):
    arguments = ["index", photos, "-o", tmp_path / "x", "-m", checkpoint, "--device", "hpu"]
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 2 and "no device 'hpu'" in done.stderr
    assert done.stderr.count("\n") == 1 and not (tmp_path / "x").exists()

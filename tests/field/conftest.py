"""What the trials share: quick writes, and indexes made on the command line."""

from __future__ import annotations

import os

import pytest
from typer.testing import CliRunner

from lexlip.cli import app


@pytest.fixture(autouse=True)
def no_flush(monkeypatch):
    """No waiting for the disk: no test cuts the power."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def lexlip():
    """Return a function: run a command, with lines for its standard input."""

    def run(*arguments, input=None):
        return CliRunner().invoke(app, [os.fspath(a) if not isinstance(a, int) else str(a)
                                        for a in arguments], input=input)  # fmt: skip

    return run


@pytest.fixture
def make(lexlip, checkpoint, tmp_path):
    """Return a function: index a folder on the command line, and say where."""

    def run(*sources, out="i.lex", options=()):
        path = tmp_path / out
        done = lexlip("index", *sources, "-o", path, "-m", checkpoint, *options,
                      *(() if path.exists() else ("--engine", "postings")))  # fmt: skip
        assert done.exit_code == 0, done.output
        return path

    return run

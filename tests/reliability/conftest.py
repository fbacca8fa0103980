"""What the tests of the failure matrix share: small indexes, the command line, quick writes."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
from scipy.sparse import csr_array
from typer.testing import CliRunner

FIGURES = "LEXLIP_FIGURES"
"""Environment variable: a file to which the tests add what they measured, a JSON line each."""


@pytest.fixture
def figure(request):
    """Return a function: keep a figure for docs/reliability.md, where it is asked for.

    Numbers of one row and name are added up there; texts stand beside each other.
    """

    def figure(name, value):
        if path := os.environ.get(FIGURES):
            line = json.dumps({"test": request.node.originalname, "name": name, "value": value})
            with open(path, "a", encoding="utf-8") as file:
                file.write(line + "\n")

    return figure


@pytest.fixture
def no_flush(monkeypatch):
    """No waiting for the disk: no test cuts the power."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="session")
def checkpoint(checkpoint, tmp_path_factory):
    """A copy of the checkpoint of the tiny model: commands export it beside its weights."""
    return shutil.copytree(checkpoint, tmp_path_factory.mktemp("reliability") / "tiny")


@pytest.fixture
def lexlip():
    """Return a function: run a command of lexlip."""
    from lexlip.cli import app

    def run(*arguments):
        return CliRunner().invoke(app, list(map(os.fspath, map(str, arguments))))

    return run


@pytest.fixture
def build(model, checkpoint, images, tmp_path, no_flush):
    """Return a function: write an index of some pictures, and say where it is."""
    from lexlip import Index

    def build(name="i.lex", count=6, **options):
        source = {f"{number}.png": images[number] for number in range(count)}
        options = {"engine": "postings", "checkpoint": checkpoint, **options}
        Index.create(tmp_path / name, model, source, **options).close()
        return tmp_path / name

    return build


def impacts(seed: int, count: int, width: int = 60, terms: int = 12) -> csr_array:
    """Random documents [count, width]."""
    random = np.random.default_rng(seed)
    rows = np.zeros((count, width), np.int32)
    for row in rows:
        row[random.permutation(width)[:terms]] = random.integers(1, 256, terms)
    return csr_array(rows)

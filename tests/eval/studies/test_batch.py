"""The study of batches, small: hits are compared, and each engine has its rows."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from eval.studies import batch
from lexlip.errors import LexLIPError


def test_queries_are_different():
    assert len(set(batch.queries(500))) == 500
    with pytest.raises(LexLIPError, match="at most"):
        batch.queries(10**6)


def test_each_way_is_timed(tmp_path, monkeypatch):
    monkeypatch.setattr(batch, "ENGINES", ("postings",))
    out = tmp_path / "rows.json"
    given = ["scenes=12", "copies=3", "queries=40", "rounds=1", f"out={out}"]
    done = CliRunner().invoke(batch.app, given)
    assert done.exit_code == 0, done.output
    rows = json.loads(out.read_text())["rows"]
    assert [row["texts by"] for row in rows] == ["network", "query table"]
    assert all(row["times"] > 0 and row["many at once, queries/s"] > 0 for row in rows)


def test_hits_that_differ_are_an_error(monkeypatch):
    monkeypatch.setattr(batch, "ENGINES", ("postings",))
    monkeypatch.setattr(batch, "rates", lambda *given: ((1.0, 2.0), False))
    with pytest.raises(LexLIPError, match="hits differ"):
        batch.study(batch.Settings(scenes=3, copies=1, queries=4, rounds=1))

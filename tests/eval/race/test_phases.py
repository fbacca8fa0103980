"""The race of two phases, on a few made-up vectors."""

from __future__ import annotations

import json

import numpy as np
import pytest

from eval.race import phases, texts
from lexlip.errors import LexLIPError

N, WIDTH = 1500, 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("race") / "made-up"
    texts.make_up(path, N, WIDTH, words=200)
    return path


@pytest.fixture(scope="module")
def made(folder):
    return texts.coded(folder, N, queries=12, terms=12)


def test_made_up_queries_have_neighbours(made):
    assert made.documents.shape == (N, WIDTH) and made.queries.shape == (12, WIDTH)
    np.testing.assert_allclose(np.linalg.norm(made.documents, axis=1), 1, atol=1e-5)
    cosines = np.sort(made.queries @ made.documents.T, axis=1)[:, ::-1]
    assert (cosines[:, 0] > cosines[:, 50] + 0.2).all()


def test_codes_are_read_again_and_missing_pieces_made(folder, made, monkeypatch):
    from lexlip.models.lexical.code import WordCode

    again = texts.coded(folder, N, queries=12, terms=12)
    assert (again.weights != made.weights).nnz == 0 and (again.said != made.said).nnz == 0
    fewer = texts.coded(folder, 100, queries=3, terms=12)
    assert (fewer.weights != made.weights[:100]).nnz == 0 and len(fewer.queries) == 3
    (folder / "weights-0000000.npz").unlink()
    assert (texts.coded(folder, N, 12, 12).weights != made.weights).nnz == 0
    monkeypatch.setattr(WordCode, "encode", lambda *_: pytest.fail("codes again"))
    texts.coded(folder, N, 12, 12)


def test_ours_agrees_with_exact_search(made, tmp_path):
    ours = phases.Ours(made, tmp_path)
    settings = phases.Settings(terms=(64,), depth=(N,))
    for share, kept in phases.filters(N).items():
        right = phases.truth(made, kept)
        assert len(kept) == pytest.approx(share * N, abs=2)
        rows = phases.measure(ours.entries(settings, share), right, share, rounds=1)
        assert [row["name"] for row in rows] == [f"words 64, best {N}"]
        found = ours.entries(settings, share)[0].answer(0)
        assert set(found) <= set(kept.tolist())
        if share >= 0.1:
            assert rows[0]["R10"] > 85
        assert rows[0]["bytes"] > WIDTH and rows[0]["p95_ms"] >= rows[0]["p50_ms"] > 0
    ours.engine.close()


def test_the_race_is_run_and_written(tmp_path):
    pytest.importorskip("faiss")
    settings = phases.Settings(
        data="made-up", documents=400, queries=5, rounds=1, terms=(64,), depth=(100,), ef=(64,),
        probes=(8,), out=str(tmp_path),
    )  # fmt: skip
    rows = phases.run(settings)
    assert json.loads((tmp_path / "made-up" / "metrics.json").read_text())["rows"] == rows
    assert {row["share"] for row in rows} == set(phases.SHARES)
    assert all(row["R10"] == 100 for row in rows if row["name"] == "exact")
    assert "HNSW ef 64" in phases.table(rows)


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    with pytest.raises(LexLIPError, match="choose captions or made-up"):
        phases.run(phases.Settings(data="x", out=str(tmp_path)))
    with pytest.raises(LexLIPError, match="set LEXLIP_DATA"):
        texts.captions(tmp_path)
    monkeypatch.setattr(texts, "find_spec", lambda name: None)
    with pytest.raises(LexLIPError, match="the text encoder is missing"):
        texts.encode_captions(tmp_path / "c", tmp_path, ["dog"])

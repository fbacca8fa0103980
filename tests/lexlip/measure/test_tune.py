"""Tuning: figures that brute force confirms, budgets that hold, and an index left as it was."""

from __future__ import annotations

import hashlib
import json
import shlex
import tempfile

import numpy as np
import pytest
from scipy.sparse import csr_array
from typer.testing import CliRunner

from lexlip import Index
from lexlip.cli import app
from lexlip.engines import PostingsEngine
from lexlip.errors import LexLIPError
from lexlip.impacts import dequantise, document_impacts, quantise_query
from lexlip.measure import curve, tune
from lexlip.measure.curve import Documents, Point, Setting, prune, read_impacts
from lexlip.measure.tune import Budget, choose

V = 400  # so many that no term is in every sixth document: those have rows of their own


@pytest.fixture(autouse=True)
def quick(monkeypatch, no_flush):
    monkeypatch.setattr(curve, "_ROUNDS", 1)


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Where temporary folders are made."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def vectors(n, most=30, seed=0):
    """Return float weights [n, V] with up to `most` terms."""
    rng = np.random.default_rng(seed)
    dense = rng.lognormal(0, 1, (n, V))
    dense[rng.random((n, V)) >= most / V] = 0
    return csr_array(dense)


# --- parts


def test_budgets_are_milliseconds_or_bytes():
    assert Budget.parse("2ms") == Budget(2, "ms") and Budget.parse(" 0.5 MS") == Budget(0.5, "ms")
    assert Budget.parse("100B") == Budget.parse("100 b") == Budget(100, "B")
    for text in ("", "2", "2s", "-1ms", "0B", "ms", "1e3B", "nanB"):
        with pytest.raises(LexLIPError, match="is not a budget.*2ms.*100B"):
            Budget.parse(text)


@pytest.mark.parametrize("few", [1, 1000])
def test_all_impacts_are_read_back(new_engine, monkeypatch, few):
    monkeypatch.setattr(curve, "_FEW", few)
    engine = new_engine()
    impacts, _ = document_impacts(vectors(50), 20)
    ids = [f"é/{i}" for i in range(50)]
    engine.add(ids[:30], impacts[:30])
    engine.commit()
    engine.add(ids[20:], impacts[20:])  # ten are replaced
    engine.add(["wordless"], csr_array((1, V), dtype=np.int32))
    engine.commit()
    engine.delete(ids[:5])
    engine.commit()
    names, found = read_impacts(engine, range(V), V)
    assert names == sorted(ids[5:])
    assert np.array_equal(found.toarray(), impacts[[ids.index(name) for name in names]].toarray())
    with pytest.raises(LexLIPError, match="no picture with words"):
        read_impacts(new_engine(), range(V), V)


def test_pruned_impacts_are_those_of_the_one_recipe():
    impacts, scale = document_impacts(vectors(40), 30)
    for terms in (1, 8, 24):
        exact, _ = document_impacts(dequantise(impacts, scale), terms)
        pruned = prune(impacts, scale, terms)
        assert np.array_equal(pruned.toarray(), exact.toarray())
        assert np.diff(pruned.indptr).max() == terms and pruned.data.max() == 255
    # Nothing to prune: off by a step at most, where vectors were not quite of length one.
    assert abs(prune(impacts, scale, 30) - impacts).max() <= 1
    kept = prune(impacts, scale, 30, normalise=False)
    assert abs(kept / kept.max() - impacts / impacts.max()).max() < 0.01  # lengths as they are
    coarse = prune(impacts, scale, 30, bits=3)
    assert coarse.data.max() == 7 and coarse.nnz < impacts.nnz
    assert np.diff(coarse.indptr).min() >= 1


def point(terms, size, ms, agreement, recall=None, **others):
    return Point(Setting(terms, **others), terms, size, ms, agreement, recall or {})


def test_the_best_within_a_budget_is_chosen():
    whole = point(64, 200, 2.0, 1.0)
    half = point(32, 120, 1.0, 0.9)
    short = point(32, 120, 0.5, 0.85, query_terms=16)
    few = point(8, 50, 0.4, 0.5)
    shown = [point(64, 10, 0.1, 1.0, bits=4), point(64, 10, 0.1, 1.0, levels=8)]
    shown.append(point(64, 10, 0.1, 1.0, rescore=100))
    points = [whole, half, short, few, *shown]
    for text, best in (
        ("200B", whole), ("199B", half), ("120B", half), ("119.9B", few), ("50B", few),
        ("2ms", whole), ("1ms", half), ("0.6ms", short), ("0.45ms", few),
    ):  # fmt: skip
        assert choose(points, Budget.parse(text)) is best, text
    with pytest.raises(
        LexLIPError, match="nothing fits into 49 B: the least is 50 B, with 8 terms"
    ):
        choose(points, Budget.parse("49B"))
    with pytest.raises(LexLIPError, match="into 0.1 ms: the least is 0.4 ms.*larger --budget"):
        choose(points, Budget.parse("0.1ms"))
    judged = [point(64, 200, 2.0, 1.0, {"R@1": 0.5, "R@5": 0.7})]
    judged += [point(32, 120, 1.0, 0.9, {"R@1": 0.6, "R@5": 0.7})]
    judged += [point(24, 100, 1.0, 0.8, {"R@1": 0.6, "R@5": 0.7})]
    assert choose(judged, Budget.parse("1000B")) is judged[1]


# --- the curve


def ranking(impacts, query, ids):
    """Ids of the ten best by a dense integer product."""
    scores = impacts.toarray().astype(int) @ query
    order = sorted((-score, name) for score, name in zip(scores, ids, strict=True) if score)
    return [name for _, name in order[:10]]


def test_the_curve_is_what_brute_force_counts(kind, temporary):
    ids = [f"{i:03}" for i in range(120)]
    impacts, scale = document_impacts(vectors(120), 32)
    rng = np.random.default_rng(1)
    metadata = [{"folder": f"trip {i % 7}"} if i % 3 else {} for i in range(120)]
    documents = Documents(ids, impacts, scale, metadata)
    queries = vectors(25, most=18, seed=2)
    names = [f"q{i}" for i in range(25)]
    qrels = {name: set(rng.choice(ids, 3).tolist()) for name in names[:20]}
    points = curve.curve(kind, documents, 32, names, queries, qrels)
    assert list(temporary.iterdir()) == []
    assert points[0].setting == Setting(32) and points[0].agreement == 1.0
    assert len({p.setting for p in points}) == len(points)
    caps = {p.setting.query_terms for p in points}
    assert caps == {8, 16, 64} | ({32} if np.diff(queries.indptr).max() > 32 else set())
    assert {p.setting.max_terms for p in points} == {8, 16, 24, 32}
    assert {p.setting.bits for p in points} == {8, *curve.BITS}
    whole = None
    for found in points:
        way = found.setting
        held = impacts
        if way.bits == 8 and way.max_terms < 32:
            held, _ = document_impacts(dequantise(impacts, scale), way.max_terms)
        elif way.bits < 8:
            held = prune(impacts, scale, 32, way.bits)
        asked = quantise_query(queries, way.levels, way.query_terms).toarray()
        hits = {name: ranking(held, row, ids) for name, row in zip(names, asked, strict=True)}
        whole = whole or hits
        shares = [len(set(hits[name]) & set(whole[name])) / len(whole[name]) for name in names]
        assert found.agreement == pytest.approx(np.mean(shares)), way
        for k in (1, 5, 10):
            right = [bool(set(hits[name][:k]) & qrels[name]) for name in qrels]
            assert found.recall[f"R@{k}"] == pytest.approx(np.mean(right)), way
        assert found.terms == pytest.approx(held.nnz / 120) and found.ms > 0
    plain = [p for p in points if p.setting == Setting(p.setting.max_terms)]
    assert len(plain) == 4
    for more, fewer in zip(plain, plain[1:], strict=False):
        assert more.setting.max_terms > fewer.setting.max_terms
        assert more.bytes > fewer.bytes and more.terms > fewer.terms
        assert more.agreement > fewer.agreement
    # The size is that of a real index with the same metadata.
    with documents.built(kind, impacts) as engine:
        assert engine.stats()["bytes"] / 120 == pytest.approx(points[0].bytes, rel=0.01)
        assert engine.fetch(ids[:2]) == metadata[:2]
    bare = Documents(ids, impacts, scale)
    assert curve.curve(kind, bare, 8, names[:2], queries[:2])[0].bytes < points[0].bytes


def test_nothing_is_left_when_it_is_interrupted(temporary, monkeypatch):
    impacts, scale = document_impacts(vectors(20), 16)
    documents = Documents([f"{i}" for i in range(20)], impacts, scale)
    seen = []

    def dies(self, *_, **__):
        seen.append(list(temporary.iterdir()))
        raise KeyboardInterrupt

    monkeypatch.setattr(PostingsEngine, "search", dies)
    with pytest.raises(KeyboardInterrupt):
        curve.curve("postings", documents, 16, ["q"], vectors(1))
    assert len(seen[0]) >= 1 and list(temporary.iterdir()) == []


# --- a whole index


def digest(path):
    return {
        file.relative_to(path): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in path.rglob("*")
        if file.is_file()
    }


@pytest.fixture
def few(monkeypatch):
    """Measure little."""
    for name, values in (("TERMS", (8,)), ("BITS", (4,)), ("LEVELS", (8,))):
        monkeypatch.setattr(curve, name, values)


def lexlip(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_an_index_is_tuned_and_stays_as_it_is(
    kind, model, checkpoint, photos, tmp_path, temporary, few
):
    path = tmp_path / "i.lex"
    Index.create(
        path, model, photos, max_terms=32, engine=kind, checkpoint=checkpoint, keep_floats=True
    ).close()
    before = digest(path)
    with Index.open(path, model) as index:
        found = tune.tune(index, Budget.parse("100000B"), sample=5)
        assert found.best.agreement == 1.0 and found.best.bytes <= found.points[0].bytes
        assert tune._commands(index, Setting(32)) == []
        assert "5 documents" in found.queries
        (exact,) = [p for p in found.points if p.setting.rescore]
        assert exact.agreement > 0.9 and exact.bytes > found.points[0].bytes
        least = min(found.points, key=lambda p: p.bytes if p.setting.bits == 8 else 1e9)
        assert least.setting.max_terms == 8
        tuned = tune.tune(index, Budget(least.bytes * 1.001, "B"), {"q": "red circle", "r": "star"})
        assert tuned.best.setting.max_terms == 8 and tuned.best.bytes <= least.bytes * 1.001
        with pytest.raises(LexLIPError, match="nothing fits into 1 B: the least is"):
            tune.tune(index, Budget.parse("1B"), sample=2)
        for texts, judged in ((None, {"q": {"00.png"}}), ({"q": "star"}, {"other": {"00.png"}})):
            with pytest.raises(LexLIPError, match="no query is judged"):
                tune.tune(index, None, texts, judged)
        with pytest.raises(LexLIPError, match="no query has a word"):
            tune.tune(index, None, {"q": "xyzzy"})
    assert digest(path) == before and list(temporary.iterdir()) == []
    # The command that is given makes what was measured.
    (command,) = [line for line in tuned.commands if line.startswith("lexlip index")]
    result = lexlip(*shlex.split(command)[1:])
    assert result.exit_code == 0, result.output
    with Index.open(path, model) as index:
        stats = index.stats()
        assert stats["max_terms"] == 8 and stats["engine"] == kind
        assert index.side_stores.floats is not None
        assert stats["terms_per_image"] == pytest.approx(tuned.best.terms, rel=0.05)
        assert stats["bytes_per_image"] == pytest.approx(tuned.best.bytes, rel=0.05)


def test_on_the_command_line(model, checkpoint, photos, tmp_path, temporary, few):
    path = tmp_path / "i.lex"
    options = {"max_terms": 16, "engine": "postings", "checkpoint": checkpoint}
    Index.create(path, model, photos, **options).close()
    texts, judged = tmp_path / "queries.tsv", tmp_path / "t2i.qrels"
    texts.write_text("q\ta red circle\nr\tstar\nnone\txyzzy\n")
    judged.write_text("q 0 03.png 1\nq 0 04.png 0\nr 0 07.png 1\nnone 0 00.png 1\nz 0 00.png 1\n")
    command = ("tune", path, "--queries", texts, "--qrels", judged)
    result = lexlip(*command, "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["best"] is None and "3 queries given, 3 of them judged" in said["queries"]
    whole = said["points"][0]
    assert whole["setting"]["max_terms"] == 16 and whole["agreement"] == 1.0
    with Index.open(path, model) as index:
        hits = {
            q: [hit.id for hit in index.search(t)]
            for q, t in (("q", "a red circle"), ("r", "star"))
        }
    right = ("03.png" in hits["q"][:5]) + ("07.png" in hits["r"][:5])
    assert whole["recall"]["R@5"] == pytest.approx(right / 3)
    result = lexlip(*command, "--budget", "0.000001ms")
    assert result.exit_code == 2 and result.stdout == "" and result.stderr.count("\n") == 1
    assert "nothing fits into 1e-06 ms: the least is" in result.stderr
    smallest = min(point["bytes"] for point in said["points"] if point["setting"]["bits"] == 8)
    result = lexlip(*command, "--budget", f"{smallest * 1.01}B")
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.stdout.splitlines()]
    assert len(rows) >= len(said["points"]) + 4
    assert "best within" in result.stdout and "8 terms per picture" in result.stdout
    assert f"lexlip index {photos} -o {path}" in result.stdout
    assert "--max-terms 8 --engine postings --replace" in result.stdout
    for wrong, message in (
        (("tune", path, "--budget", "fast"), "'fast' is not a budget"),
        (("tune", tmp_path), "no index at"),
        (("tune", path, "--qrels", judged), "no query is judged: give --queries"),
        (("tune", path, "--queries", tmp_path / "gone"), "gone does not exist"),
        (("tune", path, "--queries", judged), "line 1 is not 'id <tab> text'"),
        (("tune", path, "--queries", texts, "--qrels", texts), "is not 'query 0 item grade'"),
    ):
        result = lexlip(*wrong)
        assert result.exit_code == 2 and result.stdout == "", result.output
        assert result.stderr.count("\n") == 1 and message in result.stderr
    texts.write_text("q\ta\nq\tb\n")
    assert "has an id that was there" in lexlip("tune", path, "--queries", texts).stderr

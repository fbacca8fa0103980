"""Vectors beside the postings: they follow adds, replaces, deletes, merges and commits."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from scipy.sparse import csr_array

from lexlip.engines import Hit, PostingsEngine
from lexlip.engines.base import Condition
from lexlip.engines.postings import engine as module
from lexlip.errors import LexLIPError
from lexlip.filters.where import Where
from lexlip.storage.vectors import CodedVectors, compare
from tests.lexlip.storage.test_vectors import d, some
from tests.support.oracles import as_dicts, collection, oracle, queries


def near(found, query):
    """{id: (cosine, constant)} of candidates."""
    said = compare(found.spans, len(found), query)
    assert said.held.all()
    rows = zip(said.cosine.tolist(), said.constant.tolist(), strict=True)
    return dict(zip(found.names(), rows, strict=True))


def alone(vectors, row, query):
    coded = CodedVectors.encode(vectors.take([row]))
    said = compare([(coded, np.arange(1), np.arange(1))], 1, query)
    return said.cosine.tolist()[0], said.constant.tolist()[0]


@pytest.mark.parametrize("small", [0, 2048])
def test_vectors_stay_with_their_documents(tmp_path, monkeypatch, no_flush, small):
    monkeypatch.setattr(module, "_SMALL", small)
    rng = np.random.default_rng(2)
    names, wanted = [f"é{i}" for i in range(80)], {}
    engine = PostingsEngine(tmp_path / "e")
    reader = PostingsEngine(tmp_path / "e", "r")
    every = {0: 1}
    for turn in range(14):
        ids = rng.choice(names, size=rng.integers(1, 30), replace=False).tolist()
        rows = some(rng, len(ids))
        engine.add(ids, csr_array(rng.integers(1, 256, (len(ids), 3))), vectors=rows)
        wanted |= {name: (rows, i) for i, name in enumerate(ids)}
        gone = rng.choice(names, size=rng.integers(0, 12), replace=False).tolist()
        engine.delete(gone)
        wanted = {name: held for name, held in wanted.items() if name not in gone}
        if turn % 3 == 1:
            continue  # two additions in one commit
        engine.compact() if turn == 9 else engine.commit()
        assert reader.reopen()
        query = some(rng, 1).vectors[0]
        for one in (engine, reader):
            found = one.candidates(every, 1000)
            assert near(found, query) == {n: alone(*held, query) for n, held in wanted.items()}
            assert one.stats()["vector_bytes"] >= len(wanted) * (d + 8)
    assert engine.verify() == []
    engine.close(), reader.close()


def test_candidates_are_the_hits_of_a_search(new_engine):
    engine = new_engine()
    ids, impacts = collection(300)
    years = [number % 5 for number in range(300)]
    for start in range(0, 300, 100):  # several parts
        span = slice(start, start + 100)
        engine.add(ids[span], impacts[span], {"year": years[span]})
        engine.commit()
    engine.delete(ids[:30])
    engine.commit()
    documents = as_dicts(ids[30:], impacts[30:])
    for terms in queries(1, 20):
        for k in (1, 7, 50, 10**6):
            found = engine.candidates(terms, k)
            best = oracle(documents, terms, k)
            assert found.hits() == best and len(found) == len(best)
            assert sorted(found.names()) == sorted(hit.id for hit in best)
            assert sorted(found.scores.tolist()) == sorted(hit.score for hit in best)
            where, conditions = Where.parse("year >= 2"), (Condition((0,), 2),)
            narrowed = engine.candidates(terms, k, where, conditions)
            assert narrowed.hits() == engine.search(terms, k, where, conditions)
            back = engine.locate([Hit(hit.id, -3) for hit in best] + [Hit("nobody", 1)])
            assert set(back.names()) >= {hit.id for hit in best}
            assert all(score in (-3, 1) for score in back.scores.tolist())


def test_the_best_by_other_scores_come_by_score_then_by_id(new_engine):
    engine = new_engine()
    ids, impacts = collection(120)
    for start in (0, 50):
        engine.add(ids[start : start + 70], impacts[start : start + 70])
        engine.commit()
    found = engine.candidates({0: 1}, 1000)
    scores = np.random.default_rng(0).integers(0, 6, len(found)) / 4
    pairs = sorted(zip((-scores).tolist(), found.names(), strict=True))
    for k in (1, 10, 119, 120, 500):
        places, names = found.best(scores, k)
        assert names == [name for _, name in pairs[:k]]
        assert found.names(places) == names
        assert scores[places].tolist() == [-score for score, _ in pairs[:k]]


def test_all_documents_have_vectors_of_one_width_or_none(tmp_path, no_flush):
    rng, one = np.random.default_rng(4), csr_array([[1, 2]])
    engine = PostingsEngine(tmp_path / "e")
    engine.add(["a"], one, vectors=some(rng, 1))
    for vectors, message in (
        (None, f"holds vectors of {d} numbers, these documents have 0"),
        (some(rng, 1, d + 1), f"these documents have {d + 1}"),
        (some(rng, 2), "1 ids but 2 vectors"),
    ):
        for _ in ("uncommitted", "committed"):
            with pytest.raises(LexLIPError, match=message) as raised:
                engine.add(["b"], one, vectors=vectors)
            assert "\n" not in str(raised.value)
            engine.commit()
    assert len(engine) == 1
    engine.delete(["a"])
    engine.commit()
    engine.add(["b"], one)  # nothing is there any more
    engine.commit()
    assert engine.candidates({0: 1}, 5).spans == []
    with pytest.raises(LexLIPError, match="holds vectors of 0 numbers"):
        engine.add(["c"], one, vectors=some(rng, 1))
    engine.close()


def test_damaged_vectors_are_found(tmp_path, no_flush):
    engine = PostingsEngine(tmp_path / "e")
    engine.add(["a", "b"], csr_array([[1], [2]]), vectors=some(np.random.default_rng(0), 2))
    engine.commit()
    engine.close()
    for name in ("vector-codes", "vector-scales", "constant", "word-mean", "word-spread"):
        shutil.copytree(tmp_path / "e", tmp_path / name)
        (path,) = (tmp_path / name).glob(f"part-*/{name}.npy")
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        reader = PostingsEngine(tmp_path / name, "r")
        (damaged,) = reader.verify()
        assert name in damaged
        reader.close()
        path.unlink()
        with pytest.raises(LexLIPError, match=name):
            PostingsEngine(tmp_path / name, "r")


@pytest.mark.java
def test_lucene_refuses_vectors(tmp_path, lucene):
    from lexlip.engines import LuceneEngine

    engine = LuceneEngine(tmp_path / "l")
    with pytest.raises(LexLIPError, match="keeps no vectors"):
        engine.add(["a"], csr_array([[1]]), vectors=some(np.random.default_rng(0), 1))
    engine.close()

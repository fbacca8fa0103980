"""One suite for all engines: the integers and the order of a dictionary's dot product."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array

from lexlip.engines import Engine, ExactEngine, Hit, LuceneEngine
from lexlip.engines.lucene import lucene_jar
from lexlip.errors import LexLIPError
from lexlip.impacts import MAX_IMPACT, MAX_QUERY_TERMS, MAX_QUERY_WEIGHT
from lexlip.java import find_java

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def lucene():
    try:
        find_java(), lucene_jar()
        import jnius_config  # noqa: F401
    except (LexLIPError, ImportError) as error:
        pytest.skip(str(error))


@pytest.fixture(params=["exact", pytest.param("lucene", marks=pytest.mark.java)])
def new_engine(request, tmp_path):
    """Return a function that makes an empty engine, each in a folder of its own."""
    made: list[Engine] = []
    if request.param == "lucene":
        request.getfixturevalue("lucene")

    def make():
        if request.param == "exact":
            made.append(ExactEngine())
        else:
            made.append(LuceneEngine(tmp_path / f"index-{len(made)}"))
        return made[-1]

    yield make
    for engine in made:
        engine.close()


@pytest.fixture
def engine(new_engine):
    return new_engine()


def collection(n, v=40, seed=0, high=4):
    """Return shuffled ids and [n, v] impacts; small impacts, so that ties abound."""
    rng = np.random.default_rng(seed)
    dense = rng.integers(1, high + 1, size=(n, v)) * (rng.random((n, v)) < 0.2)
    dense[:, 0] = rng.integers(1, high + 1, size=n)  # a term found in every document
    ids = [f"img/{i}.jpg" for i in rng.permutation(n)]  # string order is not number order
    return ids, csr_array(dense)


def oracle(documents, terms, k):
    """Score dictionaries {id: {term: impact}} in plain Python."""
    scores = {
        name: sum(weight * postings.get(term, 0) for term, weight in terms.items())
        for name, postings in documents.items()
    }
    found = sorted((-score, name) for name, score in scores.items() if score > 0)
    return [Hit(name, -score) for score, name in found[:k]]


def as_dicts(ids, impacts):
    rows = impacts.toarray().tolist()
    return {
        name: {term: value for term, value in enumerate(row) if value}
        for name, row in zip(ids, rows, strict=True)
    }


def queries(seed, number, v=40):
    rng = np.random.default_rng(seed)
    for _ in range(number):
        terms = rng.choice(v, size=rng.integers(1, 8), replace=False).tolist()
        yield dict(zip(terms, rng.integers(1, 65, size=len(terms)).tolist(), strict=True))


def test_scores_and_order_are_the_oracles(engine):
    ids, impacts = collection(300)
    for start in range(0, 300, 100):  # several batches and commits: several segments
        engine.add(ids[start : start + 100], impacts[start : start + 100])
        engine.commit()
    documents = as_dicts(ids, impacts)
    cut_in_tie = 0
    for terms in [*queries(1, 25), {0: 1}, {0: 64}, {3: 1, 4: 1}]:
        for k in (1, 7, 10**9):
            hits = engine.search(terms, k)
            assert hits == oracle(documents, terms, k)
            assert all(type(hit) is Hit and type(hit.score) is int for hit in hits)
        best = oracle(documents, terms, 8)
        cut_in_tie += len(best) == 8 and best[6].score == best[7].score
    assert cut_in_tie > 5  # the hard case did occur


def test_a_term_in_every_document_counts(engine):
    engine.add(["a", "b"], csr_array([[5, 1], [7, 0]]))
    engine.commit()
    assert engine.search({0: 2}, 10) == [Hit("b", 14), Hit("a", 10)]
    assert engine.search({0: 2, 1: 64}, 10) == [Hit("a", 74), Hit("b", 14)]


def test_equal_scores_come_in_code_point_order(engine):
    ids = ["é", "z", "Z", "10", "9", "a b", "\U0001f600", "\uffee", "a\x00b", "a"]
    engine.add(ids, csr_array(np.full((len(ids), 1), 3)))
    engine.commit()
    for k in range(1, len(ids) + 1):
        assert engine.search({0: 1}, k) == [Hit(name, 3) for name in sorted(ids)[:k]]


def test_nothing_to_find(engine):
    assert engine.search({0: 1}, 5) == []  # an empty index
    assert len(engine) == 0
    engine.add(["a", "empty"], csr_array([[1, 2], [0, 0]]))
    engine.commit()
    assert engine.search({}, 5) == []
    assert engine.search({2: 1, 10**9: 64}, 5) == []
    assert engine.search({0: 1, 77: 5}, 5) == [Hit("a", 1)]  # "empty" is there but no hit
    assert len(engine) == 2


def test_the_largest_query_is_exact(engine):
    n = MAX_QUERY_TERMS
    full = np.full((3, n), MAX_IMPACT)
    full[1, -1] -= 1  # one less, by the smallest step
    full[2, :] = 1
    engine.add(["full", "less", "low"], csr_array(full))
    engine.commit()
    top = n * MAX_IMPACT * MAX_QUERY_WEIGHT
    terms = {**dict.fromkeys(range(n), MAX_QUERY_WEIGHT), n - 1: 1}
    assert engine.search(dict.fromkeys(range(n), MAX_QUERY_WEIGHT), 1) == [Hit("full", top)]
    expected = top - (MAX_QUERY_WEIGHT - 1) * MAX_IMPACT
    assert engine.search(terms, 2) == [Hit("full", expected), Hit("less", expected - 1)]
    with pytest.raises(LexLIPError, match="1025 terms"):
        engine.search(dict.fromkeys(range(n + 1), 1), 1)


def test_nothing_shows_before_commit(engine):
    engine.add(["a"], csr_array([[1]]))
    assert (engine.search({0: 1}, 5), len(engine), engine.stats()["documents"]) == ([], 0, 0)
    engine.commit()
    assert (engine.search({0: 1}, 5), len(engine)) == ([Hit("a", 1)], 1)
    assert engine.delete(["a"]) == 1
    assert (engine.search({0: 1}, 5), len(engine)) == ([Hit("a", 1)], 1)
    engine.commit()
    assert (engine.search({0: 1}, 5), len(engine)) == ([], 0)
    engine.commit()  # nothing to do is fine


def test_deleting_counts_what_was_there(engine):
    ids, impacts = collection(50, seed=2)
    engine.add(ids, impacts)
    assert engine.delete([ids[0], ids[0], "nowhere"]) == 1  # before any commit
    engine.commit()
    assert engine.delete(ids[:10]) == 9
    assert engine.delete(ids[:10]) == 0
    assert engine.delete([]) == 0
    engine.add(ids[5:6], impacts[5:6])  # back again before the commit
    engine.commit()
    documents = as_dicts([ids[5], *ids[10:]], impacts[[5, *range(10, 50)]])
    assert len(engine) == 41
    for terms in queries(3, 10):
        assert engine.search(terms, 60) == oracle(documents, terms, 60)


def test_the_last_document_of_an_id_wins(engine):
    engine.add(["a", "b", "a"], csr_array([[1, 0, 0], [2, 0, 0], [0, 3, 0]]))
    engine.commit()
    assert (len(engine), engine.search({0: 1}, 5)) == (2, [Hit("b", 2)])
    assert engine.search({1: 1}, 5) == [Hit("a", 3)]
    engine.add(["b"], csr_array([[0, 0, 0, 0, 9]]))  # over commits, with a wider vocabulary
    engine.add(["c"], csr_array([[4]]))
    engine.commit()
    assert engine.search({0: 1, 4: 1}, 5) == [Hit("b", 9), Hit("c", 4)]
    assert len(engine) == 3
    assert engine.delete(["a", "b", "c"]) == 3


def test_random_histories_end_like_a_dictionary(engine):
    rng = np.random.default_rng(5)
    truth: dict[str, dict[int, int]] = {}
    for _ in range(12):
        ids = [f"d{i}" for i in rng.integers(0, 30, size=8)]
        if rng.random() < 0.35:
            assert engine.delete(ids) == len(set(ids) & truth.keys())
            for name in ids:
                truth.pop(name, None)
        else:
            impacts = csr_array(rng.integers(0, 3, size=(8, 6)))
            engine.add(ids, impacts)
            for row, name in enumerate(ids):
                truth[name] = as_dicts([name], impacts[[row]])[name]
        if rng.random() < 0.6:
            engine.commit()
    engine.commit()
    assert len(engine) == len(truth)
    for terms in queries(6, 10, v=8):
        assert engine.search(terms, 5) == oracle(truth, terms, 5)


def test_stats(engine):
    engine.add(["a", "b"], csr_array([[1, 0, 5], [0, 0, 2]]))
    engine.commit()
    stats = engine.stats()
    assert (stats["documents"], stats["postings"]) == (2, 3)
    assert stats["bytes"] > 0


def test_numpy_numbers_are_welcome(engine):
    engine.add(np.array(["a"]).tolist(), csr_array(np.array([[200]], dtype=np.uint8)))
    engine.commit()
    assert engine.search({np.int32(0): np.int64(64)}, np.int64(3)) == [Hit("a", 12800)]


@pytest.mark.parametrize(
    ("terms", "k"),
    [
        ({0: 1}, 0),
        ({0: 1}, -1),
        ({0: 1}, 1.5),
        ({0: 0}, 1),
        ({0: 65}, 1),
        ({0: -1}, 1),
        ({0: 2.9}, 1),
        ({0: True}, 1),
        ({-1: 1}, 1),
        ({"dog": 1}, 1),
    ],
)
def test_queries_off_the_contract_are_refused(engine, terms, k):
    with pytest.raises(LexLIPError):
        engine.search(terms, k)


@pytest.mark.parametrize(
    ("ids", "impacts"),
    [
        (["a"], csr_array([[1], [2]])),
        (["a", ""], csr_array([[1], [2]])),
        (["a", 7], csr_array([[1], [2]])),
        (["a", "\udcff"], csr_array([[1], [2]])),
        (["a", "x" * 1025], csr_array([[1], [2]])),
        ("ab", csr_array([[1], [2]])),
        (["a", "b"], csr_array([[1], [256]])),
        (["a", "b"], csr_array([[1], [-1]])),
        (["a", "b"], csr_array([[1.0], [2.5]])),
    ],
)
def test_bad_documents_are_refused_whole(engine, ids, impacts):
    with pytest.raises(LexLIPError):
        engine.add(ids, impacts)
    engine.commit()
    assert len(engine) == 0


def test_adding_leaves_the_callers_matrix_alone(engine):
    messy = csr_array((np.array([2, 3, 0]), np.array([1, 1, 0]), np.array([0, 3])), shape=(1, 2))
    engine.add(["a"], messy)
    engine.commit()
    assert engine.search({1: 1}, 1) == [Hit("a", 5)]  # duplicates are summed
    assert engine.search({0: 1}, 1) == []
    assert messy.nnz == 3


def test_a_closed_engine_says_so(engine):
    engine.close()
    engine.close()
    for call in (
        lambda: engine.search({0: 1}, 1),
        lambda: engine.add(["a"], csr_array([[1]])),
        lambda: engine.delete(["a"]),
        lambda: engine.commit(),
        lambda: engine.stats(),
        lambda: len(engine),
    ):
        with pytest.raises(LexLIPError, match="closed"):
            call()


def test_engines_that_wrote_in_another_order_agree(new_engine):
    ids, impacts = collection(80, seed=8)
    one, two = new_engine(), new_engine()
    one.add(ids, impacts)
    order = np.random.default_rng(0).permutation(80)
    for part in np.array_split(order, 3):
        two.add([ids[i] for i in part], impacts[part])
        two.commit()
    one.commit()
    for terms in queries(9, 15):
        assert one.search(terms, 6) == two.search(terms, 6)


# What only one engine has


def test_exact_takes_five_bytes_a_posting():
    ids, impacts = collection(500)
    impacts.indptr, impacts.indices = impacts.indptr.astype("i8"), impacts.indices.astype("i8")
    engine = ExactEngine()
    engine.add(ids, impacts)
    engine.commit()
    engine.add(ids[:1], impacts[[0]])
    engine.commit()
    assert engine.stats()["bytes"] == 5 * impacts.nnz + 4 * (impacts.shape[1] + 1)


def test_exact_round_trip(tmp_path):
    ids, impacts = collection(30, seed=4)
    engine = ExactEngine()
    engine.add(ids, impacts)
    engine.commit()
    engine.save(tmp_path / "saved")
    loaded = ExactEngine.load(tmp_path / "saved")
    for terms in queries(5, 5):
        assert loaded.search(terms, 9) == oracle(as_dicts(ids, impacts), terms, 9)
    assert loaded.stats() == engine.stats()
    assert loaded.delete(ids[:3]) == 3
    loaded.add(["new"], csr_array([[255]]))
    loaded.commit()
    loaded.save(tmp_path / "saved")
    assert len(ExactEngine.load(tmp_path / "saved")) == 28
    ExactEngine().save(tmp_path / "empty")
    assert len(ExactEngine.load(tmp_path / "empty")) == 0


@pytest.mark.parametrize("name", ["impacts.npy", "indices.npy", "ids.json", "manifest.json"])
def test_exact_refuses_damage(tmp_path, name):
    ids, impacts = collection(20, seed=4)
    engine = ExactEngine()
    engine.add(ids, impacts)
    engine.commit()
    engine.save(tmp_path / "saved")
    path = tmp_path / "saved" / name
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b'["a"]'):
        path.write_bytes(damaged)
        with pytest.raises(LexLIPError):
            ExactEngine.load(tmp_path / "saved")
    path.unlink()
    with pytest.raises(LexLIPError):
        ExactEngine.load(tmp_path / "saved")


def test_exact_never_reads_pickles(tmp_path):
    ExactEngine().save(tmp_path / "saved")
    np.save(tmp_path / "saved" / "impacts.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(LexLIPError, match="damaged"):
        ExactEngine.load(tmp_path / "saved")


@pytest.mark.java
def test_lucene_reopens_what_was_committed(tmp_path, lucene):
    ids, impacts = collection(60, seed=7)
    writer = LuceneEngine(tmp_path / "index")
    writer.add(ids[:40], impacts[:40])
    writer.commit({"scale": "811.5", "wörd": "é"})
    reader = LuceneEngine(tmp_path / "index", "r")
    writer.add(ids[40:], impacts[40:])
    writer.commit()
    writer.delete(ids[:5])
    writer.close()  # the deletion was not committed
    assert len(reader) == 40  # a reader keeps its commit
    reader.close()
    with_all = LuceneEngine(tmp_path / "index", "r")
    assert with_all.user_data == {"scale": "811.5", "wörd": "é"}
    for terms in queries(8, 10):
        assert with_all.search(terms, 9) == oracle(as_dicts(ids, impacts), terms, 9)
    for change in (lambda: with_all.add(["a"], csr_array([[1]])), with_all.commit):
        with pytest.raises(LexLIPError, match="open for reading"):
            change()
    with_all.close()
    again = LuceneEngine(tmp_path / "index")
    assert len(again) == 60
    again.commit({})
    assert again.user_data == {}
    again.close()


@pytest.mark.java
def test_lucene_optimise_drops_deleted_postings(tmp_path, lucene):
    ids, impacts = collection(60, seed=7)
    engine = LuceneEngine(tmp_path / "index")
    for start in (0, 20, 40):
        engine.add(ids[start : start + 20], impacts[start : start + 20])
        engine.commit()
    engine.delete(ids[:10])
    engine.optimise()
    assert engine.stats()["documents"] == 50
    assert engine.stats()["postings"] == impacts[10:].nnz
    documents = as_dicts(ids[10:], impacts[10:])
    for terms in queries(8, 10):
        assert engine.search(terms, 7) == oracle(documents, terms, 7)
    engine.close()


@pytest.mark.java
def test_lucene_errors_are_readable(tmp_path, lucene):
    with pytest.raises(LexLIPError, match="does not exist"):
        LuceneEngine(tmp_path / "none", "r")
    assert not (tmp_path / "none").exists()
    (tmp_path / "photos").mkdir()
    with pytest.raises(LexLIPError, match="holds no Lucene index"):
        LuceneEngine(tmp_path / "photos", "r")
    (tmp_path / "file").touch()
    with pytest.raises(LexLIPError, match="is a file"):
        LuceneEngine(tmp_path / "file")
    with pytest.raises(LexLIPError, match="'w' or 'r'"):
        LuceneEngine(tmp_path / "x", "a")  # type: ignore[arg-type]
    engine = LuceneEngine(tmp_path / "index")
    with pytest.raises(LexLIPError, match="open for writing elsewhere"):
        LuceneEngine(tmp_path / "index")
    engine.add(["a"], csr_array([[1]]))
    engine.commit()
    engine.close()
    for path in (tmp_path / "index").glob("*"):
        path.write_bytes(b"rubbish")
    with pytest.raises(LexLIPError, match="failed in Lucene") as caught:
        LuceneEngine(tmp_path / "index", "r")
    assert "\n" not in str(caught.value)


@pytest.mark.java
def test_lucene_searches_from_threads_while_commits_go_on(tmp_path, lucene):
    engine = LuceneEngine(tmp_path / "index")
    engine.add([f"d{i:02}" for i in range(20)], csr_array(np.full((20, 1), 2)))
    engine.commit()
    expected = [Hit(f"d{i:02}", 6) for i in range(5)]
    stop, wrong = threading.Event(), []

    def search():
        try:
            while not stop.is_set():
                hits = engine.search({0: 3}, 5)
                if hits != expected:
                    wrong.append(hits)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for i in range(15):
        engine.add([f"x{i}"], csr_array([[1]]))
        engine.commit()
    stop.set()
    for thread in threads:
        thread.join()
    engine.close()
    assert wrong == []


@pytest.mark.java
def test_lucene_keeps_stdout_clean_and_leaves_the_environment(tmp_path, lucene):
    code = """
import os, sys
before = dict(os.environ)
from lexlip.engines import LuceneEngine
assert "jnius" not in sys.modules, "importing must not start Java"
from scipy.sparse import csr_array
engine = LuceneEngine(sys.argv[1])
engine.add(["a"], csr_array([[5]]))
engine.commit()
engine.optimise()
assert engine.search({0: 1}, 1) == [("a", 5)]
engine.close()
assert dict(os.environ) == before
assert not any(name.startswith("pyserini") for name in sys.modules)
"""
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "index")],
        env=environ,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

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

from lexlip.engines import Engine, Hit, LuceneEngine, PostingsEngine, postings
from lexlip.engines.lucene import lucene_jar
from lexlip.errors import LexLIPError
from lexlip.impacts import MAX_IMPACT, MAX_QUERY_TERMS, MAX_QUERY_WEIGHT
from lexlip.java import find_java
from lexlip.where import Where

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def lucene():
    try:
        find_java(), lucene_jar()
        import jnius_config  # noqa: F401
    except (LexLIPError, ImportError) as error:
        pytest.skip(str(error))


@pytest.fixture(params=["postings", pytest.param("lucene", marks=pytest.mark.java)])
def new_engine(request, tmp_path, monkeypatch):
    """Return a function that makes an engine, each in a folder of its own unless given one."""
    made: list[Engine] = []
    if request.param == "lucene":
        request.getfixturevalue("lucene")
    else:
        monkeypatch.setattr(postings, "_SMALL", 0)  # several parts even of few documents
        monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # no test cuts the power
    kind = {"postings": PostingsEngine, "lucene": LuceneEngine}[request.param]

    def make(name=None, mode="w"):
        made.append(kind(tmp_path / (name or f"index-{len(made)}"), mode))
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


def test_scores_are_those_of_a_sparse_matrix_product(engine):
    ids, impacts = collection(2000, v=300, seed=11, high=MAX_IMPACT)
    for part in np.array_split(np.arange(2000), [10, 400, 1500]):
        engine.add([ids[i] for i in part], impacts[part])
        engine.commit()
    for terms in queries(12, 15, v=320):
        query = np.zeros(320, dtype=np.int64)
        query[list(terms)] = list(terms.values())
        scores = impacts @ query[:300]
        order = np.lexsort((np.array(ids), -scores))
        for k in (10, 1999):
            best = [row for row in order[:k] if scores[row]]
            assert engine.search(terms, k) == [Hit(ids[row], scores[row]) for row in best]


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
        lambda: engine.contributions("a", [0]),
        lambda: engine.fetch(["a"]),
        lambda: engine.reopen(),
        lambda: engine.compact(),
        lambda: engine.verify(),
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


# Metadata, filters, explanations

FOLDERS = ["trip", "home", "Ünï", None]
FILTERS = {
    "year >= 2010": lambda d: d.get("year", 0) >= 2010,
    "folder == 'trip'": lambda d: d.get("folder") == "trip",
    "folder != 'trip'": lambda d: d.get("folder", "trip") != "trip",
    "not (year < 2010)": lambda d: not d.get("year", 3000) < 2010,
    "year in (2001, 2002, 2003) or good": lambda d: (
        d.get("year", 0) in (2001, 2002, 2003) or d.get("good", False)
    ),
    "2005 <= year < 2015 and not folder == 'home'": lambda d: (
        2005 <= d.get("year", 0) < 2015 and d.get("folder") != "home"
    ),
    "size > 0.5 and good": lambda d: d.get("size", 0) > 0.5 and d.get("good", False),
    "year > 9999": lambda d: False,
}


def metadata(n, seed=0):
    """Return columns of n values and the same as n dictionaries."""
    rng = np.random.default_rng(seed)
    columns = {
        "year": [None if rng.random() < 0.1 else int(rng.integers(2000, 2020)) for _ in range(n)],
        "folder": [FOLDERS[i] for i in rng.integers(0, len(FOLDERS), n)],
        "good": [None if rng.random() < 0.2 else bool(rng.integers(2)) for _ in range(n)],
        "size": [round(float(x), 2) for x in rng.random(n)],
    }
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return columns, [{k: v for k, v in row.items() if v is not None} for row in rows]


def part_of(columns, rows):
    return {name: [values[row] for row in rows] for name, values in columns.items()}


def test_filters_are_exact(engine):
    ids, impacts = collection(200, seed=20)
    columns, rows = metadata(200)
    for part in np.array_split(np.arange(200), [30, 120]):
        engine.add([ids[i] for i in part], impacts[part], part_of(columns, part))
        engine.commit()
    engine.delete(ids[:15])
    engine.add(ids[15:20], impacts[15:20], part_of(columns, range(20, 25)))  # other metadata
    engine.add(ids[20:25], impacts[20:25])  # none
    engine.commit()
    documents = as_dicts(ids[15:], impacts[15:])
    rows = dict(zip(ids, [*rows[:15], *rows[20:25], *[{}] * 5, *rows[25:]], strict=True))
    for text, fulfils in FILTERS.items():
        kept = {name: terms for name, terms in documents.items() if fulfils(rows[name])}
        assert (text == "year > 9999") == (not kept)
        for terms in queries(21, 4):
            for k in (1, 5, 1000):
                assert engine.search(terms, k, Where.parse(text)) == oracle(kept, terms, k)
    assert engine.search({0: 1}, 1000) == oracle(documents, {0: 1}, 1000)


def test_filters_show_the_last_commit(engine):
    where = Where.parse("year == 1")
    engine.add(["a", "b"], csr_array([[1], [1]]), {"year": [1, 2]})
    engine.commit()
    assert engine.search({0: 1}, 5, where) == [Hit("a", 1)]
    engine.add(["b"], csr_array([[2]]), {"year": [1]})
    engine.delete(["a"])
    assert engine.search({0: 1}, 5, where) == [Hit("a", 1)]
    engine.commit()
    assert engine.search({0: 1}, 5, where) == [Hit("b", 2)]
    assert engine.search({0: 1}, 5, Where.parse("not year == 1")) == []


def test_filters_that_do_not_fit_are_refused(engine):
    with pytest.raises(LexLIPError, match="no metadata"):
        engine.search({0: 1}, 5, Where.parse("year == 1"))
    engine.add(["a", "b"], csr_array([[1], [1]]), {"year": [1, 2], "folder": ["x", None]})
    engine.commit()
    with pytest.raises(LexLIPError, match="'yaer'.*'year'"):
        engine.search({0: 1}, 5, Where.parse("yaer == 1"))
    with pytest.raises(LexLIPError, match="folder"):
        engine.search({0: 1}, 5, Where.parse("folder > 3"))
    engine.add(["c"], csr_array([[1]]), {"size": [1]})  # a column of the newest part only
    engine.commit()
    assert engine.search({0: 1}, 5, Where.parse("size == 1 or year == 2")) == [
        Hit("b", 1),
        Hit("c", 1),
    ]


def test_columns_keep_their_type(engine):
    engine.add(["a"], csr_array([[1]]), {"year": [2001], "folder": [None]})
    engine.commit()
    for bad in ({"year": ["2001"]}, {"year": [True]}, {"year": [1, 2]}, {"": [1]}, {"x": [[]]}):
        with pytest.raises(LexLIPError):
            engine.add(["b"], csr_array([[1]]), bad)
    engine.add(["c"], csr_array([[2]]), {"year": [2001.5], "folder": [3]})
    engine.commit()
    assert len(engine) == 2  # what was refused was not added
    assert engine.search({0: 1}, 5, Where.parse("year > 2001.2")) == [Hit("c", 2)]
    assert engine.search({0: 1}, 5, Where.parse("year <= 2001")) == [Hit("a", 1)]
    first, second = engine.fetch(["a", "c"])
    assert (first, second) == ({"year": 2001.0}, {"year": 2001.5, "folder": 3})
    assert (type(first["year"]), type(second["folder"])) == (float, int)


def test_fetch(engine):
    assert engine.fetch([]) == engine.fetch(()) == []
    assert engine.fetch(["a"]) == [None]
    columns, rows = metadata(40)
    ids, impacts = collection(40)
    engine.add(ids, impacts, columns)
    assert engine.fetch(ids[:2]) == [None, None]
    engine.commit()
    assert engine.fetch(ids) == rows
    assert engine.fetch([ids[3], "nowhere", ids[3], ids[1]]) == [rows[3], None, rows[3], rows[1]]
    engine.add(ids[:1], impacts[:1], {"new": ["only this"]})
    engine.add(ids[1:2], impacts[1:2])
    engine.delete(ids[2:3])
    assert engine.fetch(ids) == rows
    engine.commit()
    assert engine.fetch(ids) == [{"new": "only this"}, {}, None, *rows[3:]]
    with pytest.raises(LexLIPError):
        engine.fetch("ab")


def test_contributions_add_up_to_the_score(engine):
    ids, impacts = collection(120, seed=3)
    for part in np.array_split(np.arange(120), 3):
        engine.add([ids[i] for i in part], impacts[part])
        engine.commit()
    engine.add(["new"], csr_array([[0, MAX_IMPACT, 7]]))
    for name in ("new", "nowhere"):
        with pytest.raises(LexLIPError, match=f"no document '{name}'"):
            engine.contributions(name, [1])
    engine.commit()
    documents = as_dicts(ids, impacts)
    for terms in queries(4, 5, v=45):
        for hit in engine.search(terms, 20):
            if hit.id == "new":
                continue
            found = engine.contributions(hit.id, terms)
            assert found == {t: documents[hit.id][t] for t in terms if t in documents[hit.id]}
            assert sum(terms[term] * impact for term, impact in found.items()) == hit.score
    assert engine.contributions("new", [2, 0, 10**8, 1]) == {2: 7, 1: MAX_IMPACT}
    assert list(engine.contributions("new", [2, 1])) == [2, 1]
    assert engine.contributions("new", []) == {}
    engine.add(["new"], csr_array([[3]]))
    engine.delete(ids[:1])
    engine.commit()
    assert engine.contributions("new", [0, 1, 2]) == {0: 3}
    with pytest.raises(LexLIPError, match="no document"):
        engine.contributions(ids[0], [0])
    with pytest.raises(LexLIPError, match="no term id"):
        engine.contributions("new", ["dog"])


# Folders


def test_a_folder_keeps_its_last_commit(new_engine):
    columns, rows = metadata(60)
    ids, impacts = collection(60, seed=7)
    engine = new_engine("kept")
    engine.add(ids[:50], impacts[:50], part_of(columns, range(50)))
    engine.commit()
    reader = new_engine("kept", "r")
    engine.add(ids[50:], impacts[50:], part_of(columns, range(50, 60)))
    engine.commit()
    engine.delete(ids[:5])
    engine.close()  # the deletion was not committed
    assert len(reader) == 50  # a reader keeps its commit
    for change in (lambda: reader.add(["a"], csr_array([[1]])), reader.commit):
        with pytest.raises(LexLIPError, match="open for reading"):
            change()
    for mode in ("r", "w"):
        again = new_engine("kept", mode)
        assert len(again) == 60
        assert again.fetch(ids) == rows
        for terms in queries(8, 5):
            assert again.search(terms, 9) == oracle(as_dicts(ids, impacts), terms, 9)


def test_reopening_shows_the_newest_commit(new_engine):
    engine, reader = new_engine("shared"), new_engine("shared", "r")
    assert not reader.reopen()
    engine.add(["a"], csr_array([[1]]), {"year": [1]})
    assert not reader.reopen()
    engine.commit()
    assert (len(reader), reader.search({0: 1}, 1)) == (0, [])
    assert reader.reopen()
    assert (len(reader), reader.search({0: 1}, 1)) == (1, [Hit("a", 1)])
    assert reader.search({0: 1}, 1, Where.parse("year == 1")) == [Hit("a", 1)]
    assert not reader.reopen()
    engine.add(["b"], csr_array([[2]]))
    engine.reopen()  # a writer sees its own commits, and keeps what it did not commit
    engine.commit()
    assert engine.search({0: 1}, 5) == [Hit("b", 2), Hit("a", 1)]


def test_compacting_drops_the_dead(engine):
    ids, impacts = collection(60, seed=7)
    columns, rows = metadata(60)
    for part in np.array_split(np.arange(60), 3):
        engine.add([ids[i] for i in part], impacts[part], part_of(columns, part))
        engine.commit()
    engine.delete(ids[:10])
    engine.compact()
    assert engine.stats()["documents"] == 50
    assert engine.stats()["postings"] == impacts[10:].nnz
    assert engine.fetch(ids) == [*[None] * 10, *rows[10:]]
    documents = as_dicts(ids[10:], impacts[10:])
    for terms in queries(8, 10):
        assert engine.search(terms, 7) == oracle(documents, terms, 7)


def test_verifying_finds_a_flipped_byte(new_engine, tmp_path):
    engine = new_engine("index")
    ids, impacts = collection(60)
    engine.add(ids, impacts)
    engine.commit()
    engine.compact()
    assert engine.verify() == []
    files = [path for path in (tmp_path / "index").rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    whole = largest.read_bytes()
    at = len(whole) // 2
    largest.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    assert len(engine.verify()) == 1 and "damaged" in engine.verify()[0]
    largest.write_bytes(whole)
    assert engine.verify() == []


def test_one_writer_a_folder(new_engine):
    first = new_engine("one")
    with pytest.raises(LexLIPError, match="open for writing elsewhere"):
        new_engine("one")
    assert len(new_engine("one", "r")) == 0
    first.close()
    new_engine("one").commit()


# What only one engine has


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
def test_lucene_compact_drops_deleted_postings(tmp_path, lucene):
    ids, impacts = collection(60, seed=7)
    engine = LuceneEngine(tmp_path / "index")
    for start in (0, 20, 40):
        engine.add(ids[start : start + 20], impacts[start : start + 20])
        engine.commit()
    engine.delete(ids[:10])
    engine.compact()
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
engine.compact()
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

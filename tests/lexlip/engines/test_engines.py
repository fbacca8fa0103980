"""One suite for all engines: the integers and the order of a dictionary's dot product."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from lexlip.engines import Hit
from lexlip.errors import LexLIPError
from lexlip.impacts import MAX_IMPACT, MAX_QUERY_TERMS, MAX_QUERY_WEIGHT
from lexlip.storage.vectors import compare
from lexlip.storage.views import Vectors
from tests.support.oracles import as_dicts, collection, oracle, queries


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
def test_queries_off_the_contract_are_refused(shared_engine, terms, k):
    with pytest.raises(LexLIPError):
        shared_engine.search(terms, k)


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
def test_bad_documents_are_refused_whole(shared_engine, ids, impacts):
    with pytest.raises(LexLIPError):
        shared_engine.add(ids, impacts)
    shared_engine.commit()
    assert len(shared_engine) == 0


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


def test_frequencies_count_documents_and_generations_go_up(new_engine):
    writer = new_engine("shared")
    ids, impacts = collection(300, v=20, seed=3)
    writer.add(ids, impacts)
    writer.commit()
    reader = new_engine("shared", "r")
    assert reader.frequencies([*range(20), 99]) == {
        **dict(enumerate((impacts.toarray() > 0).sum(0).tolist())),
        99: 0,
    }
    before = reader.generation
    assert not reader.stale() and not writer.stale()
    writer.add(["x"], impacts[:1])
    assert not reader.stale()
    writer.commit()
    assert reader.stale() and reader.generation == before
    assert reader.reopen() and not reader.stale()
    assert reader.generation == writer.generation > before


def test_all_impacts_of_documents_are_given_back(engine):
    assert engine.ids() == [] and engine.impacts([]).shape[0] == 0
    ids, impacts = collection(400, v=2500, seed=5, high=MAX_IMPACT)
    impacts = csr_array(impacts)
    for part in np.array_split(np.arange(400), [50, 250]):
        engine.add([ids[i] for i in part], impacts[part])
        engine.commit()
    engine.delete(ids[:7])
    engine.add(ids[7:9], impacts[9:11])  # replaced
    engine.add(["empty"], csr_array((1, 2500), dtype=np.int32))
    engine.commit()
    assert sorted(engine.ids()) == sorted([*ids[7:], "empty"])
    asked = [*np.random.default_rng(6).permutation(np.arange(7, 400))[:60].tolist(), 7, 7]
    found = engine.impacts([*(ids[row] for row in asked), "empty"])
    rows = [{7: 9, 8: 10}.get(row, row) for row in asked]
    expected = np.vstack([impacts[rows].toarray(), np.zeros((1, 2500))])
    whole = np.zeros_like(expected)
    whole[:, : found.shape[1]] = found.toarray()
    assert np.issubdtype(found.dtype, np.integer) and (whole == expected).all()
    terms = dict(zip(found[[0]].indices.tolist(), found[[0]].data.tolist(), strict=True))
    assert terms and engine.contributions(ids[asked[0]], terms) == terms
    with pytest.raises(LexLIPError, match="no document 'nobody'"):
        engine.impacts([ids[20], "nobody"])
    with pytest.raises(LexLIPError, match="no document"):
        engine.impacts([ids[0]])  # deleted


def test_documents_take_the_impacts_and_vectors_of_others(engine):
    rng, n = np.random.default_rng(7), 6
    ids, impacts = list("abcdef"), csr_array(rng.integers(0, 256, (n, 30)))
    unit = rng.normal(size=(n, 8)).astype(np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    marks = (rng.normal(size=n).astype(np.float32) for _ in range(3))
    vectors = Vectors(unit, *marks) if engine.keeps_vectors else None
    engine.add(ids, impacts, {"year": list(range(n))}, vectors)
    engine.commit()
    near = _near(engine, unit[0], ids)
    engine.copy(["a", "b", "c"], ["b", "a", "new"], {"year": [10, 11, None]})  # two are swapped
    with pytest.raises(LexLIPError, match="no document"):
        engine.copy(["nobody"], ["x"])
    with pytest.raises(LexLIPError, match="2 ids but"):
        engine.copy(["a"], ["x", "y"])
    engine.commit()
    whole = np.zeros((7, 30), np.int64)
    found = engine.impacts(["b", "a", "new", "c", "d", "e", "f"])
    whole[:, : found.shape[1]] = found.toarray()
    assert (whole == impacts[[0, 1, 2, 2, 3, 4, 5]].toarray()).all()
    assert engine.fetch(["b", "a", "new", "c"]) == [{"year": 10}, {"year": 11}, {}, {"year": 2}]
    now = _near(engine, unit[0], ["b", "a", "new", *ids[2:]])
    assert now == [near[0], near[1], near[2], *near[2:]]
    engine.compact()
    assert _near(engine, unit[0], ["b", "a", "new", *ids[2:]]) == now


def _near(engine, query, ids):
    """The product of a query and the vector that an engine keeps of each document, exactly."""
    if not engine.keeps_vectors:
        return [0] * len(ids)
    found = engine.locate([Hit(name, 1) for name in ids])
    near = compare(found.spans, len(ids), query)
    rows = zip(near.cosine.tolist(), near.constant.tolist(), near.held.tolist(), strict=True)
    by_id = dict(zip(found.names(), rows, strict=True))
    return [by_id[name] for name in ids]

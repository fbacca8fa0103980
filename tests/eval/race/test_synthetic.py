from __future__ import annotations

import numpy as np
import pytest

from eval.race import synthetic
from eval.race.synthetic import LIVE, VOCABULARY, dense, learned_sparse
from lexlip.errors import LexLIPError

N = 6000


@pytest.fixture(scope="module")
def drawn():
    return {kind: learned_sparse(N, kind, seed=3, queries=200) for kind in ("light", "heavy")}


def frequency(documents):
    return np.bincount(documents.indices, minlength=VOCABULARY) / documents.shape[0]


def touched(documents, queries):
    """Postings a query meets, as a part of the number of documents; mean over queries."""
    return float(frequency(documents)[queries.indices].sum() / queries.shape[0])


@pytest.mark.parametrize("kind", ["light", "heavy"])
def test_the_stated_sizes(drawn, kind):
    documents, queries = drawn[kind]
    assert documents.shape == (N, VOCABULARY) and queries.shape == (200, VOCABULARY)
    lengths = np.diff(documents.indptr)
    assert 32 <= lengths.min() and lengths.max() <= 100
    assert lengths.mean() == pytest.approx(60, abs=1)
    assert lengths.std() > 10  # spread over the range, not all alike
    asked = np.diff(queries.indptr)
    assert asked.min() == 10 and asked.max() == 25
    assert documents.dtype == queries.dtype == np.int32
    assert 1 <= documents.data.min() and documents.data.max() == 255
    assert 1 <= queries.data.min() and queries.data.max() == 64
    for matrix in drawn[kind]:
        assert matrix.has_canonical_format  # sorted, no term twice
    alive = int((frequency(documents) > 0).sum())
    assert 0.8 * LIVE < alive <= LIVE


def test_light_is_flat_and_heavy_has_a_steep_head(drawn):
    light, heavy = (frequency(drawn[kind][0]) for kind in ("light", "heavy"))
    assert light.max() < 1 / 12  # no term worth a dense row
    assert (heavy > 0.1).sum() > 20
    assert heavy.max() > 10 * light.max()
    assert 0.05 < touched(*drawn["light"]) < 0.1
    assert touched(*drawn["heavy"]) > 5 * touched(*drawn["light"])


def test_a_query_aims_at_a_document(drawn):
    documents, queries = drawn["light"]
    shared = (queries.astype(bool).astype(int) @ documents.astype(bool).astype(int).T).toarray()
    asked = np.diff(queries.indptr)
    assert np.all(shared.max(axis=1) >= np.rint(0.6 * asked) - 1)
    # By chance the best of 6,000 documents would share a few of the terms only.
    assert np.median(shared.max(axis=1) / asked) > 0.55 > 4 * shared.mean() / asked.mean()


def test_documents_are_the_same_in_any_number(monkeypatch):
    few, asked = learned_sparse(150, seed=5, queries=3)
    again, same = learned_sparse(150, seed=5, queries=3)
    many, _ = learned_sparse(synthetic._CHUNK + 10, seed=5, queries=3)
    other, _ = learned_sparse(150, seed=6, queries=3)
    assert (few != again).nnz == 0 and (asked != same).nnz == 0
    assert (few != many[:150]).nnz == 0
    assert (few != other).nnz > 0
    assert (many[:10] != many[synthetic._CHUNK :]).nnz > 0  # chunks differ


def test_dense_vectors(tmp_path):
    documents, queries = dense(3000, 64, seed=1, queries=50)
    mapped, same = dense(3000, 64, seed=1, queries=50, out=tmp_path / "d.npy")
    assert documents.shape == (3000, 64) and documents.dtype == queries.dtype == np.float32
    assert np.allclose(np.linalg.norm(documents, axis=1), 1, atol=1e-5)
    assert np.allclose(np.linalg.norm(queries, axis=1), 1, atol=1e-5)
    assert np.array_equal(documents, np.load(tmp_path / "d.npy")) and np.array_equal(queries, same)
    assert np.array_equal(dense(10, 64, seed=1)[0], documents[:10])
    cosines = np.sort(queries @ documents.T, axis=1)
    # Each asks for one document, which stands out, among others that are near in its cluster.
    assert cosines[:, -1].mean() == pytest.approx(0.8, abs=0.05)
    assert cosines[:, -2].mean() > cosines[:, -1500].mean() + 0.2


@pytest.mark.parametrize("wrong", [{"n": 0}, {"n": 3, "kind": "steep"}, {"n": 3, "queries": 0}])
def test_wrong_requests(wrong):
    with pytest.raises(LexLIPError):
        learned_sparse(**wrong)

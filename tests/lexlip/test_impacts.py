"""Normalising, pruning and quantising against per-row Python and the published bound."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_array

from lexlip import impacts
from lexlip.errors import LexLIPError

WEIGHT = st.one_of(st.just(0.0), st.floats(1e-6, 8.0))
SHAPE = st.tuples(st.integers(1, 6), st.integers(1, 12))
DENSE = SHAPE.flatmap(lambda shape: arrays(np.float64, shape, elements=WEIGHT))
PAIR = st.integers(1, 12).flatmap(
    lambda v: st.tuples(*[arrays(np.float64, (1, v), elements=WEIGHT)] * 2)
)


def sparse(n=200, v=50, seed=0, share=0.3):
    rng = np.random.default_rng(seed)
    dense = rng.exponential(size=(n, v)) * (rng.random((n, v)) < share)
    dense[::17] = 0
    return csr_array(dense)


@given(DENSE)
def test_unit_rows_or_empty_ones(dense):
    unit = impacts.unit_normalise(csr_array(dense)).toarray()
    norms = np.linalg.norm(dense, axis=1)
    expected = np.divide(dense, norms[:, None], where=norms[:, None] > 0, out=np.zeros_like(dense))
    np.testing.assert_allclose(unit, expected, rtol=1e-12)


def test_unit_normalise_keeps_float32_survives_extremes_and_leaves_its_input():
    weights = csr_array(np.array([[3, 4], [1e-38, 0]], dtype=np.float32))
    before = weights.toarray()
    unit = impacts.unit_normalise(weights)
    assert unit.dtype == np.float32
    np.testing.assert_allclose(unit.toarray(), [[0.6, 0.8], [1, 0]], rtol=1e-6)
    np.testing.assert_array_equal(weights.toarray(), before)
    huge = impacts.unit_normalise(csr_array([[1e200, 1e200], [1e-200, 0]]))
    np.testing.assert_allclose(huge.toarray(), [[0.5**0.5, 0.5**0.5], [1, 0]])


@given(DENSE, st.integers(1, 13))
def test_top_terms_against_sorting_each_row(dense, k):
    dense = np.round(dense)  # many ties
    got = impacts.top_terms(csr_array(dense), k).toarray()
    expected = np.zeros_like(dense)
    for row, weights in enumerate(dense):
        best = sorted(np.flatnonzero(weights), key=lambda term: (-weights[term], term))[:k]
        expected[row, best] = weights[best]
    np.testing.assert_array_equal(got, expected)


def test_pruned_postings_are_a_subset_and_never_score_more():
    documents = impacts.quantise(sparse(), 30.0)
    query = np.random.default_rng(1).integers(0, 65, size=50)
    for k in (1, 4, 10):
        pruned = impacts.top_terms(documents, k)
        assert pruned.dtype == documents.dtype
        kept = pruned.toarray()
        assert ((kept == documents.toarray()) | (kept == 0)).all()
        assert (np.diff(pruned.indptr) == np.minimum(np.diff(documents.indptr), k)).all()
        assert (pruned @ query <= documents @ query).all()
    widest = int(np.diff(documents.indptr).max())
    same = impacts.top_terms(documents, widest)
    np.testing.assert_array_equal(same.toarray(), documents.toarray())


def test_scale_is_fitted_to_the_largest_weight_of_a_small_collection():
    unit = impacts.unit_normalise(sparse())
    scale = impacts.fit_scale(unit)
    assert scale == pytest.approx(255 / unit.data.max())
    quantised = impacts.quantise(unit, scale)
    assert quantised.data.max() == 255
    assert impacts.quantisation_error(unit, quantised, scale)["clipped"] == 0
    assert impacts.fit_scale(csr_array((3, 5))) == 255


def test_scale_ignores_one_degenerate_picture_in_a_large_collection():
    rng = np.random.default_rng(3)
    dense = rng.uniform(0.01, 0.25, size=(400, 60))
    dense[0] = 0
    dense[0, 7] = 1.0
    unit = csr_array(dense)
    scale = impacts.fit_scale(unit)
    assert scale > 255 / 0.26
    quantised = impacts.quantise(unit, scale)
    assert quantised[0, 7] == 255
    assert 0 < impacts.quantisation_error(unit, quantised, scale)["clipped"] <= 2e-4


@given(DENSE, st.floats(1, 1000))
def test_quantise_against_python_rounding(dense, scale):
    got = impacts.quantise(csr_array(dense), scale)
    assert got.dtype == np.int32
    expected = np.zeros(dense.shape, dtype=int)
    for row, weights in enumerate(dense):
        for term, weight in enumerate(weights):
            expected[row, term] = min(round(weight * scale), 255)  # half to even, like rint
        if weights.any() and not expected[row].any():
            expected[row, int(np.argmax(weights))] = 1
    np.testing.assert_array_equal(got.toarray(), expected)
    assert (got.data > 0).all()


def test_half_goes_to_even():
    assert impacts.quantise(csr_array([[0.5, 1.5, 2.5, 3.5]]), 1).toarray().tolist() == [
        [0, 2, 2, 4]
    ]


@given(DENSE, st.floats(1, 1000))
def test_quantising_is_idempotent_and_monotone(dense, scale):
    once = impacts.quantise(csr_array(dense), scale)
    again = impacts.quantise(impacts.dequantise(once, scale), scale)
    np.testing.assert_array_equal(again.toarray(), once.toarray())
    for before, after in zip(dense, once.toarray(), strict=True):
        order = np.argsort(before, kind="stable")
        inversions = np.diff(after[order]) < 0
        # Only the rescued term of an all-but-empty row may stand above its equals.
        assert not inversions.any() or (after.sum() == 1 and after[np.argmax(before)] == 1)


def test_a_row_is_empty_after_exactly_when_it_was_before():
    weights = csr_array([[0.0, 0.0], [1e-9, 2e-9], [1e-9, 1e-9]])
    assert impacts.quantise(weights, 10).toarray().tolist() == [[0, 0], [0, 1], [1, 0]]


@settings(max_examples=200)
@given(PAIR, st.floats(5, 64), st.floats(5, 255))
def test_score_error_stays_in_the_bound(pair, a, b):
    """|q.d - q^.d^/(ab)| <= ||d_O||_1/(2a) + ||q_O||_1/(2b) + m/(4ab), O the m shared terms."""
    query, document = pair
    # The bound is for rounding alone, so the rescue of a row that rounds to nothing must not act.
    query[0, 0], document[0, 0] = max(query[0, 0], 0.2), max(document[0, 0], 0.2)
    exact = float(query[0] @ document[0])
    q = impacts.quantise(csr_array(query), a, max_impact=10**6)
    d = impacts.quantise(csr_array(document), b, max_impact=10**6)
    approximate = float(q.toarray()[0].astype(float) @ d.toarray()[0]) / (a * b)
    shared = (query[0] > 0) & (document[0] > 0)
    bound = document[0][shared].sum() / (2 * a) + query[0][shared].sum() / (2 * b)
    bound += shared.sum() / (4 * a * b)
    assert abs(exact - approximate) <= bound + 1e-9


@given(DENSE, st.integers(1, 64), st.integers(1, 13))
def test_query_weights_keep_the_contract_whatever_the_norm(dense, max_weight, max_terms):
    got = impacts.quantise_query(csr_array(dense), max_weight, max_terms)
    assert got.dtype == np.int32
    rows = got.toarray()
    assert rows.max(initial=0) <= max_weight
    assert ((rows > 0).sum(axis=1) <= max_terms).all()
    for before, after in zip(dense, rows, strict=True):
        assert after.max() == (max_weight if before.any() else 0)
        assert after[np.argmax(before)] == after.max()
    doubled = impacts.quantise_query(csr_array(dense * 8), max_weight, max_terms)
    np.testing.assert_array_equal(doubled.toarray(), rows)


def test_the_largest_score_is_exact_in_float32():
    largest = impacts.MAX_QUERY_TERMS * impacts.MAX_IMPACT * impacts.MAX_QUERY_WEIGHT
    assert largest < 2**24
    assert int(np.float32(largest)) == largest
    assert int(np.float32(largest - 1)) == largest - 1


def test_quantisation_error_on_worked_numbers():
    unit = csr_array([[0.6, 0.8, 0.0], [0.04, 0.0, 0.9], [0.0, 0.0, 0.0]])
    quantised = impacts.quantise(unit, 10.0, max_impact=7)
    assert quantised.toarray().tolist() == [[6, 7, 0], [0, 0, 7], [0, 0, 0]]
    error = impacts.quantisation_error(unit, quantised, 10.0)
    assert error["mean_abs"] == pytest.approx((0 + 0.1 + 0.04 + 0.2) / 4)
    assert error["max_abs"] == pytest.approx(0.2)
    assert error["lost"] == pytest.approx(1 / 4)
    assert error["clipped"] == pytest.approx(2 / 4)
    one = (0.36 + 0.56) / (np.hypot(0.6, 0.8) * np.hypot(0.6, 0.7))
    two = 0.63 / (np.hypot(0.04, 0.9) * 0.7)
    assert error["cosine"] == pytest.approx((one + two) / 2)
    empty = csr_array((2, 3))
    assert impacts.quantisation_error(empty, empty, 1.0)["cosine"] == 1


def test_rounding_error_is_half_a_step_at_most():
    unit = impacts.unit_normalise(sparse())
    scale = impacts.fit_scale(unit)
    error = impacts.quantisation_error(unit, impacts.quantise(unit, scale), scale)
    assert 0 < error["mean_abs"] < error["max_abs"] <= 0.5 / scale * (1 + 1e-9)
    assert error["cosine"] > 0.9999


def test_overlap_is_the_mean_number_of_shared_terms():
    queries, documents = sparse(30, seed=1), sparse(40, seed=2)
    shared = [
        len(set(np.flatnonzero(q)) & set(np.flatnonzero(d)))
        for q in queries.toarray()
        for d in documents.toarray()
    ]
    assert impacts.overlap(queries, documents) == pytest.approx(np.mean(shared))
    assert impacts.overlap(csr_array((0, 50)), documents) == 0


def test_duplicates_are_summed_and_stored_zeros_do_not_count():
    messy = csr_array(([1.0, 2.0, 0.0], [4, 4, 1], [0, 3]), shape=(1, 5))
    assert impacts.quantise(messy, 10).toarray().tolist() == [[0, 0, 0, 0, 30]]
    assert impacts.overlap(messy, csr_array([[1, 1, 1, 1, 1]])) == 1
    assert messy.nnz == 3  # the caller's matrix is left alone


@pytest.mark.parametrize(
    "call",
    [
        lambda: impacts.unit_normalise(csr_array([[-1.0]])),
        lambda: impacts.quantise(csr_array([[np.nan]]), 1),
        lambda: impacts.quantise(csr_array([[1.0]]), 0),
        lambda: impacts.top_terms(csr_array([[1.0]]), 0),
        lambda: impacts.quantise_query(csr_array([[1.0]]), max_weight=65),
        lambda: impacts.quantise_query(csr_array([[1.0]]), max_terms=1025),
        lambda: impacts.overlap(csr_array((1, 2)), csr_array((1, 3))),
        lambda: impacts.quantisation_error(csr_array((1, 2)), csr_array((1, 3)), 1.0),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(LexLIPError):
        call()

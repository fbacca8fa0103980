"""Two rows of scores become one order."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lexlip.errors import LexLIPError
from lexlip.rerank.fuse import fuse, reranked

HOWS = ("zscore", "minmax")
hows = pytest.mark.parametrize("how", HOWS)
scores = st.lists(st.tuples(st.integers(0, 30), st.integers(-8, 8)), min_size=1, max_size=12)
weights = st.floats(0, 1)


def rescaled(values, how):
    if min(values) == max(values):
        return [0.0] * len(values)
    if how == "minmax":
        return [(v - min(values)) / (max(values) - min(values)) for v in values]
    mean, deviation = statistics.fmean(values), statistics.pstdev(values)
    return [(v - mean) / deviation for v in values]


@given(scores, weights, st.sampled_from(HOWS))
def test_a_weighted_sum_of_rescaled_scores(rows, weight, how):
    lexical, dense = zip(*rows, strict=True)
    wanted = [
        (1 - weight) * a + weight * b
        for a, b in zip(rescaled(lexical, how), rescaled(dense, how), strict=True)
    ]
    assert fuse(lexical, dense, weight, how).tolist() == pytest.approx(wanted, abs=1e-12)


@given(scores, st.integers(0, 5), weights, st.sampled_from(HOWS))
def test_the_order_of_hits(rows, more, weight, how):
    lexical, dense = zip(*sorted(rows, reverse=True), strict=True)
    hits = [*lexical, *range(-1, -1 - more, -1)]
    order = reranked(hits, dense, weight, how).tolist()
    fused = fuse(lexical, dense, weight, how)
    wanted = sorted(range(len(dense)), key=lambda i: (-fused[i], i))
    assert order == [*wanted, *range(len(dense), len(hits))]


@given(scores, st.floats(0.1, 100), st.floats(-50, 50))
def test_the_scale_of_a_stage_does_not_matter(rows, factor, shift):
    lexical, dense = (np.array(side, float) for side in zip(*rows, strict=True))
    for how in HOWS:
        moved = fuse(factor * lexical + shift, dense, 0.3, how)
        np.testing.assert_allclose(moved, fuse(lexical, dense, 0.3, how), atol=1e-9)


@hows
def test_all_weight_on_one_stage(how):
    rng = np.random.default_rng(0)
    lexical, dense = np.sort(rng.integers(0, 9, 30))[::-1], rng.normal(size=20)
    assert reranked(lexical, dense, 0, how).tolist() == list(range(30))
    assert reranked(lexical, dense, 1, how)[:20].tolist() == np.argsort(-dense).tolist()


@hows
@pytest.mark.parametrize("value", [0.0, 0.1, -1.0, 1e9])
def test_equal_scores_decide_nothing(how, value):
    lexical, dense = [5, 4, 3], [value] * 3
    assert fuse(lexical, dense, 1, how).tolist() == [0, 0, 0]
    assert reranked(lexical, dense, 0.9, how).tolist() == [0, 1, 2]
    assert reranked([7, 7, 7], [0.1, 0.3, 0.2], 0.1, how).tolist() == [1, 2, 0]
    assert np.isfinite(fuse([1e-200, 2e-200, 0], [1, 2, 3], 0.5, how)).all()


@hows
def test_nothing_and_one(how):
    assert fuse([], [], 0.5, how).shape == (0,)
    assert reranked([], [], 0.5, how).tolist() == []
    assert reranked([3, 2], [], 0.5, how).tolist() == [0, 1]
    assert reranked([3, 2], [0.4], 0.5, how).tolist() == [0, 1]


def test_what_cannot_be_fused_is_refused():
    with pytest.raises(LexLIPError, match="share from 0 to 1"):
        fuse([1, 2], [1, 2], 1.5)
    with pytest.raises(LexLIPError, match="zscore or minmax"):
        fuse([1, 2], [1, 2], 0.5, "rank")
    for lexical, dense in (([1], [1, 2]), ([1, np.nan], [1, 2]), ([[1, 2]], [[1, 2]])):
        with pytest.raises(ValueError):
            fuse(lexical, dense, 0.5)
    with pytest.raises(ValueError, match="3 dense scores for 2 hits"):
        reranked([2, 1], [1, 2, 3], 0.5)

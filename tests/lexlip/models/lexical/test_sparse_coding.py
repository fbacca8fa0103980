"""Sparse codes: the support against a solver of its own, the weights against least squares."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from lexlip.models.lexical.sparse_coding import lasso, refit


def problem(seed, atoms=12, width=6, rows=3):
    rng = np.random.default_rng(seed)
    words = rng.standard_normal((atoms, width))
    words /= np.linalg.norm(words, axis=1, keepdims=True)
    targets = rng.standard_normal((rows, width))
    return words, targets / np.linalg.norm(targets, axis=1, keepdims=True)


@pytest.mark.parametrize("seed", range(3))
def test_sparse_coding_is_what_a_solver_finds(seed):
    words, targets = problem(seed)
    penalties = np.random.default_rng(seed + 9).uniform(0.02, 0.3, (3, 12))
    found = lasso(targets, words, penalties, steps=2000)
    for target, costs, mine in zip(targets, penalties, found, strict=True):

        def cost(w, target=target, costs=costs):
            return 0.5 * np.square(target - w @ words).sum() + costs @ w

        best = minimize(cost, np.full(len(words), 0.1), bounds=[(0, None)] * len(words), tol=1e-12)
        assert cost(mine) == pytest.approx(best.fun, abs=1e-6)
        assert mine == pytest.approx(best.x, abs=1e-3)
    assert found.min() == 0 and (found > 0).sum(1).max() <= 6


def test_a_higher_penalty_leaves_fewer_words():
    words, targets = problem(5, atoms=60)
    counts = [(lasso(targets, words, np.full((3, 60), p), 500) > 1e-9).sum() for p in (0.01, 0.1)]
    assert counts[0] > counts[1] > 0


@pytest.mark.parametrize("terms", [2, 4, 12])
def test_least_squares_never_raises_what_is_left_over(terms):
    words, targets = problem(7, rows=20)
    start = lasso(targets, words, np.full((20, 12), 0.05))
    order = np.argsort(-start, axis=1)
    cut = start.copy()
    np.put_along_axis(cut, order[:, terms:], 0, 1)
    fitted = refit(targets, words, start, terms)
    before, after = (np.square(targets - w @ words).sum(1) for w in (cut, fitted))
    assert (after <= before + 1e-6).all() and (after < before - 1e-4).any()
    assert (fitted >= 0).all() and ((fitted > 0).sum(1) <= terms).all()
    assert not ((fitted > 0) & (start == 0)).any()


def test_what_is_left_over_is_orthogonal_to_every_word_kept():
    words, targets = problem(11, rows=20)
    fitted = refit(targets, words, lasso(targets, words, np.full((20, 12), 0.05)), 4)
    rest = (targets - fitted @ words) @ words.T
    assert (fitted > 0).any(1).all()
    assert np.abs(rest[fitted > 0]).max() < 5e-4  # the ridge


def test_a_word_that_would_be_subtracted_is_dropped():
    words = np.array([[1.0, 0.0], [0.8, 0.6]])
    fitted = refit(np.array([[1.0, -0.5]]), words, np.array([[0.9, 0.1]]), 2)
    assert fitted[0, 1] == 0 and fitted[0, 0] == pytest.approx(1, abs=1e-3)


def test_nothing_has_no_words():
    words, _ = problem(1)
    nothing = np.zeros((2, 6))
    start = lasso(nothing, words, np.full((2, 12), 0.1))
    assert not refit(nothing, words, start, 5).any()

"""Embeddings to words: sparse coding against a solver of its own, the trained head by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from lexlip.models.lexical_head import LexicalHead, sparse_code


def problem(seed, atoms=12, width=6):
    rng = np.random.default_rng(seed)
    words = rng.standard_normal((atoms, width))
    words /= np.linalg.norm(words, axis=1, keepdims=True)
    targets = rng.standard_normal((3, width))
    return words, targets / np.linalg.norm(targets, axis=1, keepdims=True)


@pytest.mark.parametrize("seed", range(3))
def test_sparse_coding_is_what_a_solver_finds(seed):
    words, targets = problem(seed)
    found = sparse_code(torch.tensor(targets), torch.tensor(words), penalty=0.1, steps=2000).numpy()
    for target, mine in zip(targets, found, strict=True):

        def cost(w, target=target):
            return 0.5 * np.square(target - w @ words).sum() + 0.1 * w.sum()

        best = minimize(cost, np.full(len(words), 0.1), bounds=[(0, None)] * len(words), tol=1e-12)
        assert cost(mine) == pytest.approx(best.fun, abs=1e-6)
        assert mine == pytest.approx(best.x, abs=1e-3)
    assert found.min() == 0 and (found > 0).sum(1).max() <= 6


def test_a_higher_penalty_leaves_fewer_words():
    words, targets = map(torch.tensor, problem(5, atoms=60))
    counts = [(sparse_code(targets, words, p, 500) > 1e-9).sum().item() for p in (0.01, 0.1, 0.5)]
    assert counts[0] > counts[1] > counts[2]


def test_each_kind_is_centred_on_its_own_mean():
    torch.manual_seed(0)
    head = LexicalHead(5, 4)
    vectors = torch.randn(8, 4) + 3
    unit = vectors / vectors.norm(dim=1, keepdim=True)
    head.image_mean.copy_(unit.mean(0))
    centred = unit - unit.mean(0)
    centred = centred / centred.norm(dim=1, keepdim=True)
    by_hand = torch.log1p(torch.relu(centred @ head.words.T + head.bias))
    assert torch.allclose(head(vectors, "image"), by_hand, atol=1e-6)
    # Not the length of an embedding, but its kind, matters.
    assert torch.allclose(head(7 * vectors, "image"), by_hand, atol=1e-6)
    assert not torch.allclose(head(vectors, "text"), by_hand, atol=1e-2)

"""Views of made-up documents, and what a store must say of them."""

from __future__ import annotations

import numpy as np
import pytest

from lexlip.storage.views import Views

d, D = 8, 6


def unit(array):
    return (array / np.linalg.norm(array, axis=-1, keepdims=True)).astype(np.float32)


def some(rng, n, positions=5, width=d, size=D):
    """Views of n documents, some of them without tokens."""
    counts = rng.integers(0, positions + 1, n).astype(np.int32)
    tokens = unit(rng.standard_normal((n, positions, width)))
    tokens[np.arange(positions) >= counts[:, None]] = 0
    spread = rng.normal(-6, 1, (n, size)).astype(np.float32)
    return Views(tokens, counts, unit(rng.standard_normal((n, size))), spread)


def assert_reads(store, wanted, asked):
    """Compare with {id: views of one document}; float16 is exact but for its rounding."""
    found, gathered, held = store.read(asked), store.gather(asked), store.held(asked)
    spread = store.gaussians(asked)
    mean, log_variance, total = spread.mean, spread.log_variance, spread.total_variance
    assert held.tolist() == [name in wanted for name in asked]
    assert np.array_equal(held, gathered.held) and np.array_equal(held, spread.held)
    assert np.array_equal(found.counts, gathered.counts) and found.counts.dtype == np.int32
    assert gathered.codes.shape == found.tokens.shape and gathered.codes.dtype == np.int8
    assert np.array_equal(mean, found.mean) and np.array_equal(log_variance, found.log_variance)
    rebuilt = gathered.codes * gathered.scales[..., None]
    for i, name in enumerate(asked):
        exact = wanted.get(name)
        count = 0 if exact is None else int(exact.counts[0])
        assert found.counts[i] == count and not found.tokens[i, count:].any()
        if exact is None:
            assert not found.mean[i].any() and not log_variance[i].any() and total[i] == 0
            continue
        halves = [a.astype(np.float16).astype(np.float32) for a in (exact.mean, exact.log_variance)]
        assert np.array_equal(found.mean[i], halves[0][0])
        assert np.array_equal(log_variance[i], halves[1][0])
        variances = np.exp(exact.log_variance[0].astype(np.float64))
        assert total[i] == pytest.approx(variances.sum(), rel=1e-6)
        tokens = exact.tokens[0, :count]
        if store.codec == "float16":
            assert np.array_equal(found.tokens[i, :count], tokens.astype(np.float16))
        scales = gathered.scales[i, :count, None]
        assert (np.abs(found.tokens[i, :count] - tokens) <= 0.51 * scales + 1e-6).all()
        assert (np.abs(rebuilt[i, :count] - tokens) <= 0.52 * scales + 1e-6).all()


def views_of(views):
    return views.mean, views.log_variance

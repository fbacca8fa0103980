"""Tiled pooling against the dense [B, L, V] computation that it avoids."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from lexlip.models.pooling import NEVER, _tiles, log_saturate, max_pool_logits


def dense(hidden, weight, mask=None):
    """The textbook: all logits at once, hidden positions at minus infinity."""
    logits = hidden @ weight.T
    if mask is not None:
        logits = logits.masked_fill(~mask[..., None], -torch.inf)
    pooled = logits.amax(dim=1)
    return torch.where(pooled.isneginf(), torch.full_like(pooled, NEVER), pooled)


def case(seed, batch=5, length=7, width=6, vocabulary=33):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(batch, length, width, generator=generator)
    weight = torch.randn(vocabulary, width, generator=generator)
    mask = torch.rand(batch, length, generator=generator) < 0.6
    mask[0], mask[1] = True, False  # everything counts; nothing does
    upstream = torch.randn(batch, vocabulary, generator=generator)
    return hidden, weight, mask, upstream


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=20))
def test_maximum_relu_and_log1p_commute(values):
    logits = torch.tensor(values)
    assert torch.equal(log_saturate(logits).max(), log_saturate(logits.max()))
    by_hand = torch.tensor([math.log1p(max(0.0, value)) for value in values])
    torch.testing.assert_close(log_saturate(logits), by_hand, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("tile", [1, 7 * 33, 2 * 7 * 33 + 5, 2**21])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("vocabulary", [33, 2048 + 17])
def test_values_and_gradients_are_those_of_the_dense_computation(tile, masked, vocabulary):
    hidden, weight, mask, upstream = case(3, vocabulary=vocabulary)
    mask = mask if masked else None
    tiled = [t.clone().requires_grad_() for t in (hidden, weight)]
    pooled, winner = max_pool_logits(*tiled, mask, tile)
    (pooled * upstream).sum().backward()

    exact = [t.double().requires_grad_() for t in (hidden, weight)]
    wanted = dense(*exact, mask)
    (wanted * upstream).sum().backward()

    torch.testing.assert_close(pooled.double(), wanted, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(tiled, exact, strict=True):
        torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=1e-4, atol=1e-4)
    rows = slice(None) if mask is None else mask.any(1)
    logits = hidden @ weight.T
    best = logits.gather(1, winner.long()[:, None].clamp(min=0))[:, 0]
    torch.testing.assert_close(best[rows], pooled[rows], rtol=1e-5, atol=1e-5)
    if masked:
        assert mask.gather(1, winner.long().clamp(min=0))[rows].all()


def test_an_item_without_a_position_has_no_word_and_no_gradient():
    hidden, weight, mask, _ = case(5)
    hidden.requires_grad_()
    pooled, winner = max_pool_logits(hidden, weight, mask)
    assert (winner[1] == -1).all() and (winner[mask.any(1)] >= 0).all()
    assert (pooled[1] == NEVER).all()
    assert (log_saturate(pooled)[1] == 0).all()
    torch.softmax(pooled, dim=-1).square().sum().backward()
    assert hidden.grad.isfinite().all()
    assert (hidden.grad[~mask] == 0).all()
    assert (hidden.grad[0] != 0).any()


def test_a_loud_masked_position_is_not_heard():
    hidden, weight, mask, _ = case(7)
    loud = torch.where(mask[..., None], hidden, 50 * hidden)
    assert torch.equal(
        max_pool_logits(hidden, weight, mask)[0], max_pool_logits(loud, weight, mask)[0]
    )


@given(st.integers(0, 9), st.integers(1, 40), st.integers(1, 5000), st.integers(1, 400_000))
def test_tiles_cover_everything_once_and_stay_small(batch, length, vocabulary, tile):
    seen = torch.zeros(batch, vocabulary, dtype=torch.int32)
    for rows, words in _tiles(torch.Size((batch, length, 4)), vocabulary, tile):
        block = seen[rows, words]
        assert block.shape[0] == 1 or block.numel() * length <= tile
        assert block.shape[1] <= 2048
        seen[rows, words] += 1
    assert (seen == 1).all()


class Largest(TorchDispatchMode):
    """Remember the size of the largest tensor that any kernel made, backward passes included."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, torch.Tensor):
                self.numel = max(self.numel, value.numel())
        return result


@pytest.mark.parametrize(("tile", "whole"), [(2**15, False), (2**30, True)])
def test_no_tensor_as_large_as_all_logits_is_made(tile, whole):
    batch, length, vocabulary = 16, 50, 2000
    hidden, weight, mask, upstream = case(11, batch, length, vocabulary=vocabulary)
    with Largest() as largest:
        pooled, _ = max_pool_logits(hidden.requires_grad_(), weight.requires_grad_(), mask, tile)
        (pooled * upstream).sum().backward()
    assert weight.grad is not None
    # One item's logits are the least that a tile holds.
    limit = max(tile, length * vocabulary)
    assert largest.numel == batch * length * vocabulary if whole else largest.numel <= limit

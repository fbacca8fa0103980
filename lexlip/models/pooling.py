"""Max-pooled vocabulary logits without ever holding [batch, positions, vocabulary].

LexLIP (ICCV 2023, section 3.1) turns the hidden states H of a text or a picture into one weight
per vocabulary word, w_j = log(1 + max_i relu(S_ij)) with S = H W^T + b. Maximum, relu and log1p
are monotone and commute, so the maximum comes first and the rest runs on V numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

NEVER = -1e4
"""Logit of a position or a word that takes no part: finite, so that no softmax becomes NaN."""

TILE = 2**21
"""Logits held at a time: 4 MiB in bf16, so that a tile is made and reduced inside the cache."""


def compute_dtype(tensor: Tensor) -> torch.dtype:
    """Dtype in which autocast would multiply `tensor`, or its own."""
    kind = tensor.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else tensor.dtype


class _MaxPooledLogits(torch.autograd.Function):
    """max_i (H W^T)_ij over unmasked i, tile by tile, with its exact gradient.

    The gradient of a maximum reaches one position per word, so the arg-max (B x V integers) is
    all that is kept for the backward pass; logits are neither stored nor computed again.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, mask: Tensor | None, tile: int
    ) -> tuple[Tensor, Tensor]:
        dtype = compute_dtype(hidden)
        h, w = hidden.to(dtype).contiguous(), weight.to(dtype)
        pooled = h.new_empty(len(h), len(w), dtype=torch.float32)
        winner = torch.empty(len(h), len(w), dtype=torch.int16, device=h.device)
        penalty = None if mask is None else (~mask).to(dtype).mul(NEVER).unsqueeze(-1)
        for rows, words in _tiles(h.shape, len(w), tile):
            logits = h[rows] @ w[words].T
            if penalty is not None:
                logits += penalty[rows]
            best = logits.max(dim=1)
            pooled[rows, words] = best.values
            winner[rows, words] = best.indices
        if mask is not None:
            empty = ~mask.any(dim=1, keepdim=True)
            pooled.masked_fill_(empty, NEVER)
            winner.masked_fill_(empty, -1)  # a constant: no position gets its gradient
        ctx.save_for_backward(h, w, winner)
        ctx.tile, ctx.dtypes = tile, (hidden.dtype, weight.dtype)
        ctx.mark_non_differentiable(winner)
        return pooled, winner

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:  # type: ignore[override]
        h, w, winner = ctx.saved_tensors
        grad = grads[0].to(h.dtype)
        grad_hidden = torch.zeros(h.shape, dtype=torch.float32, device=h.device)
        grad_weight = torch.zeros(w.shape, dtype=torch.float32, device=h.device)
        places = torch.arange(h.shape[1], dtype=torch.int16, device=h.device)[:, None]
        for rows, words in _tiles(h.shape, len(w), ctx.tile):
            # Each word's gradient, put back at the position that won: [b, L, v].
            won = winner[rows, None, words] == places
            spread = torch.where(won, grad[rows, None, words], 0)
            grad_hidden[rows] += spread @ w[words]
            flat = spread.flatten(0, 1)
            grad_weight[words] += flat.T @ h[rows].flatten(0, 1)
        hidden_dtype, weight_dtype = ctx.dtypes
        return grad_hidden.to(hidden_dtype), grad_weight.to(weight_dtype), None, None


def _tiles(shape: torch.Size, vocabulary: int, tile: int) -> Iterator[tuple[slice, slice]]:
    """Blocks of items and words whose logits number at most `tile`."""
    batch, positions, _ = shape
    words = min(vocabulary, 2048)
    items = max(1, tile // max(1, positions * words))
    for row in range(0, batch, items):
        for word in range(0, vocabulary, words):
            yield slice(row, row + items), slice(word, word + words)


def max_pool_logits(
    hidden: Tensor, weight: Tensor, mask: Tensor | None = None, tile: int = TILE
) -> tuple[Tensor, Tensor]:
    """Best logit of every word over the positions of each item, and where it was found.

    Parameters
    ----------
    hidden : Tensor [B, L, D]
        Hidden states after the head's transform.
    weight : Tensor [V, D]
        One row per word.
    mask : bool Tensor [B, L], optional
        True at the positions that take part.
    tile : int
        Logits held at a time, so that memory does not grow with B x L x V.

    Returns
    -------
    pooled : float32 Tensor [B, V]
        `NEVER` where an item has no position at all.
    winner : int16 Tensor [B, V]
        Position that won the maximum: the provenance of each word. -1 where there is none.

    Examples
    --------
    >>> h = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
    >>> pooled, winner = max_pool_logits(h, torch.eye(2))
    >>> pooled.tolist(), winner.tolist()
    ([[1.0, 2.0]], [[0, 1]])
    """
    return _MaxPooledLogits.apply(hidden, weight, mask, tile)  # type: ignore[no-untyped-call]


def log_saturate(pooled: Tensor) -> Tensor:
    """w = log(1 + relu(s)): the saturation that keeps one loud word from drowning the others.

    Examples
    --------
    >>> log_saturate(torch.tensor([-3.0, 0.0, 1.0])).tolist()
    [0.0, 0.0, 0.6931471824645996]
    """
    return torch.log1p(torch.relu(pooled))

"""Two batches of items against each other, a tile of pairs at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from lexlip.models.pooling import NEVER

TILE = 2**21
"""Numbers held at a time: 8 MiB of float32, made and reduced inside the cache."""


def pairwise(
    function: Callable[..., Tensor], left: Sequence[Tensor], right: Sequence[Tensor], size: int
) -> Tensor:
    """Compare all items of two batches without holding what one pair needs for all pairs at once.

    Parameters
    ----------
    function : callable
        Takes some rows of every tensor of `left`, then some of `right`; returns [..., i, j].
    left, right : sequences of Tensor
        Tensors whose first dimension counts the Bi, or Bt, items.
    size : int
        Numbers that `function` holds for one pair.

    Returns
    -------
    Tensor [..., Bi, Bt]
        Gradients flow; what they need is kept for all pairs.

    Examples
    --------
    >>> a, b = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([10.0, 20.0])
    >>> pairwise(lambda a, b: a[:, None] * b, [a], [b], TILE).tolist()
    [[10.0, 20.0], [20.0, 40.0], [30.0, 60.0]]
    """
    rows = max(1, min(len(left[0]), TILE // max(1, size)))
    columns = max(1, TILE // (rows * max(1, size)))
    bands = []
    for i in range(0, max(1, len(left[0])), rows):
        band = [t[i : i + rows] for t in left]
        tiles = [
            function(*band, *(t[j : j + columns] for t in right))
            for j in range(0, max(1, len(right[0])), columns)
        ]
        bands.append(torch.cat(tiles, -1))
    return torch.cat(bands, -2)


def tokens_of(tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return tokens [B, P, d], zero where the mask [B, P] is False, and the mask; P is at least 1.

    So padding, even NaN, changes no score and gets no gradient.
    """
    mask = mask.bool()
    if not tokens.shape[1]:  # a maximum over nothing is an error
        tokens, mask = pad(tokens, (0, 0, 0, 1)), pad(mask, (0, 1))
    return tokens.masked_fill(~mask.unsqueeze(-1), 0), mask


def penalty(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Zero where the mask is True, elsewhere so low that no maximum and no softmax sees it."""
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, NEVER)


def widened(tensor: Tensor) -> Tensor:
    """Half precision becomes float32, so that a sum does not lose digits; others are unchanged."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def mean_of(values: Tensor, mask: Tensor, dim: int) -> Tensor:
    """Mean over the places of `dim` where the mask (broadcast) is True; 0 where there is none."""
    mask = mask.expand(values.shape)
    return torch.where(mask, widened(values), 0).sum(dim) / mask.sum(dim).clamp(min=1)


def both(left: Tensor, right: Tensor) -> Tensor:
    """Pairs in which each side has a token: masks [i, P], [j, m] to bool [i, j]."""
    return left.any(1).unsqueeze(1) & right.any(1)

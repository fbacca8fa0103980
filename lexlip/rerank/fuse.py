"""First and second stage together: the scores of the best candidates, on one scale."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lexlip.errors import LexLIPError

How = Literal["zscore", "minmax"]


def _rescaled(scores: ArrayLike, how: str) -> NDArray[np.float64]:
    """Scores on a common scale; zeros where all are equal."""
    numbers = np.asarray(scores, dtype=np.float64)
    if numbers.ndim != 1 or not np.isfinite(numbers).all():
        raise ValueError("scores must be one row of finite numbers")
    if how not in ("zscore", "minmax"):
        raise LexLIPError(f"how is {how!r}: use zscore or minmax")
    if not numbers.size or np.ptp(numbers) == 0:
        return np.zeros_like(numbers)
    unit = (numbers - numbers.min()) / np.ptp(numbers)
    return unit if how == "minmax" else (unit - unit.mean()) / unit.std()


def fuse(
    lexical: ArrayLike, dense: ArrayLike, weight: float, how: How = "zscore"
) -> NDArray[np.float64]:
    """Weighted sum of two rows of scores, each rescaled over the candidates of one query.

    Parameters
    ----------
    lexical, dense : arrays [K]
        Scores of the first and the second stage for the same candidates; larger is better.
    weight : float
        Share of the second stage, 0..1: ``(1 - weight) * lexical + weight * dense``.
    how : "zscore" or "minmax"
        Rescale to mean 0 and deviation 1, or to 0..1. Scores that are all equal become 0.

    Returns
    -------
    float64 [K]

    Raises
    ------
    LexLIPError
        When the weight is not in 0..1, or `how` is something else.

    Examples
    --------
    >>> fuse([10, 20, 30], [0.9, 0.5, 0.5], 0.5, "minmax").tolist()
    [0.5, 0.25, 0.5]
    """
    if not 0 <= weight <= 1:
        raise LexLIPError(f"the weight is {weight}: give the second stage a share from 0 to 1")
    first, second = _rescaled(lexical, how), _rescaled(dense, how)
    if len(first) != len(second):
        raise ValueError(f"{len(first)} lexical scores, {len(second)} dense ones")
    return (1 - weight) * first + weight * second


def reranked(
    lexical: ArrayLike, dense: ArrayLike, weight: float, how: How = "zscore"
) -> NDArray[np.int64]:
    """Order in which N hits stand after their best K were scored again.

    Parameters
    ----------
    lexical : array [N]
        Scores of the first stage, best first.
    dense : array [K], K <= N
        Scores of the second stage for the first K hits.
    weight, how
        As in `fuse`.

    Returns
    -------
    int64 [N]
        Old places in the new order. The K come first, by fused score; equal ones and those beyond
        K keep the order of the first stage.

    Examples
    --------
    >>> reranked([40, 30, 20, 10], [0.1, 0.9, 0.1], 1.0).tolist()
    [1, 0, 2, 3]
    """
    count, total = np.size(dense), np.size(lexical)
    if count > total:
        raise ValueError(f"{count} dense scores for {total} hits")
    fused = fuse(np.asarray(lexical)[:count], dense, weight, how)
    return np.concatenate([np.argsort(-fused, kind="stable"), np.arange(count, total)])

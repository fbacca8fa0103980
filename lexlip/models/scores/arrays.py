"""Scores of one query and K candidates, numpy in and numpy out, through the torch formulas."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from lexlip.models.scores import gaussian
from lexlip.models.scores.late import late_interaction
from lexlip.models.scores.naaf import naaf, scan
from lexlip.storage.views import Views

Floats = NDArray[np.float32]


def late(candidates: Views, words: Floats) -> tuple[Floats, Floats]:
    """Late interaction with the words [1, m, d] of a query: image to text, text to image, [K]."""
    there = torch.ones(words.shape[:2], dtype=torch.bool)
    both = late_interaction(*_tokens(candidates), torch.from_numpy(words), there)
    i2t, t2i = (scores[:, 0].numpy() for scores in both)
    return i2t, t2i


def attention(query: Views, candidates: Views, threshold: float | None) -> Floats:
    """NAAF with the threshold that its training measured, SCAN without one, float32 [K]."""
    width = max(1, int(query.counts[0]))
    words, there = (each[:, :width] for each in _tokens(query))
    patches, here = _tokens(candidates)
    if threshold is None:
        return scan(patches, here, words, there)[:, 0].numpy()
    return naaf(patches, here, words, there, threshold, propagate=True)[:, 0].numpy()


def likeness(
    name: str,
    mean: NDArray[np.float16],
    log_variance: NDArray[np.float16],
    query: Views,
    curve: tuple[float, float] | None = None,
) -> Floats:
    """Likeness of K Gaussians [K, D] and a query's, float32 [K]; higher for nearer ones.

    Parameters
    ----------
    name : str
        One of `lexlip.rerank.rerankers.LIKENESSES`.
    mean, log_variance : float16 [K, D]
    query : Views
        Of one text or picture.
    curve : (float, float), optional
        Scale and shift of a match, for "mc".
    """
    other_mean, other_variance = map(torch.from_numpy, (query.mean, query.log_variance))
    given = (torch.from_numpy(mean).float(), torch.from_numpy(log_variance).float())
    if name == "mu":
        return (given[0] @ other_mean.T)[:, 0].numpy()
    if name == "mc":
        assert curve is not None
        scores = gaussian.match_probability(*given, other_mean, other_variance, *curve)
        return scores[:, 0].numpy()
    if name == "elk":
        return gaussian.log_elk(*given, other_mean, other_variance)[:, 0].numpy()
    distance = _DISTANCES[name](*given, other_mean, other_variance)
    return -distance[:, 0].numpy()


_DISTANCES = {
    "w2": gaussian.squared_wasserstein,
    "bhattacharyya": gaussian.bhattacharyya,
    "jeffreys": gaussian.jeffreys,
    "hellinger": gaussian.squared_hellinger,
}


def _tokens(views: Views) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(views.tokens), torch.from_numpy(views.mask)

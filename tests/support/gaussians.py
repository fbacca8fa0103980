"""Gaussians to compare, and one number of one pair."""

from __future__ import annotations

import torch

from lexlip.models.scores.gaussian import Gaussians


def gaussians(means, deviations):
    """One Gaussian: float64 [1, d]."""
    rows = torch.tensor([means, deviations], dtype=torch.float64)
    return Gaussians(rows[:1], 2 * rows[1:].log())


def of(function, p, q, *others):
    """What a function of pairs says of one Gaussian and another."""
    found = function(*p, *q, *others)
    assert found.shape == (1, 1)
    return found.item()

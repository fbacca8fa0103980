"""Pictures and texts as Gaussians: distances, overlaps and set algebra (PCME, PCME++).

Chun et al., CVPR 2021, and Chun, ICLR 2024. Every item is a normal distribution in D independent
directions, given as a mean and the natural logarithm of the variance (not of the standard
deviation). In the formulas v is the variance and d the difference of two means.

Functions of two batches compare all pairs: means and log variances [Bi, D], then those of the
others [Bt, D], to [Bi, Bt]; they are differentiable. Variances stay logarithms wherever they are
compared or multiplied: in float32 they may lie anywhere from e**-80 to e**80, whatever D.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from lexlip.models.scores.pairs import pairwise, widened

_LOG_2PI = math.log(2 * math.pi)


class Gaussians(NamedTuple):
    """N diagonal Gaussians.

    Examples
    --------
    >>> here = Gaussians(torch.zeros(1, 2), torch.zeros(1, 2))
    >>> there = Gaussians(torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2))
    >>> csd(*here, *there).item(), squared_wasserstein(*here, *there).item()
    (29.0, 25.0)
    """

    mean: Tensor
    """[N, D]"""

    log_variance: Tensor
    """[N, D], natural logarithm."""


def _sum_over_directions(
    summand: Callable[[Tensor, Tensor, Tensor], Tensor], *both: Tensor
) -> Tensor:
    """Sum a function of (difference of means, log variance, log variance) over D, for all pairs."""

    def tile(m1: Tensor, l1: Tensor, m2: Tensor, l2: Tensor) -> Tensor:
        return summand(m1[:, None] - m2, l1[:, None], l2).sum(-1)

    m1, l1, m2, l2 = map(widened, both)
    return pairwise(tile, [m1, l1], [m2, l2], m1.shape[1])


def _squared_distance(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances of all rows, from differences: no digits are lost between equal rows."""
    mode = "donot_use_mm_for_euclid_dist"
    return torch.cdist(widened(a), widened(b), compute_mode=mode).square()


def _excess(d: Tensor, log_variance: Tensor) -> Tensor:
    """d**2 / v."""
    return d.square() * torch.exp(-log_variance)


def _log_normal(d: Tensor, log_variance: Tensor) -> Tensor:
    """Log density of a normal distribution."""
    return -(_excess(d, log_variance) + log_variance + _LOG_2PI) / 2


def csd(
    mean: Tensor, log_variance: Tensor, other_mean: Tensor, other_log_variance: Tensor
) -> Tensor:
    """Closed-form sampled distance: the mean squared distance of a sample each, sum(d^2 + v1 + v2).

    PCME++ is trained with it.
    """
    v1, v2 = (widened(log).exp().sum(-1) for log in (log_variance, other_log_variance))
    return _squared_distance(mean, other_mean) + v1[:, None] + v2


def squared_wasserstein(
    mean: Tensor, log_variance: Tensor, other_mean: Tensor, other_log_variance: Tensor
) -> Tensor:
    """Squared 2-Wasserstein distance: sum(d^2 + (sqrt v1 - sqrt v2)^2)."""
    pairs = ((mean, log_variance), (other_mean, other_log_variance))
    return _squared_distance(*(torch.cat([m, torch.exp(widened(v) / 2)], 1) for m, v in pairs))


def log_elk(
    mean: Tensor, log_variance: Tensor, other_mean: Tensor, other_log_variance: Tensor
) -> Tensor:
    """Log of the expected likelihood kernel, the integral of the product of both densities.

    The constant -D/2 log(2 pi) is part of it. The more alike, the larger.
    """

    def summand(d: Tensor, l1: Tensor, l2: Tensor) -> Tensor:
        return _log_normal(d, torch.logaddexp(l1, l2))

    return _sum_over_directions(summand, mean, log_variance, other_mean, other_log_variance)


def kl(
    mean: Tensor, log_variance: Tensor, other_mean: Tensor, other_log_variance: Tensor
) -> Tensor:
    """Kullback-Leibler divergence from the others: 1/2 sum((v1 + d^2) / v2 - 1 - log(v1 / v2)).

    In nats. It expects samples of the first; it is not symmetric.
    """

    def summand(d: Tensor, l1: Tensor, l2: Tensor) -> Tensor:
        ratio = l1 - l2
        return (torch.expm1(ratio) - ratio + _excess(d, l2)) / 2

    return _sum_over_directions(summand, mean, log_variance, other_mean, other_log_variance)


def jeffreys(
    mean: Tensor, log_variance: Tensor, other_mean: Tensor, other_log_variance: Tensor
) -> Tensor:
    """Jeffreys divergence, `kl` in both directions, in nats; not that of Jensen and Shannon."""

    def summand(d: Tensor, l1: Tensor, l2: Tensor) -> Tensor:
        ratio = 4 * torch.sinh((l1 - l2) / 2).square()  # exp(x) + exp(-x) - 2
        return (ratio + _excess(d, l1) + _excess(d, l2)) / 2

    return _sum_over_directions(summand, mean, log_variance, other_mean, other_log_variance)


def bhattacharyya(
    mean: Tensor, log_variance: Tensor, other_mean: Tensor, other_log_variance: Tensor
) -> Tensor:
    """Bhattacharyya distance: sum(d^2 / (v1 + v2) / 4 + log((v1 + v2) / (2 sqrt(v1 v2))) / 2)."""

    def summand(d: Tensor, l1: Tensor, l2: Tensor) -> Tensor:
        # The fraction in the logarithm is cosh(x), x half of l1 - l2, or 1 + 2 sinh(x / 2)**2.
        ratio = torch.log1p(2 * torch.sinh((l1 - l2) / 4).square())
        return _excess(d, torch.logaddexp(l1, l2)) / 4 + ratio / 2

    return _sum_over_directions(summand, mean, log_variance, other_mean, other_log_variance)


def squared_hellinger(
    mean: Tensor, log_variance: Tensor, other_mean: Tensor, other_log_variance: Tensor
) -> Tensor:
    """Squared Hellinger distance, 0..1: 1 - exp(-`bhattacharyya`)."""
    return -torch.expm1(-bhattacharyya(mean, log_variance, other_mean, other_log_variance))


def draw(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """Draw J points of each item, [N, J, D]: ``mean + exp(log_variance / 2) * noise``.

    All items share the noise [J, D], so that an item's points do not depend on its neighbours.
    """
    mean, log_variance = widened(mean), widened(log_variance)
    return mean[:, None] + torch.exp(log_variance / 2)[:, None] * noise


def sample_match_probability(
    samples: Tensor, other_samples: Tensor, scale: float | Tensor = 5.0, shift: float | Tensor = 5.0
) -> Tensor:
    """Probability of a match between points [Bi, J, D] and [Bt, J', D], as [Bi, Bt].

    The mean over all J * J' distances r of ``sigmoid(-scale * r + shift)``, with
    ``r = sqrt(squared distance + 1e-6)``. The authors' program takes
    sigmoid(2 * (...)) instead: its scale and shift count twice here.
    """

    def tile(left: Tensor, right: Tensor) -> Tensor:
        # By products: many points, and the 1e-6 hides what is lost between equal ones.
        a, b = left.flatten(0, 1), right.flatten(0, 1)
        squares = a.square().sum(1, keepdim=True) + b.square().sum(1) - 2 * a @ b.T
        squares = squares.clamp(min=0)
        chances = torch.sigmoid(shift - scale * torch.sqrt(squares + 1e-6))
        return chances.view(*left.shape[:2], *right.shape[:2]).mean((1, 3))

    size = samples.shape[1] * other_samples.shape[1]
    return pairwise(tile, [samples], [other_samples], size)


def match_probability(
    mean: Tensor,
    log_variance: Tensor,
    other_mean: Tensor,
    other_log_variance: Tensor,
    scale: float | Tensor = 5.0,
    shift: float | Tensor = 5.0,
    count: int = 7,
    seed: int = 0,
) -> Tensor:
    """Probability that two items match, estimated from `count` points of each (PCME, J = 7).

    The noise comes from `seed` alone, one block for the first items and one for the others: a
    pair's probability is the same at every call and in every batch.

    Parameters
    ----------
    mean, log_variance : Tensor [Bi, D]
    other_mean, other_log_variance : Tensor [Bt, D]
    scale, shift : float or Tensor
        The learned a > 0 and b of sigmoid(-a * distance + b), as in `sample_match_probability`.
    count : int
        Points of each item; a pair compares count**2 distances.
    seed : int
        Of the noise.

    Returns
    -------
    Tensor [Bi, Bt]
        0..1.

    Examples
    --------
    >>> here = Gaussians(torch.zeros(1, 3), torch.full((1, 3), -20.0))
    >>> there = Gaussians(torch.full((1, 3), 9.0), torch.full((1, 3), -20.0))
    >>> round(match_probability(*here, *there).item(), 3)
    0.0
    >>> round(match_probability(*here, *here).item(), 3)
    0.993
    """
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(2, count, mean.shape[1], generator=generator).to(widened(mean))
    return sample_match_probability(
        draw(mean, log_variance, noise[0]),
        draw(other_mean, other_log_variance, noise[1]),
        scale,
        shift,
    )


def intersection(
    mean: Tensor, log_variance: Tensor, other_mean: Tensor, other_log_variance: Tensor
) -> Gaussians:
    """Intersection, item by item: the normalised product of the densities, [N, D].

    Precisions add, ``1 / v = 1 / v1 + 1 / v2``; the logarithm of the norm is `log_elk`.
    """
    share = torch.sigmoid(other_log_variance - log_variance)
    narrowed = other_log_variance + logsigmoid(log_variance - other_log_variance)
    return Gaussians(torch.lerp(other_mean, mean, share), narrowed)


def union(
    mean: Tensor, log_variance: Tensor, other_mean: Tensor, other_log_variance: Tensor
) -> Gaussians:
    """Union, item by item: the Gaussian with the moments of the equal mixture, [N, D].

    ``v = (v1 + v2) / 2 + d^2 / 4``.
    """
    larger = torch.maximum(log_variance, other_log_variance).detach()  # rounding only
    parts = torch.exp(log_variance - larger) + torch.exp(other_log_variance - larger)
    parts = parts + _excess(mean - other_mean, larger) / 2
    return Gaussians((mean + other_mean) / 2, larger + torch.log(parts / 2))


def inclusion(
    mean: Tensor, log_variance: Tensor, other_mean: Tensor, other_log_variance: Tensor
) -> Tensor:
    """Inclusion of each item in each other: log of the integral of p(x)^2 q(x), [Bi, Bt].

    p lies inside q rather than q inside p where this is larger than its transpose with the roles
    exchanged (ProLIP, Chun et al., ICLR 2025).
    """

    def summand(d: Tensor, l1: Tensor, l2: Tensor) -> Tensor:
        # p^2 is a normal density of half the variance, times 1 / (2 sqrt(pi v1)).
        density = _log_normal(d, torch.logaddexp(l1 - math.log(2), l2))
        return density - (l1 + math.log(4 * math.pi)) / 2

    return _sum_over_directions(summand, mean, log_variance, other_mean, other_log_variance)


def uncertainty(log_variance: Tensor) -> Tensor:
    """Uncertainty of items, [N, D] to [N]: the mean logarithm of their standard deviations.

    Its exponential is the geometric mean. The determinant itself would underflow.
    """
    return widened(log_variance).mean(-1) / 2

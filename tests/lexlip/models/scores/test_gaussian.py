"""Gaussians against integrals, samples and plain sums, and at the limits of float32."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import trapezoid
from scipy.stats import norm
from torch.testing import assert_close

from lexlip.models.scores import gaussian, pairs
from lexlip.models.scores.gaussian import Gaussians
from tests.support.gaussians import gaussians, of

PAIRWISE = [
    gaussian.csd,
    gaussian.squared_wasserstein,
    gaussian.log_elk,
    gaussian.kl,
    gaussian.jeffreys,
    gaussian.bhattacharyya,
    gaussian.squared_hellinger,
    gaussian.inclusion,
    gaussian.match_probability,
]
SYMMETRIC = [f for f in PAIRWISE[:7] if f is not gaussian.kl]
every = pytest.mark.parametrize("function", PAIRWISE, ids=lambda f: f.__name__)


def random_gaussians(seed, count, size, spread=1.0):
    generator = torch.Generator().manual_seed(seed)
    mean, log = torch.randn(2, count, size, generator=generator, dtype=torch.float64)
    return Gaussians(mean, spread * log - 1)


number = st.floats(-2, 2)


# Wide enough for the grid, and near enough that no product of densities underflows.
@given(number, number, st.floats(0.3, 3), st.floats(0.3, 3))
def test_one_direction_against_integrals(m1, m2, s1, s2):
    first, second = gaussians([m1], [s1]), gaussians([m2], [s2])
    x = np.linspace(-40, 40, 16_001)
    p, q = norm.logpdf(x, m1, s1), norm.logpdf(x, m2, s2)

    def check(function, wanted):
        assert of(function, first, second) == pytest.approx(wanted, rel=1e-9, abs=1e-9)

    def integral(values):
        return trapezoid(values, x)  # exact to rounding: smooth, and zero at both ends

    check(gaussian.log_elk, math.log(integral(np.exp(p + q))))
    check(gaussian.inclusion, math.log(integral(np.exp(2 * p + q))))
    overlap = integral(np.exp((p + q) / 2))
    check(gaussian.bhattacharyya, -math.log(overlap))
    check(gaussian.squared_hellinger, 1 - overlap)
    there, back = integral(np.exp(p) * (p - q)), integral(np.exp(q) * (q - p))
    check(gaussian.kl, there)
    check(gaussian.jeffreys, there + back)
    apart = norm.pdf(x, m1 - m2, math.hypot(s1, s2))  # of the difference of two samples
    mean = integral(x**2 * apart)
    check(gaussian.csd, mean)
    # The cheapest way to move one onto the other keeps the order of quantiles.
    z = np.linspace(-7, 7, 2001)
    moved = norm.ppf(norm.cdf(z), m1, s1) - norm.ppf(norm.cdf(z), m2, s2)
    cheapest = trapezoid(moved**2 * norm.pdf(z), z)
    assert of(gaussian.squared_wasserstein, first, second) == pytest.approx(
        cheapest, rel=1e-6, abs=1e-9
    )


@settings(max_examples=20)
# Wide enough for the grid, and near enough that no product of densities underflows.
@given(number, number, st.floats(0.3, 3), st.floats(0.3, 3))
def test_intersection_and_union_against_densities(m1, m2, s1, s2):
    first, second = gaussians([m1], [s1]), gaussians([m2], [s2])
    both = gaussian.intersection(*first, *second)
    log_norm = of(gaussian.log_elk, first, second)
    mean, deviation = both.mean.item(), math.exp(both.log_variance.item() / 2)
    for x in np.linspace(-4, 4, 9):
        product = norm.logpdf(x, m1, s1) + norm.logpdf(x, m2, s2)
        assert norm.logpdf(x, mean, deviation) + log_norm == pytest.approx(product, rel=1e-7)
    either = gaussian.union(*first, *second)
    mean, square = (m1 + m2) / 2, (m1**2 + s1**2 + m2**2 + s2**2) / 2
    assert either.mean.item() == pytest.approx(mean)
    assert either.log_variance.exp().item() == pytest.approx(square - mean**2, rel=1e-9)
    # Vaguer than the surer of both, surer than the vaguer of both.
    assert both.log_variance.item() < 2 * math.log(min(s1, s2)) + 1e-12
    assert either.log_variance.item() > 2 * math.log(min(s1, s2)) - 1e-12


@every
@pytest.mark.parametrize("tile", [1, 60, 2**21])
def test_every_pair_of_two_batches(monkeypatch, function, tile):
    monkeypatch.setattr(pairs, "TILE", tile)
    p, q = random_gaussians(0, 5, 6), random_gaussians(1, 7, 6)
    found = function(*p, *q)
    assert found.shape == (5, 7) and found.dtype == torch.float64
    for i in range(5):
        for j in range(7):
            single = function(*(t[i : i + 1] for t in p), *(t[j : j + 1] for t in q))
            assert_close(found[i, j], single[0, 0])
    assert function(*(t[:0] for t in p), *q).shape == (0, 7)
    assert function(*p, *(t[:0] for t in q)).shape == (5, 0)


@pytest.mark.parametrize(
    "function",
    [f for f in PAIRWISE[:8] if f is not gaussian.squared_hellinger],
    ids=lambda function: function.__name__,
)
def test_directions_add_up(function):
    p, q = random_gaussians(2, 3, 8), random_gaussians(3, 4, 8)
    parts = sum(function(*(t[:, [i]] for t in p), *(t[:, [i]] for t in q)) for i in range(8))
    assert_close(function(*p, *q), parts)


@given(st.integers(0, 10**6), st.integers(1, 9))
def test_identities(seed, size):
    p, q = random_gaussians(seed, 3, size), random_gaussians(seed + 1, 4, size)
    for function in SYMMETRIC:
        assert_close(function(*p, *q), function(*q, *p).T)
    same = (gaussian.kl, gaussian.jeffreys, gaussian.bhattacharyya, gaussian.squared_hellinger)
    for function in (*same, gaussian.squared_wasserstein):
        assert (function(*p, *q) >= -1e-12).all()
        assert function(*p, *p).diagonal().abs().max() < 1e-12
    assert_close(gaussian.kl(*p, *q) + gaussian.kl(*q, *p).T, gaussian.jeffreys(*p, *q))
    assert (gaussian.squared_hellinger(*p, *q) <= 1).all()
    distances = torch.cdist(p.mean, q.mean).square()
    assert (gaussian.csd(*p, *q) >= gaussian.squared_wasserstein(*p, *q)).all()
    assert_close(
        gaussian.squared_wasserstein(p.mean, q.log_variance[:3] * 0, q.mean, 0 * q[1]), distances
    )
    sharp = [torch.full_like(t, -80.0) for t in (p.mean, q.mean)]
    assert_close(gaussian.csd(p.mean, sharp[0], q.mean, sharp[1]), distances)
    exact = torch.sigmoid(5 - 5 * torch.sqrt(distances + 1e-6))
    assert_close(gaussian.match_probability(p.mean, sharp[0], q.mean, sharp[1]), exact)
    # What all points lie in contains a point of it, not the reverse.
    wide = Gaussians(p.mean, p.log_variance + 1)
    contained = gaussian.inclusion(*p, *wide).diagonal()
    assert (contained > gaussian.inclusion(*wide, *p).diagonal()).all()


def test_distances_of_samples_have_the_mean_that_is_said():
    p, q = random_gaussians(4, 1, 5), random_gaussians(5, 1, 5)
    noise = torch.randn(2, 400_000, 5, generator=torch.Generator().manual_seed(0)).double()
    left, right = (gaussian.draw(*x, n)[0] for x, n in zip((p, q), noise, strict=True))
    squares = (left - right).square().sum(1)
    assert squares.mean().item() == pytest.approx(of(gaussian.csd, p, q), rel=0.01)
    assert (left - right).norm(dim=1).mean() <= math.sqrt(of(gaussian.csd, p, q))


def test_products_of_all_samples_are_the_product_of_their_means():
    noise = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(0)).double()
    left, right = (
        gaussian.draw(*random_gaussians(4, 2, 5), noise[0]),
        gaussian.draw(*random_gaussians(5, 3, 5), noise[1]),
    )
    total = torch.einsum("ijd,tkd->it", left, right)
    assert_close(total, 49 * left.mean(1) @ right.mean(1).T)


def test_match_probability_does_not_depend_on_the_neighbours_or_the_call():
    p, q = random_gaussians(0, 6, 4), random_gaussians(1, 5, 4)
    whole = gaussian.match_probability(*p, *q)
    torch.manual_seed(3)
    part = gaussian.match_probability(*(t[2:4] for t in p), *(t[1:] for t in q))
    assert_close(whole[2:4, 1:], part, rtol=0, atol=1e-15)
    assert not torch.equal(whole, gaussian.match_probability(*p, *q, seed=1))
    assert ((whole > 0) & (whole < 1)).all()


@every
def test_gradients(function):
    inputs = [t.requires_grad_() for t in (*random_gaussians(0, 2, 3), *random_gaussians(1, 3, 3))]
    assert torch.autograd.gradcheck(function, inputs)


@pytest.mark.parametrize("function", [gaussian.intersection, gaussian.union])
def test_gradients_of_set_algebra(function):
    p = [t.requires_grad_() for t in random_gaussians(0, 2, 3)]
    q = [t.requires_grad_() for t in random_gaussians(1, 2, 3)]
    q[0].data[0] = p[0].data[0]  # equal means
    assert torch.autograd.gradcheck(function, (*p, *q))


def test_the_noise_and_the_scale_are_learned_through():
    p, q = random_gaussians(0, 2, 3), random_gaussians(1, 3, 3)
    scale, shift = (torch.tensor(5.0, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(
        lambda a, b: gaussian.match_probability(*p, *q, a, b), (scale, shift)
    )


@every
def test_float32_keeps_up_with_float64_at_many_directions(function):
    size, generator = 1024, torch.Generator().manual_seed(0)
    means = torch.nn.functional.normalize(torch.randn(2, 9, size, generator=generator), dim=-1)
    logs = -7 + torch.randn(2, 9, size, generator=generator)
    exact = function(*(t.double() for t in (means[0], logs[0], means[1], logs[1])))
    found = function(means[0], logs[0], means[1], logs[1])
    assert found.dtype == torch.float32
    assert_close(found.double(), exact, rtol=2e-5, atol=1e-6)


@every
@pytest.mark.parametrize("log", [-80.0, -40.0, 0.0, 40.0, 80.0])
@pytest.mark.parametrize("other", [-80.0, 0.0, 80.0])
def test_extreme_variances_give_numbers(function, log, other):
    mean = torch.nn.functional.normalize(torch.randn(3, 1024, generator=torch.Generator()), dim=1)
    logs = torch.full_like(mean, log), torch.full_like(mean, other)
    found = function(mean, logs[0], mean, logs[1])
    assert not found.isnan().any()
    if function in (gaussian.log_elk, gaussian.inclusion, gaussian.squared_hellinger):
        assert found.isfinite().all()
    exact = function(*(t.double() for t in (mean, logs[0], mean, logs[1])))
    there = exact.abs() < 1e37
    assert_close(found[there].double(), exact[there], rtol=1e-4, atol=1e-5)
    for narrow in (gaussian.intersection, gaussian.union):
        assert all(t.isfinite().all() for t in narrow(mean, logs[0], mean, logs[1]))


def test_small_differences_are_not_lost_in_float32():
    mean, log = torch.zeros(1, 64), torch.full((1, 64), -9.0)
    near = log + 1e-3
    for function in (gaussian.kl, gaussian.jeffreys, gaussian.bhattacharyya):
        exact = function(*(t.double() for t in (mean, log, mean, near)))
        found = function(mean, log, mean, near)
        assert_close(found.double(), exact, rtol=0.01, atol=0)


def test_uncertainty_of_many_directions_does_not_underflow():
    log = torch.full((2, 1024), -20.0)
    log[1] = -18
    assert gaussian.uncertainty(log).tolist() == [-10.0, -9.0]
    assert gaussian.uncertainty(log.bfloat16()).dtype == torch.float32

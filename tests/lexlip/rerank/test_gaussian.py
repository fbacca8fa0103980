"""Gaussians against integrals, samples, plain sums and published numbers."""

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

from lexlip.rerank import Gaussians, gaussian, pairs
from tests.lexlip.rerank.oracles import waves

PAIRWISE = [
    gaussian.csd,
    gaussian.squared_wasserstein,
    gaussian.log_elk,
    gaussian.kl,
    gaussian.jeffreys,
    gaussian.bhattacharyya,
    gaussian.squared_hellinger,
    gaussian.distance_variance,
    gaussian.inclusion,
    gaussian.match_probability,
]
SYMMETRIC = [f for f in PAIRWISE[:8] if f is not gaussian.kl]
every = pytest.mark.parametrize("function", PAIRWISE, ids=lambda f: f.__name__)


def gaussians(means, deviations):
    rows = torch.tensor([means, deviations], dtype=torch.float64)
    return Gaussians(rows[:1], 2 * rows[1:].log())


FIRST = gaussians((0.6, 0.0, 0.8), (0.1, 0.2, 0.3))
SECOND = gaussians((0.0, 0.6, 0.8), (0.2, 0.1, 0.4))


def of(function, p, q, *others):
    found = function(*p, *q, *others)
    assert found.shape == (1, 1)
    return found.item()


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        (gaussian.csd, 1.07),
        (gaussian.squared_wasserstein, 0.75),
        (gaussian.log_elk, -6.267936145500),
        (gaussian.kl, 23.693932072452),
        (gaussian.jeffreys, 47.420138888889),
        (gaussian.bhattacharyya, 3.843554548574),
        (gaussian.squared_hellinger, 0.978582663082),
        (gaussian.distance_variance, 0.279),
        (gaussian.inclusion, -7.341158167126),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_published_numbers(function, wanted):
    assert of(function, FIRST, SECOND) == pytest.approx(wanted, abs=6e-13, rel=0)


def test_more_published_numbers():
    mean, log_variance = FIRST
    assert (mean - SECOND.mean).square().sum().item() == pytest.approx(0.72, abs=1e-12)
    assert of(gaussian.kl, SECOND, FIRST) == pytest.approx(23.726206816437, abs=6e-13)
    without = of(gaussian.log_elk, FIRST, SECOND) + 1.5 * math.log(2 * math.pi)
    assert without == pytest.approx(-3.511120545886, abs=6e-13)
    turned = of(gaussian.inclusion, SECOND, FIRST)
    assert of(gaussian.inclusion, FIRST, SECOND) - turned == pytest.approx(
        0.194076301408, abs=6e-13
    )
    standard = Gaussians(torch.zeros(1, 3), torch.zeros(1, 3))
    assert of(gaussian.kl, FIRST, standard) == pytest.approx(4.185995809754, abs=6e-13)
    # PCME's program takes the logarithm of the deviation for that of the variance.
    halved = Gaussians(mean, log_variance / 2)
    assert of(gaussian.kl, halved, standard) == pytest.approx(1.857997904877, abs=6e-13)
    vague = gaussian.uncertainty(log_variance).item()
    assert 6 * vague == pytest.approx(-10.231991619508, abs=6e-13)  # log determinant
    assert math.exp(vague) == pytest.approx(0.181712059283, abs=6e-13)
    on_means = torch.sigmoid(torch.tensor(5 - 5 * math.sqrt(0.72), dtype=torch.float64))
    assert on_means.item() == pytest.approx(0.680780137674, abs=6e-13)
    on_csd = torch.sigmoid(5 - 5 * gaussian.csd(*FIRST, *SECOND)).item()
    assert on_csd == pytest.approx(0.413382421083, abs=6e-13)
    # Both sides of the true divergence of Jensen and Shannon, 0.6838, which `jeffreys` is not.
    hellinger, jeffreys = (
        of(f, FIRST, SECOND) for f in (gaussian.squared_hellinger, gaussian.jeffreys)
    )
    shannon = jensen_shannon()
    assert shannon == pytest.approx(0.6838, abs=6e-4)
    assert hellinger * math.log(2) < shannon < jeffreys / 4


def jensen_shannon(count=200_000):
    """By samples, in nats."""
    rng, logs = np.random.default_rng(0), []
    both = [(m.numpy()[0], np.exp(v.numpy()[0] / 2)) for m, v in (FIRST, SECOND)]
    for mean, deviation in both:
        points = rng.normal(mean, deviation, (count, 3))
        own = norm.logpdf(points, mean, deviation).sum(1)
        each = [norm.logpdf(points, m, s).sum(1) for m, s in both]
        logs.append((own - np.logaddexp(*each) + math.log(2)).mean())
    return sum(logs) / 2


def test_published_intersection_and_union():
    mean, log_variance = gaussian.intersection(*FIRST, *SECOND)
    assert mean[0].tolist() == pytest.approx([0.48, 0.48, 0.8], abs=1e-12)
    assert log_variance[0].exp().tolist() == pytest.approx([0.008, 0.008, 0.0576], abs=1e-12)
    mean, log_variance = gaussian.union(*FIRST, *SECOND)
    assert mean[0].tolist() == pytest.approx([0.3, 0.3, 0.8], abs=1e-12)
    assert log_variance[0].exp().tolist() == pytest.approx([0.115, 0.115, 0.125], abs=1e-12)


def test_published_match_probabilities():
    images = torch.stack(
        [
            torch.stack([waves(2, 4, 0.2)[0], waves(2, 4, 0.4)[1]]),
            torch.stack([waves(2, 4, 1.1)[0], waves(2, 4, 1.3)[1]]),
        ]
    )
    texts = torch.stack(
        [
            torch.stack([waves(2, 4, 0.5)[0], waves(2, 4, 0.7)[1]]),
            torch.stack([waves(2, 4, 2.0)[0], waves(2, 4, 2.2)[1]]),
        ]
    )
    # The authors' program takes sigmoid(2 l): its a = b = 5 are 10 here.
    found = gaussian.sample_match_probability(images, texts, 10.0, 10.0)
    matches, others = found.diagonal(), torch.stack([found[0, 1], found[1, 0]])
    assert matches.tolist() == pytest.approx([0.50024279, 0.38790899], abs=3e-8)  # from float32
    assert -matches.log().sum().item() == pytest.approx(1.639646192188, abs=6e-13)
    assert -(1 - others).log().sum().item() == pytest.approx(0.949136774513, abs=6e-13)
    plain = gaussian.sample_match_probability(images, texts).diagonal()
    by_hand = [
        sum(chance(i, t) for i in left for t in right) / 4
        for left, right in zip(images.tolist(), texts.tolist(), strict=True)
    ]
    assert plain.tolist() == pytest.approx(by_hand, abs=1e-12)


def chance(point, other, scale=5.0, shift=5.0):
    distance = math.sqrt(math.dist(point, other) ** 2 + 1e-6)
    return 1 / (1 + math.exp(scale * distance - shift))


def test_published_csd_of_waves():
    images = waves(3, 4, 0.2), -4 + 0.5 * waves(3, 4, 0.3)
    texts = waves(3, 4, 0.9), -3 + 0.5 * waves(3, 4, 0.6)
    wanted = [
        [0.90516163, 3.90224245, 1.93774254],
        [1.660335, 0.76940356, 4.18511843],
        [3.83025436, 2.31019682, 0.71085014],
    ]
    found = gaussian.csd(*images, *texts)
    assert_close(found, torch.tensor(wanted).double(), atol=5e-7, rtol=0)
    through_products = (
        2
        + texts[1].exp().sum(1)
        - 2 * gaussian.csd_vectors(*images) @ gaussian.csd_vectors(*texts, query=True).T
    )
    assert_close(through_products, found, atol=1e-12, rtol=0)


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
    check(gaussian.distance_variance, integral((x**2 - mean) ** 2 * apart))
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
    "function", [f for f in PAIRWISE[:9] if f is not gaussian.squared_hellinger], ids=str
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


@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 12))
def test_csd_is_an_inner_product(seed, size, count):
    p, q = random_gaussians(seed, count, size), random_gaussians(seed + 1, 3, size)
    p, q = (Gaussians(torch.nn.functional.normalize(t.mean, dim=1), t.log_variance) for t in (p, q))
    documents, queries = gaussian.csd_vectors(*p), gaussian.csd_vectors(*q, query=True)
    assert documents.shape == (count, size + 1) and queries.shape == (3, size + 1)
    found = 2 + q.log_variance.exp().sum(1) - 2 * documents @ queries.T
    wanted = gaussian.csd(*p, *q)
    assert_close(found, wanted, atol=1e-12, rtol=1e-12)
    # Documents rank the same whatever the length of the query's vector.
    assert ((documents @ (3 * queries).T).argmax(0) == wanted.argmin(0)).all()


def test_distances_of_samples_have_the_mean_and_variance_that_are_said():
    p, q = random_gaussians(4, 1, 5), random_gaussians(5, 1, 5)
    noise = torch.randn(2, 400_000, 5, generator=torch.Generator().manual_seed(0)).double()
    left, right = (gaussian.draw(*x, n)[0] for x, n in zip((p, q), noise, strict=True))
    squares = (left - right).square().sum(1)
    assert squares.mean().item() == pytest.approx(of(gaussian.csd, p, q), rel=0.01)
    assert squares.var().item() == pytest.approx(of(gaussian.distance_variance, p, q), rel=0.03)
    assert (left - right).norm(dim=1).mean() <= math.sqrt(of(gaussian.csd, p, q))


def test_products_of_all_samples_are_the_product_of_their_means():
    noise = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(0)).double()
    left, right = (
        gaussian.draw(*random_gaussians(4, 2, 5), noise[0]),
        gaussian.draw(*random_gaussians(5, 3, 5), noise[1]),
    )
    total = torch.einsum("ijd,tkd->it", left, right)
    assert_close(total, 49 * left.mean(1) @ right.mean(1).T)


@pytest.mark.parametrize(("factor", "published"), [(5.0, 0.5006), (10.0, 0.5047)])
def test_match_probability_by_samples(factor, published):
    (m1, s1), (m2, s2) = ((m.numpy()[0], np.exp(v.numpy()[0] / 2)) for m, v in (FIRST, SECOND))
    rng = np.random.default_rng(1)
    points = rng.normal(m1, s1, (400_000, 3)) - rng.normal(m2, s2, (400_000, 3))
    chances = 1 / (1 + np.exp(factor * np.sqrt((points**2).sum(1) + 1e-6) - factor))
    assert chances.mean() == pytest.approx(published, abs=0.0015)

    def mean(count, seeds):
        each = (factor, factor, count)
        found = [of(gaussian.match_probability, FIRST, SECOND, *each, s) for s in range(seeds)]
        return np.mean(found), np.std(found)

    assert mean(100, 500)[0] == pytest.approx(published, abs=0.006)
    few, spread = mean(7, 500)
    assert few == pytest.approx(published, abs=0.02)
    assert mean(70, 100)[1] < spread / 2  # ten times as many points are surer


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

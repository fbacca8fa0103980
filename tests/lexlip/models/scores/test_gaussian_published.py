"""Gaussians against published numbers: the papers' and their authors' programs'."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch.testing import assert_close

from lexlip.models.scores import gaussian
from lexlip.models.scores.gaussian import Gaussians
from tests.support.gaussians import gaussians, of
from tests.support.rerank_oracles import waves

FIRST = gaussians((0.6, 0.0, 0.8), (0.1, 0.2, 0.3))
SECOND = gaussians((0.0, 0.6, 0.8), (0.2, 0.1, 0.4))


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

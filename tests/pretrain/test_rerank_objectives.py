"""The dense branch's losses: published numbers, loops by hand, rows that must not become NaN."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import logsigmoid, normalize
from torch.testing import assert_close

from lexlip.models.scores import gaussian
from lexlip.models.scores.late import late_interaction
from lexlip.models.scores.naaf import optimal_threshold
from pretrain import rerank_objectives as losses


def rows(n, m, c):
    """Unit rows that need no random numbers."""
    i, j = torch.arange(n).double()[:, None], torch.arange(m).double()
    return normalize(torch.sin(1.7 * i + 0.9 * j + c + 0.31 * i * j), dim=-1)


def units(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(*shape, generator=generator), dim=-1)


def exact(values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.fixture
def pictures_and_texts():
    """Two pictures of five patches, two texts of four and three words."""
    image = torch.stack([rows(5, 4, 0.2), rows(5, 4, 1.1)])
    text = torch.stack([rows(4, 4, 0.5), rows(4, 4, 2.0)])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]).bool()
    return image, torch.ones(2, 5, dtype=torch.bool), text, mask


def test_late_contrast_of_published_rows(pictures_and_texts):
    i2t, t2i = late_interaction(*pictures_and_texts)
    assert losses.late_contrast(i2t, t2i, 1 / 0.07).item() == pytest.approx(1.870610, abs=5e-7)
    # Each direction by itself: the other similarity is made to cost nothing.
    sure = 1e3 * torch.eye(2, dtype=torch.float64)
    one = 2 * losses.late_contrast(i2t, sure, 1 / 0.07)
    other = 2 * losses.late_contrast(sure, t2i, 1 / 0.07)
    assert one.item() == pytest.approx(1.297102, abs=5e-7)
    assert other.item() == pytest.approx(2.444118, abs=5e-7)


def test_late_contrast_leaves_out_what_belongs_together():
    i2t, t2i = torch.randn(4, 4), torch.randn(4, 4)
    same = torch.eye(4, dtype=torch.bool)
    same[0, 2] = same[2, 0] = True
    wanted = 0.0
    for i in range(4):
        others = [j for j in range(4) if j == i or not same[i, j]]
        wanted += math.log(sum(math.exp(3 * i2t[i, j]) for j in others)) - 3 * float(i2t[i, i])
        wanted += math.log(sum(math.exp(3 * t2i[j, i]) for j in others)) - 3 * float(t2i[i, i])
    found = losses.late_contrast(i2t, t2i, 3.0, same).item()
    assert found == pytest.approx(wanted / 8, rel=1e-5)


def test_a_batch_with_empty_texts_is_no_nan():
    image = units(3, 4, 6).requires_grad_()
    text = units(3, 5, 6, seed=1).requires_grad_()
    mask = torch.tensor([[1, 1, 0, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]]).bool()
    i2t, t2i = late_interaction(image, torch.ones(3, 4, dtype=torch.bool), text, mask)
    loss = losses.late_contrast(i2t, t2i, 20.0, torch.ones(3, 3, dtype=torch.bool))
    loss = loss + losses.late_contrast(i2t, t2i, 20.0)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(image.grad).all() and torch.isfinite(text.grad).all()
    assert not text.grad[~mask].any()


def test_gradient_flows_only_through_the_best_pairs():
    image, text = units(2, 5, 6).requires_grad_(), units(2, 4, 6, seed=1).requires_grad_()
    mask = torch.ones(2, 5, dtype=torch.bool), torch.ones(2, 4, dtype=torch.bool)
    i2t, t2i = late_interaction(image, mask[0], text, mask[1])
    # Of the words' side of the loss alone: a patch that is no word's best learns nothing.
    sure = 1e3 * torch.eye(2)
    losses.late_contrast(sure, t2i, 10.0).backward()
    cosines = torch.einsum("ipd,jmd->ijpm", image, text)
    best = torch.zeros(2, 5, dtype=torch.bool)
    for i in range(2):
        best[i, cosines[i].argmax(1).flatten()] = True
    assert not best.all()
    assert torch.equal(image.grad.abs().sum(2) > 0, best)


@pytest.mark.parametrize(
    ("factor", "positive", "negative"),
    [(2, 0.541344445547, 0.872190848739), (1, 0.610624302662, 0.783097620465)],
)
def test_soft_contrast_of_published_logits(factor, positive, negative):
    logits = factor * exact([0.5, -0.2, 0.1, 0.3]).view(1, 1, 2, 2)
    for match, wanted in ((True, positive), (False, negative)):
        found = losses.soft_contrast(logits, torch.tensor([[match]])).item()
        assert found == pytest.approx(wanted, abs=1e-12)


def samples(*offsets):
    return torch.stack([torch.stack([rows(2, 4, a)[0], rows(2, 4, b)[1]]) for a, b in offsets])


def test_soft_contrast_of_published_samples():
    image, text = samples((0.2, 0.4), (1.1, 1.3)), samples((0.5, 0.7), (2.0, 2.2))
    # The authors' sigmoid(2 (5 - 5 r)) is a plain one of 10 - 10 r; they add up all pairs, twice.
    logits = losses.sample_logits(image, text, exact(10), exact(10))
    chance = losses.mean_probability(logsigmoid(logits)).exp().diagonal()
    assert chance.tolist() == pytest.approx([0.50024279, 0.38790899], abs=3e-8)
    assert_close(gaussian.sample_match_probability(image, text, 10.0, 10.0).diagonal(), chance)
    eye = torch.eye(2, dtype=torch.bool)
    total = losses.soft_contrast(logits, eye) * 4 * 2
    assert total.item() == pytest.approx(5.177565933403, abs=1e-11)
    for match, wanted in ((True, 1.639646192188), (False, 0.949136774513)):
        chosen = logits[eye if match else ~eye].unsqueeze(0)
        found = 2 * losses.soft_contrast(chosen, torch.tensor([[match, match]]))
        assert found.item() == pytest.approx(wanted, abs=1e-11)


def test_soft_contrast_stays_finite_far_away_and_on_the_spot():
    logits = torch.tensor([[-400.0, 400.0], [0.0, 50.0]]).view(2, 2, 1, 1).requires_grad_()
    loss = losses.soft_contrast(logits, torch.eye(2, dtype=torch.bool))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(logits.grad).all()
    points = units(3, 2, 4).requires_grad_()
    losses.sample_logits(points, points.detach(), exact(5), exact(5)).sum().backward()
    assert torch.isfinite(points.grad).all()


@pytest.fixture
def gaussians():
    """PCME++'s oracle: means and log-variances of three pictures and three texts."""
    image = (rows(3, 4, 0.2), -4 + 0.5 * rows(3, 4, 0.3))
    text = (rows(3, 4, 0.9), -3 + 0.5 * rows(3, 4, 0.6))
    return image, text


def test_closed_form_of_published_gaussians(gaussians):
    image, text = gaussians
    distance = gaussian.csd(*image, *text)
    wanted = [
        [0.90516163, 3.90224245, 1.93774254],
        [1.660335, 0.76940356, 4.18511843],
        [3.83025436, 2.31019682, 0.71085014],
    ]
    assert_close(distance, exact(wanted), rtol=0, atol=5e-8)
    plain = losses.closed_form(distance, torch.eye(3), 5.0, 5.0, pseudo=0.0)
    # The authors' program, in float32, gives 0.225897848606.
    logits = 5 - 5 * np.array(distance)
    by_hand = np.logaddexp(0, logits) - np.eye(3) * logits
    assert plain.item() == pytest.approx(2 * by_hand.mean(), abs=1e-12)
    assert plain.item() == pytest.approx(0.225897848606, abs=1e-7)
    kl = losses.kl_to_standard(*image) + losses.kl_to_standard(*text)
    assert kl.item() == pytest.approx(2.744578447687, abs=1e-12)
    assert (plain + 1e-4 * kl).item() == pytest.approx(0.226172306451, abs=1e-7)
    pseudo = losses.closed_form(distance, torch.eye(3), 5.0, 5.0, pseudo=0.1)
    assert (pseudo + 1e-4 * kl).item() == pytest.approx(0.248762092429, abs=1e-7)


def test_pseudo_positives_are_pairs_at_least_as_likely_as_the_right_one():
    distance = torch.tensor([[1.0, 0.5, 3.0], [2.0, 1.0, 2.0], [4.0, 0.9, 0.1]])
    # Row 0 likes text 1 better than its own; column 1 likes pictures 0 and 2 better.
    found = losses.closed_form(distance, torch.eye(3), 5.0, 5.0, pseudo=1.0)

    def loss(matches):
        total = 0.0
        for i in range(3):
            for j in range(3):
                logit = 5 - 5 * float(distance[i, j])
                total += math.log1p(math.exp(-logit if (i, j) in matches else logit)) / 9
        return total

    eye = {(0, 0), (1, 1), (2, 2)}
    wanted = 2 * loss(eye) + loss(eye | {(0, 1)}) + loss(eye | {(0, 1), (2, 1)})
    assert found.item() == pytest.approx(wanted, rel=1e-5)


def test_smoothing_draws_towards_one_half():
    distance = torch.rand(3, 3)
    smooth = losses.closed_form(distance, torch.eye(3), 5.0, 5.0, 0.0, smoothing=0.2)
    soft = losses.closed_form(distance, 0.8 * torch.eye(3) + 0.1, 5.0, 5.0, 0.0)
    assert_close(smooth, soft)


def test_captions_of_one_picture_are_positives():
    distance = torch.tensor([[0.1, 0.1], [0.1, 0.1]])
    every = losses.closed_form(distance, torch.ones(2, 2), 5.0, 5.0, 0.0)
    assert every < losses.closed_form(distance, torch.eye(2), 5.0, 5.0, 0.0) / 5


def test_kl_of_a_published_gaussian():
    mean = exact([[0.6, 0.0, 0.8]])
    log_variance = 2 * torch.log(exact([[0.1, 0.2, 0.3]]))
    found = 3 * losses.kl_to_standard(mean, log_variance).item()
    assert found == pytest.approx(4.185995809754, abs=1e-12)
    assert losses.kl_to_standard(torch.zeros(2, 5), torch.zeros(2, 5)).item() == 0


def test_uniformity_of_orthonormal_vectors_is_minus_four():
    assert losses.uniformity(torch.eye(3, dtype=torch.float64)).item() == pytest.approx(
        -4, abs=1e-12
    )
    assert losses.uniformity(torch.ones(4, 2)).item() == pytest.approx(0)
    points = torch.randn(5, 3).double()
    near = [
        math.exp(-2 * float((points[i] - points[j]).square().sum()))
        for i in range(5)
        for j in range(i)
    ]
    assert losses.uniformity(points).item() == pytest.approx(math.log(np.mean(near)))


def test_hinge_takes_the_hardest_that_is_a_negative():
    scores = torch.tensor([[0.9, 0.85, 0.2], [0.1, 0.5, 0.45], [0.0, 0.6, 0.7]])
    eye = torch.eye(3, dtype=torch.bool)
    by_hand = [(0.15, 0.0), (0.15, 0.55), (0.1, 0.0)]  # rows and columns
    assert losses.hinge(scores, eye).item() == pytest.approx(sum(map(sum, by_hand)) / 3, rel=1e-5)
    same = eye.clone()
    same[0, 1] = same[1, 0] = True
    by_hand = [(0.0, 0.0), (0.15, 0.3), (0.1, 0.0)]
    assert losses.hinge(scores, same).item() == pytest.approx(sum(map(sum, by_hand)) / 3, rel=1e-5)
    leaf = scores.clone().requires_grad_()
    nothing = losses.hinge(leaf, torch.ones(3, 3, dtype=torch.bool))
    nothing.backward()
    assert nothing.item() == 0 and torch.isfinite(leaf.grad).all()


@pytest.mark.parametrize("seed", range(8))
def test_mixing_takes_from_two_pictures_what_it_says(seed):
    batch = torch.stack([torch.full((1 + 16, 2), float(i)) for i in range(9)])
    mixed = losses.mix(batch, 4, torch.Generator().manual_seed(seed))
    assert mixed.features.shape == (4, 17, 2)
    for i, (picture, share) in enumerate(zip(mixed.features, mixed.share.tolist(), strict=True)):
        partner = 8 - i
        assert 0 <= share <= 1
        # The mean of the patches says how much of each it is, whichever way it was mixed.
        wanted = share * i + (1 - share) * partner
        assert picture[1:].mean().item() == pytest.approx(wanted, abs=1e-4)
        assert picture[0, 0].item() == pytest.approx(wanted, abs=1e-4)
        if i % 2:  # a rectangle of whole patches
            assert set(picture[1:].flatten().tolist()) <= {float(i), float(partner)}
            cut = (picture[1:, 0] == partner).view(4, 4)
            rows_, columns = cut.any(1), cut.any(0)
            assert torch.equal(cut, rows_[:, None] & columns[None])
        else:
            assert picture.std() < 1e-5


def test_shares_of_mixing_have_the_moments_of_beta():
    mixed = losses.mix(torch.zeros(8000, 3, 1), 4000, torch.Generator().manual_seed(0))
    assert mixed.share.mean().item() == pytest.approx(0.5, abs=0.02)
    assert mixed.share.var().item() == pytest.approx(0.05, abs=0.005)


def test_a_mixed_picture_matches_both():
    match = torch.eye(4)
    match[0, 1] = match[1, 0] = 1.0
    found = losses.mixed_match(match, torch.tensor([0.75]))
    assert found.tolist() == [[0.75, 0.75, 0.0, 0.25], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


def mined(image, text, mask, miner):
    i2t, t2i = late_interaction(image, torch.ones(image.shape[:2], dtype=torch.bool), text, mask)
    miner.update(t2i, image, torch.ones(image.shape[:2], dtype=torch.bool), text, mask)
    return t2i


def pairs(count=30, words=10, seed=0):
    """Texts whose words are some patches of their picture, blurred."""
    image = units(count, 16, 12, seed=seed)
    text = normalize(image[:, :words] + 0.25 * units(count, words, 12, seed=seed + 1), dim=-1)
    mask = torch.arange(words) < torch.randint(5, words + 1, (count, 1))
    return image, text, mask


def test_the_miner_samples_texts_whose_own_picture_ranks_first():
    torch.manual_seed(0)
    image, text, mask = pairs(60)
    text[:10] = units(10, 10, 12, seed=9)  # of nothing
    miner = losses.ThresholdMiner()
    t2i = mined(image, text, mask, miner)
    present, absent = [], []
    for j in range(60):
        if t2i[:, j].argmax() == j:
            worst = int(t2i[:, j].argmin())
            for r in range(10):
                if mask[j, r]:
                    present.append(max(float(text[j, r] @ v) for v in image[j]))
                    absent.append(max(float(text[j, r] @ v) for v in image[worst]))
    assert 200 < len(present) < mask.sum()
    mean, deviation = np.mean(present), np.std(present, ddof=1)
    wanted = optimal_threshold(mean, deviation, np.mean(absent), np.std(absent, ddof=1), 2.0)
    assert miner.threshold.item() == pytest.approx(0.7 * wanted, rel=1e-5)
    assert miner.safe.item() == pytest.approx(0.7 * (mean - 3 * deviation), rel=1e-4)
    before = miner.threshold.item()
    mined(image, text, mask, miner)
    assert miner.threshold.item() == pytest.approx(0.3 * before + 0.7 * wanted, rel=1e-5)
    assert miner.updates == 2


@pytest.mark.parametrize("fault", ["few words", "nothing first", "no words", "all alike"])
def test_the_miner_waits_for_enough(fault):
    torch.manual_seed(0)
    image, text, mask = pairs(10 if fault == "few words" else 60)
    if fault == "nothing first":
        image = image.roll(1, 0)
    elif fault == "no words":
        mask = torch.zeros_like(mask)
    elif fault == "all alike":
        image, text = torch.ones_like(image) / 12**0.5, torch.ones_like(text) / 12**0.5
    miner = losses.ThresholdMiner()
    mined(image, text, mask, miner)
    assert miner.updates == 0 and miner.threshold == 0 == miner.safe


def test_samples_have_the_moments_of_their_gaussian():
    mean, log_variance = torch.tensor([[1.0, -2.0]]), torch.log(torch.tensor([[4.0, 0.25]]))
    points = losses.draw(mean, log_variance, 20_000, torch.Generator().manual_seed(0))[0]
    assert_close(points.mean(0), mean[0], rtol=0, atol=0.05)
    assert_close(points.var(0), log_variance[0].exp(), rtol=0.05, atol=0)

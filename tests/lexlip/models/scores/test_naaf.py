"""NAAF and SCAN against loops and published numbers; the threshold against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import erfc
from torch.testing import assert_close

from lexlip.errors import LexLIPError
from lexlip.models.scores import pairs
from lexlip.models.scores.naaf import naaf, optimal_threshold, scan, threshold_cost
from tests.support import rerank_oracles as oracles

PRINTED = 2e-8  # the authors' programs count in float32 and print eight digits
WAYS = list(itertools.product(("t2i", "i2t"), ("avg", "lse")))
ways = pytest.mark.parametrize(("direction", "pool"), WAYS)


def table(image, image_mask, text, text_mask, function):
    return torch.tensor(
        [
            [function(i, t) for t in oracles.items(text, text_mask)]
            for i in oracles.items(image, image_mask)
        ],
        dtype=torch.float64,
    )


@pytest.mark.parametrize(
    ("way", "wanted"),
    [
        (("t2i", "avg"), [[0.93844956, 0.89336485], [0.79398318, 0.63174063]]),
        (("t2i", "lse"), [[1.17255377, 1.08034289], [1.03338753, 0.84167519]]),
        (("i2t", "avg"), [[0.86996787, 0.68541033], [0.75497807, 0.68523608]]),
        (("i2t", "lse"), [[1.23997083, 1.16193377], [1.11684976, 1.05304831]]),
    ],
)
def test_published_scan(way, wanted):
    found = scan(*oracles.two_by_two(), *way)
    assert_close(found, torch.tensor(wanted, dtype=torch.float64), atol=PRINTED, rtol=0)


@pytest.mark.parametrize("propagate", [False, True])
@pytest.mark.parametrize(
    ("threshold", "wanted"),
    [
        (0.0, [[1.86542714, 1.77832973], [1.60303097, 1.29374259]]),
        (0.3, [[1.86542714, 1.77832978], [1.60302179, 1.29366655]]),
        (0.8, [[1.86541994, 1.77826002], [1.40305665, 0.37343430]]),
    ],
)
def test_published_naaf(threshold, wanted, propagate):
    found = naaf(*oracles.two_by_two(), threshold, propagate)
    assert_close(found, torch.tensor(wanted, dtype=torch.float64), atol=PRINTED, rtol=0)


def test_published_parts_of_naaf():
    image, _, text, _ = oracles.two_by_two()
    parts = oracles.naaf(image[1].tolist(), text[1, :3].tolist(), 0.8)
    assert [p[0] for p in parts] == pytest.approx([-0.10639745, -0.31419967, -0.18788234], abs=6e-9)
    assert [p[1] for p in parts] == [0, 0, 0]
    assert [p[2] for p in parts] == pytest.approx([0.68544945, 0.43237431, 0.61095861], abs=6e-9)


@ways
@pytest.mark.parametrize("tile", [1, 90, 2**21])
def test_scan_is_that_of_loops(monkeypatch, direction, pool, tile):
    monkeypatch.setattr(pairs, "TILE", tile)
    sharpness, lse = (9, 6) if direction == "t2i" else (4, 5)
    lse = lse if pool == "lse" else None
    for seed in range(3):
        given = *oracles.batch(seed, 3, 5), *oracles.batch(seed + 9, 4, 4)

        def pair(image, text):
            sides = (image, text) if direction == "t2i" else (text, image)
            return oracles.scan(*sides, sharpness, lse)

        found = scan(*given, direction, pool)
        assert_close(found, table(*given, pair), atol=1e-7, rtol=0)
        assert (found[-1] == -1).all() and (found[:, -1] == -1).all()
    other = scan(*given, direction, "lse", 3.0, 7.0)
    assert_close(other, table(*given, lambda i, t: oracles.scan(
        *((i, t) if direction == "t2i" else (t, i)), 3.0, 7.0
    )), atol=1e-7, rtol=0)  # fmt: skip


@pytest.mark.parametrize("propagate", [False, True])
@pytest.mark.parametrize("tile", [1, 90, 2**21])
def test_naaf_is_that_of_loops(monkeypatch, propagate, tile):
    monkeypatch.setattr(pairs, "TILE", tile)
    for seed, threshold in itertools.product(range(3), (0.0, 0.4, 0.9)):
        given = *oracles.batch(seed, 3, 5), *oracles.batch(seed + 9, 4, 4)
        wanted = table(*given, lambda i, t: oracles.naaf_score(i, t, threshold, propagate))  # noqa: B023
        found = naaf(*given, threshold, propagate)
        assert_close(found, wanted, atol=1e-7, rtol=0)
        assert (found[-1] == -2 - threshold).all() and (found[:-1, :-1] > -2 - threshold).all()


def test_propagation_asks_the_other_words():
    given = *oracles.batch(0, 6, 5, empty=False), *oracles.batch(9, 6, 4, empty=False)
    found = [naaf(*given, 0.5, propagate) for propagate in (False, True)]
    assert (found[0] != found[1]).any()
    # With no likeness but a word's own, both are one.
    assert_close(naaf(*given, 0.5, True, intra=1e4), found[0])
    assert not torch.equal(naaf(*given, 0.5, True, intra=1.0), found[1])


def test_a_missing_word_lowers_the_score_by_what_it_misses():
    seen, mask = torch.eye(4)[None, :2], torch.ones(1, 2, dtype=torch.bool)
    word = torch.tensor([[[0.0, 0.0, 0.6, 0.8]]])
    one = torch.ones(1, 1, dtype=torch.bool)
    assert naaf(seen, mask, word, one, 0.3).item() == pytest.approx(-0.3)
    assert naaf(seen, mask, -seen[:, :1], one, 0.3, sharpness=1e3).item() == pytest.approx(-0.3)
    opposite = naaf(seen[:, :1], mask[:, :1], -seen[:, :1], one, 0.3).item()
    assert opposite == pytest.approx(-2.3)  # what a pair without a token gets


def test_padding_is_not_above_a_threshold_below_zero():
    image, mask = torch.eye(2)[None], torch.tensor([[True, False]])
    word, one = torch.tensor([[[-1.0, 0.0]]]), torch.ones(1, 1, dtype=torch.bool)
    # All of its own: nothing is missing, the mean of the regions and the relevance are opposite.
    assert naaf(image, mask, word, one, -1.5).item() == pytest.approx(-2)


EVERY = {
    **{f"scan-{d}-{p}": lambda *given, way=(d, p): scan(*given, *way) for d, p in WAYS},
    "naaf": lambda *given: naaf(*given, 0.35),
    "naaf-propagate": lambda *given: naaf(*given, 0.35, True),
}
every = pytest.mark.parametrize("function", EVERY.values(), ids=EVERY)


@every
def test_padding_and_order_change_nothing(function):
    for seed in range(3):
        image, image_mask = oracles.batch(seed, 3, 6)
        text, text_mask = oracles.batch(seed + 5, 3, 5)
        wanted = function(image, image_mask, text, text_mask)
        for i, t in itertools.product(range(2), range(2)):
            alone = image[i][image_mask[i]][None], text[t][text_mask[t]][None]
            masks = [torch.ones(tokens.shape[:2], dtype=torch.bool) for tokens in alone]
            single = function(alone[0], masks[0], alone[1], masks[1])
            assert_close(single[0, 0], wanted[i, t], atol=1e-12, rtol=0)
            flipped = function(alone[0].flip(1), masks[0], alone[1].flip(1), masks[1])
            assert_close(flipped, single, atol=1e-12, rtol=0)
        longer = [torch.nn.functional.pad(t, (0, 0, 2, 90)) for t in (image, text)]
        masks = [torch.nn.functional.pad(m, (2, 90)) for m in (image_mask, text_mask)]
        found = function(longer[0], masks[0], longer[1], masks[1])
        assert_close(found, wanted, atol=1e-12, rtol=0)


@every
def test_gradients(function):
    image, image_mask = oracles.batch(1, 2, 4, 3, empty=False)
    text, text_mask = oracles.batch(2, 2, 3, 3, empty=False)
    image, text = (
        tokens.masked_fill(~mask[..., None], 0).requires_grad_()
        for tokens, mask in ((image, image_mask), (text, text_mask))
    )
    assert torch.autograd.gradcheck(
        lambda i, t: function(i, image_mask, t, text_mask), (image, text), atol=1e-4
    )


@every
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_nothing_becomes_nan(function, kind):
    image, image_mask = oracles.batch(1)
    text, text_mask = oracles.batch(2)
    image[~image_mask], text[~text_mask] = torch.nan, torch.nan
    image[0] = 0  # vectors without a direction
    image, text = (t.to(kind).requires_grad_() for t in (image, text))
    scores = function(image, image_mask, text, text_mask)
    assert scores.isfinite().all() and scores.dtype == kind
    scores.exp().sum().backward()
    for tensor, mask in ((image, image_mask), (text, text_mask)):
        assert tensor.grad.isfinite().all() and (tensor.grad[~mask] == 0).all()
        assert (tensor.grad[-1] == 0).all() and tensor.grad.any()


@every
@pytest.mark.parametrize(("count", "regions"), [(0, 3), (2, 0), (2, 3)])
@pytest.mark.parametrize(("texts", "words"), [(0, 2), (2, 0)])
def test_nothing_to_compare(function, count, regions, texts, words):
    image, text = torch.ones(count, regions, 4), torch.ones(texts, words, 4)
    masks = [torch.ones(tokens.shape[:2], dtype=torch.bool) for tokens in (image, text)]
    found = function(image, masks[0], text, masks[1])
    assert found.shape == (count, texts) and found.isfinite().all()


def test_float32_stays_close_and_within_bounds():
    image, image_mask = oracles.batch(1, 20, 49, 64, empty=False)
    text, text_mask = oracles.batch(2, 20, 12, 64, empty=False)
    image = torch.nn.functional.normalize(image - image.mean(1, keepdim=True), dim=-1)
    for function in EVERY.values():
        exact = function(image, image_mask, text, text_mask)
        found = function(image.float(), image_mask, text.float(), text_mask)
        assert_close(found.double(), exact, atol=1e-4, rtol=0)
    mean = scan(image.float(), image_mask, text.float(), text_mask)
    assert mean.abs().max() <= 1


def test_regions_that_cancel_each_other_give_a_cosine():
    rows = torch.nn.functional.normalize(
        oracles.batch(0, 50, 1, 16, empty=False)[0].float(), dim=-1
    )
    both, mask = torch.cat([rows, -rows], 1), torch.ones(50, 2, dtype=torch.bool)
    found = scan(both, mask, rows, mask[:, :1], sharpness=1e-5).diagonal()
    assert found.abs().max() <= 1


@pytest.mark.parametrize("threshold", [np.inf, np.nan])
def test_a_threshold_that_says_nothing_is_refused(threshold):
    with pytest.raises(LexLIPError, match="threshold"):
        naaf(*oracles.two_by_two(), threshold)


@pytest.mark.parametrize("way", [("i2i", "avg"), ("t2i", "max")])
def test_an_unknown_way_to_scan_is_refused(way):
    with pytest.raises(LexLIPError, match="use t2i or i2t, and avg or lse"):
        scan(*oracles.two_by_two(), *way)


# The threshold ------------------------------------------------------------------------------------


def cost(t, mu_pos, sigma_pos, mu_neg, sigma_neg, alpha):
    """Both tails, through the complementary error function."""
    root = np.sqrt(2)
    above = erfc((t - mu_neg) / (root * sigma_neg)) / 2
    return alpha * above + erfc((mu_pos - t) / (root * sigma_pos)) / 2


@pytest.mark.parametrize(
    ("given", "threshold", "least"),
    [
        ((0.60, 0.12, 0.25, 0.08, 2), 0.4191236212, 0.1003778858),
        ((0.60, 0.08, 0.25, 0.12, 2), 0.4679662574, 0.1187396107),
        ((0.60, 0.10, 0.25, 0.10, 2), 0.4448042052, 0.1117460746),
        ((0.60, 0.10, 0.25, 0.10, 1), 0.425, 0.0801183137),
        ((0.45, 0.10, 0.20, 0.06, 2), 0.3210548324, 0.1422555183),
        ((0.411, 0.037, 0.390, 0.219, 2.324), np.inf, 1.0),
    ],
)
def test_published_thresholds(given, threshold, least):
    found = optimal_threshold(*given)
    assert found == pytest.approx(threshold, abs=6e-11)
    assert threshold_cost(found, *given) == pytest.approx(least, abs=6e-11)
    assert cost(found, *given) == pytest.approx(least, abs=6e-11)


def test_published_coefficients_and_the_case_that_the_formula_misses():
    t = optimal_threshold(0.60, 0.12, 0.25, 0.08)
    assert np.polyval([0.008, 0.00048, -0.00160649622], t) == pytest.approx(0, abs=1e-11)
    assert cost(0.3601, 0.411, 0.037, 0.390, 0.219, 2.324) == pytest.approx(1.373, abs=5e-4)


def random_cases(count, seed=0):
    rng = np.random.default_rng(seed)
    sigma_pos, sigma_neg = rng.uniform(0.02, 0.3, (2, count))
    sigma_neg[:50] = sigma_pos[:50]
    mu_pos, mu_neg = rng.uniform(0.2, 0.9, count), rng.uniform(-0.1, 0.6, count)
    return mu_pos, sigma_pos, mu_neg, sigma_neg, rng.uniform(0.5, 4, count)


def test_no_threshold_of_a_fine_grid_is_better():
    given = random_cases(4000)
    found = optimal_threshold(*given)
    assert found.shape == (4000,) and (found >= 0).all()
    least = np.minimum(cost(np.inf, *given), cost(0.0, *given))
    for t in np.linspace(0, 1.6, 3201):
        np.minimum(least, cost(t, *given), out=least)
    ours = cost(found, *given)
    assert (ours <= least + 1e-12).all()
    assert np.abs(ours - least).max() < 1e-4  # the grid comes as close as its steps allow
    # All three kinds occur.
    assert all(part.sum() > 20 for part in (found == 0, np.isinf(found), (0 < found) & (found < 1)))


def test_where_the_densities_meet():
    mu_pos, sigma_pos, mu_neg, sigma_neg, alpha = given = random_cases(4000, seed=1)
    t = optimal_threshold(*given)
    inner = (t > 0) & np.isfinite(t)
    t, mp, sp, mn, sn, a = (x[inner] for x in (t, *given))
    present = np.exp(-(((t - mp) / sp) ** 2) / 2) / (sp * np.sqrt(2 * np.pi))
    absent = np.exp(-(((t - mn) / sn) ** 2) / 2) / (sn * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(present, a * absent, rtol=1e-9, atol=1e-12)


def test_the_papers_formula_alone_is_worse_somewhere():
    mp, sp, mn, sn, alpha = given = random_cases(4000, seed=2)
    a = sp**2 - sn**2
    b = 2 * (mp * sn**2 - mn * sp**2)
    c = (sp * mn) ** 2 - (sn * mp) ** 2 + 2 * (sp * sn) ** 2 * np.log(sn / (alpha * sp))
    with np.errstate(all="ignore"):
        formula = np.maximum((-b + np.sqrt(b**2 - 4 * a * c)) / (2 * a), 0)
    there = np.isfinite(formula)
    worse = cost(formula, *given)[there] > cost(optimal_threshold(*given), *given)[there] + 1e-9
    assert 10 < worse.sum() < 1000
    better = cost(formula, *given)[there] < cost(optimal_threshold(*given), *given)[there] - 1e-12
    assert not better.any()


spread = st.floats(0.02, 0.5)


@given(st.floats(0.3, 0.9), spread, st.floats(-0.2, 0.6), spread, st.floats(0.1, 5))
def test_a_worse_mistake_needs_a_higher_threshold(mu_pos, sigma_pos, mu_neg, sigma_neg, alpha):
    given = mu_pos, sigma_pos, mu_neg, sigma_neg
    assert optimal_threshold(*given, alpha) <= optimal_threshold(*given, 1.5 * alpha) + 1e-9


@given(st.floats(0.3, 0.9), st.floats(0.0, 0.3), spread, st.floats(-1e-9, 1e-9))
def test_equal_deviations_meet_in_the_middle(mu_pos, gap, sigma, off):
    mu_neg = mu_pos - gap - 0.05
    found = optimal_threshold(mu_pos, sigma + off, mu_neg, sigma, 1)
    if found > 0:
        assert found == pytest.approx(max((mu_pos + mu_neg) / 2, 0), abs=1e-6)


def test_thresholds_of_what_cannot_be_told_apart():
    assert optimal_threshold(0.4, 0.1, 0.4, 0.1, 2) == np.inf
    assert optimal_threshold(0.4, 0.1, 0.4, 0.1, 0.5) == 0
    assert optimal_threshold(0.3, 0.1, 0.5, 0.1, 2) == np.inf
    assert optimal_threshold([[0.6], [0.7]], 0.1, [0.2, 0.3, 0.1], 0.1).shape == (2, 3)


@pytest.mark.parametrize("change", [{"sigma_pos": 0}, {"sigma_neg": -1}, {"alpha": 0}])
def test_impossible_distributions_are_refused(change):
    given = {"mu_pos": 0.6, "sigma_pos": 0.1, "mu_neg": 0.2, "sigma_neg": 0.1, "alpha": 2, **change}
    with pytest.raises(LexLIPError, match="positive"):
        optimal_threshold(**given)

"""Rerankers over a store equal what is computed from the views themselves."""

from __future__ import annotations

from contextlib import closing
from types import SimpleNamespace

import numpy as np
import pytest

from lexlip.errors import LexLIPError
from lexlip.rerank.rerankers import RERANKERS, Filip, open_reranker
from lexlip.storage.forward import ForwardStore
from lexlip.storage.views import Views
from tests.test_layering import modules_after


class Heads:
    """The heads of a model, without the model."""

    token_size, gaussian_size = 16, 8

    def __init__(self, naaf_threshold=0.2):
        self.naaf_threshold = naaf_threshold

    def match_curve(self):
        return 3.0, 2.0

    def represent_text(self, texts, batch_size=128):
        raise AssertionError("rerankers encode nothing")

    represent_image = represent_text


MODEL = Heads()


def unit(rng, *shape):
    rows = rng.normal(size=shape).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def some(rng, n, positions=5, d=16, size=8):
    """Views of n items with 1 to `positions` tokens each."""
    counts = rng.integers(1, positions + 1, n).astype(np.int32)
    tokens = unit(rng, n, positions, d)
    tokens[np.arange(positions) >= counts[:, None]] = 0
    log_variance = rng.normal(-3, 1, (n, size)).astype(np.float32)
    return Views(tokens, counts, unit(rng, n, size), log_variance)


@pytest.fixture
def store(tmp_path, no_flush):
    views = some(np.random.default_rng(1), 6)
    with closing(ForwardStore(tmp_path / "views", "w", codec="float16")) as made:
        made.write(list("abcdef"), views)
        yield made, views


def expected(name, views, query):
    """Scores in float64, one pair after the other."""
    from math import exp, log, sqrt

    scores = []
    for i in range(len(views)):
        patches = views.tokens[i, : views.counts[i]].astype(np.float64)
        words = query.tokens[0, : query.counts[0]].astype(np.float64)
        cosines = patches @ words.T
        m1, m2 = views.mean[i].astype(np.float64), query.mean[0].astype(np.float64)
        v1, v2 = (
            np.exp(x.astype(np.float64)) for x in (views.log_variance[i], query.log_variance[0])
        )
        d, w = (m1 - m2) ** 2, v1 + v2
        bd = sum(d / w / 4) + sum(np.log(w / (2 * np.sqrt(v1 * v2)))) / 2
        scores.append(
            {
                "filip": cosines.max(0).mean(),
                "filip-i2t": cosines.max(1).mean(),
                "filip-avg": (cosines.max(0).mean() + cosines.max(1).mean()) / 2,
                "csd": -sum(d + w) + sum(v2) + 2,
                "mu": m1 @ m2,
                "w2": -sum(d + (np.sqrt(v1) - np.sqrt(v2)) ** 2),
                "elk": -sum(d / w + np.log(w) + log(2 * np.pi)) / 2,
                "bhattacharyya": -bd,
                "hellinger": -(1 - exp(-bd)),
                "jeffreys": -sum((d + v1) / v2 + (d + v2) / v1 - 2) / 2,
                "length": sqrt(sum(d)),
            }[name]
        )
    return scores


@pytest.mark.parametrize(
    "name", ["filip", "filip-i2t", "filip-avg", "csd", "mu", "w2", "elk", "bhattacharyya",
             "hellinger", "jeffreys"]
)  # fmt: skip
def test_scores_are_those_of_the_views(store, name):
    held, views = store
    query = some(np.random.default_rng(2), 1)
    scores = open_reranker(name, held, MODEL).score(query, list("abcdef"))
    assert scores.dtype == np.float32
    # Half precision is kept of what was written.
    np.testing.assert_allclose(scores, expected(name, views, query), rtol=0.02, atol=4e-3)


@pytest.mark.parametrize("codec", ["int8", "int8-token"])
def test_eight_bits_hardly_move_late_interaction(tmp_path, no_flush, codec):
    rng = np.random.default_rng(3)
    views, query = some(rng, 20), some(rng, 1)
    with closing(ForwardStore(tmp_path / "v", "w", codec=codec)) as held:
        held.write([str(i) for i in range(20)], views)
        scores = open_reranker("filip", held, MODEL).score(query, [str(i) for i in range(20)])
    np.testing.assert_allclose(scores, expected("filip", views, query), atol=0.01)


@pytest.mark.parametrize("name", RERANKERS)
def test_the_unknown_lose_and_nothing_is_nan(store, name):
    held, _ = store
    nothing = Views(np.zeros((1, 5, 16), np.float32), np.zeros(1, np.int32),
                    *(np.zeros((1, 8), np.float32) for _ in range(2)))  # fmt: skip
    held.write(["empty"], nothing)
    reranker = open_reranker(name, held, MODEL)
    query = some(np.random.default_rng(4), 1)
    scores = reranker.score(query, ["nobody", "a", "b", "c"])
    assert np.isfinite(scores).all() and scores[0] == scores[1:].min()
    assert reranker.score(query, []).shape == (0,)
    assert (reranker.score(query, ["nobody", "nothing"]) == 0).all()
    tokenless = reranker.score(query, ["empty", "a", "b"])
    assert np.isfinite(tokenless).all()
    if reranker.needs == "tokens":
        assert tokenless[0] == tokenless[1:].min()
        wordless = Views(np.zeros((1, 0, 16), np.float32), np.zeros(1, np.int32),
                         query.mean, query.log_variance)  # fmt: skip
        assert len(set(reranker.score(wordless, ["a", "b", "c"]).tolist())) == 1


def test_the_unknown_lose_against_a_sum_too(store):
    held, views = store
    one, other = some(np.random.default_rng(5), 1), some(np.random.default_rng(6), 1)
    reranker, ids = open_reranker("csd", held, MODEL), ["nobody", *"abcdef"]
    scores = reranker.score_sum([(2.0, one), (-3.0, other)], ids)
    wanted = 2 * reranker.score(one, ids) - 3 * reranker.score(other, ids)
    np.testing.assert_allclose(scores[1:], wanted[1:], rtol=1e-5)
    assert scores[0] == scores[1:].min() < wanted[0]  # least like `other`: that is no merit


@pytest.mark.parametrize("name", ["jeffreys", "bhattacharyya", "elk", "w2", "mc"])
def test_numbers_that_overflow_lose(store, name):
    held, views = store
    sure = Views(*(getattr(views.take([0]), part) for part in ("tokens", "counts", "mean")),
                 np.full((1, 8), -2000, np.float32))  # fmt: skip
    held.write(["sure"], sure)
    scores = open_reranker(name, held, MODEL).score(views.take([1]), ["sure", "a", "b", "c"])
    assert np.isfinite(scores).all()
    if name == "jeffreys":  # infinitely far
        assert scores[0] == scores[1:].min()


def test_what_cannot_be_opened_says_why(store):
    held, _ = store
    headless = Heads()
    headless.token_size = headless.gaussian_size = 0
    for model in (headless, SimpleNamespace()):  # also a query table
        for name in RERANKERS:
            with pytest.raises(LexLIPError, match="no heads to rerank with: use a model with"):
                open_reranker(name, held, model)
    with pytest.raises(LexLIPError, match="no mode 'both': use t2i, i2t or avg"):
        Filip(held, "both")


def test_naaf_fines_a_missing_word_and_scan_does_not(tmp_path, no_flush):
    axes = np.eye(4, dtype=np.float32)
    tokens = np.stack([axes[[0, 1]], axes[[0, 3]]])  # both things, and one of them
    nothing = np.zeros((2, 0), np.float32)
    query = Views(axes[[0, 1]][None], np.array([2], np.int32), nothing[:1], nothing[:1])
    with closing(ForwardStore(tmp_path / "v", "w")) as held:
        held.write(["both", "one"], Views(tokens, np.array([2, 2], np.int32), nothing, nothing))
        model = Heads(0.5)
        gaps = {}
        for name in ("naaf", "scan"):
            both, one = open_reranker(name, held, model).score(query, ["both", "one"])
            gaps[name] = both - one
        assert gaps["naaf"] > gaps["scan"] > 0
        with pytest.raises(LexLIPError, match="keeps no gaussians"):
            open_reranker("csd", held, model)
        with pytest.raises(LexLIPError, match="no reranker 'best'"):
            open_reranker("best", held, model)
        model.naaf_threshold = None
        with pytest.raises(LexLIPError, match="without NAAF"):
            open_reranker("naaf", held, model)


def test_codes_and_csd_are_scored_without_torch(tmp_path):
    code = f"""
import numpy as np
from lexlip.rerank.rerankers import Filip, Pcme
from lexlip.storage.forward import ForwardStore
from lexlip.storage.views import Views
from tests.test_layering import modules_after
ones = np.ones((2, 3), np.float32)
views = Views(np.ones((2, 4, 8), np.float32), np.array([4, 2], np.int32), ones, ones)
store = ForwardStore({str(tmp_path / "views")!r}, "w")
store.write(["a", "b"], views)
for reranker in (Filip(store), Pcme(store)):
    assert len(reranker.score(views.take([0]), ["a", "b"])) == 2
"""
    assert not modules_after(code) & {"torch", "transformers"}

"""The compiled scores against late interaction, and against plain loops."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lexlip.models.scores.late import late_interaction
from lexlip.rerank.kernel import late_scores, widened
from tests.support import rerank_oracles as oracles


def case(seed, candidates, positions, size, words, per_patch=False):
    """Codes with garbage after each candidate's own ones, and a query of unit vectors."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(-127, 128, (candidates, positions, size)).astype(np.int8)
    counts = rng.integers(0, positions + 1, candidates).astype(np.int32)
    norms = np.linalg.norm(codes.astype(np.float64), axis=2)
    scales = (1 / np.maximum(norms, 1)).astype(np.float32)
    if not per_patch:
        scales = scales.max(1, initial=0)
    query = rng.normal(size=(words, size))
    query /= np.linalg.norm(query, axis=1, keepdims=True)
    return codes, scales, counts, query.astype(np.float32)


@pytest.fixture(params=["numba", "numpy"], autouse=True, scope="module")
def road(request):
    """Run all tests on both roads: numba's loops, and numpy where it is not installed."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "numpy":
            patch.setattr("lexlip.rerank.kernel.loops", lambda *_: None)
        yield request.param


def decoded(codes, scales):
    return codes.astype(np.float64) * (scales[:, None] if scales.ndim == 1 else scales)[..., None]


def by_hand(codes, scales, counts, query):
    """[(t2i, i2t)] in plain loops."""
    vectors = decoded(codes, scales).tolist()
    found = [oracles.late(v[:n], query.tolist()) for v, n in zip(vectors, counts, strict=True)]
    return np.array(found).reshape(-1, 2)[:, ::-1]


@given(
    *(st.integers(0, 10**6), st.integers(0, 4), st.integers(1, 7), st.integers(1, 20)),
    *(st.integers(0, 10), st.booleans()),
)
def test_scores_are_those_of_loops(seed, candidates, positions, size, words, per_patch):
    given = case(seed, candidates, positions, size, words, per_patch)
    t2i, i2t = late_scores(*given)
    assert t2i.dtype == i2t.dtype == np.float32
    np.testing.assert_allclose(np.stack([t2i, i2t], 1), by_hand(*given), atol=2e-6)


@pytest.mark.parametrize(("positions", "words"), [(12, 12), (49, 1), (49, 13), (196, 12), (1, 3)])
@pytest.mark.parametrize("per_patch", [False, True])
def test_scores_are_late_interaction_to_the_rounding_of_float32(positions, words, per_patch):
    codes, scales, counts, query = case(1, 100, positions, 256, words, per_patch)
    counts[:3] = 0, 1, positions
    tokens = torch.from_numpy(decoded(codes, scales))
    mask = torch.arange(positions) < torch.from_numpy(counts)[:, None]
    words_mask = torch.ones(1, words, dtype=torch.bool)
    text = torch.from_numpy(query).double()[None]
    i2t, t2i = (s[:, 0].numpy() for s in late_interaction(tokens, mask, text, words_mask))
    found = late_scores(codes, scales, counts, query)
    np.testing.assert_allclose(found[0], t2i, atol=5e-7, rtol=0)
    np.testing.assert_allclose(found[1], i2t, atol=5e-7, rtol=0)
    assert found[0][0] == found[1][0] == -1


def test_padding_is_not_a_patch_at_cosine_0():
    codes = np.array([[[100, 0], [-100, 0], [0, 0]]], np.int8)
    negative = np.array([[[-100, 0], [-100, 0], [0, 0]]], np.int8)
    word = np.array([[1, 0]], np.float32)
    assert [s.item() for s in late_scores(codes, [0.01], [2], word)] == [1.0, 0.0]
    assert [s.item() for s in late_scores(negative, [0.01], [2], word)] == [-1.0, -1.0]
    # Nor is what fills up the words to a multiple of four a word.
    assert late_scores(negative, [0.005], [1], word)[1].item() == -0.5


def test_what_stands_beyond_the_counts_is_not_read():
    codes, scales, counts, query = case(5, 6, 9, 32, 5, per_patch=True)
    wanted = late_scores(codes, scales, counts, query)
    for k, n in enumerate(counts):
        codes[k, n:], scales[k, n:] = -128, np.nan
    for ours, before in zip(late_scores(codes, scales, counts, query), wanted, strict=True):
        assert ours.tolist() == before.tolist()


def test_nothing_to_compare():
    codes, scales, counts, query = case(2, 3, 4, 8, 5)
    for found in late_scores(codes, scales, counts, query[:0]):
        assert found.tolist() == [-1.0] * 3
    for found in late_scores(codes[:, :0], scales, counts * 0, query):
        assert found.tolist() == [-1.0] * 3
    for shape in ((0,), (0, 1), (0, 4)):
        for found in late_scores(codes[:0], np.zeros(shape), counts[:0], query):
            assert found.shape == (0,) and found.dtype == np.float32
    for found in late_scores(np.zeros((2, 0, 0), np.int8), [1, 1], [0, 0], np.zeros((0, 0))):
        assert found.tolist() == [-1.0] * 2


def test_the_order_of_patches_and_words_does_not_matter_and_memory_may_be_any():
    codes, scales, counts, query = case(3, 5, 6, 16, 7)
    counts[:] = 6
    wanted = late_scores(codes, scales, counts, query)
    wide = np.zeros((5, 12, 32), np.int8)
    wide[:, ::2, ::2] = codes
    for array in (codes, scales, counts, query):
        array.flags.writeable = False
    for c, q in (
        (codes[:, ::-1], query),
        (codes, query[::-1]),
        (wide[:, ::2, ::2], query.astype(np.float64)),
    ):
        for ours, before in zip(late_scores(c, scales, counts, q), wanted, strict=True):
            np.testing.assert_allclose(ours, before, atol=1e-6)


def test_a_picture_may_ask_for_captions():
    codes, scales, counts, patches = case(4, 6, 8, 16, 20)
    mask = torch.arange(8) < torch.from_numpy(counts)[:, None]
    words, image = torch.from_numpy(decoded(codes, scales)), torch.from_numpy(patches).double()
    everything = torch.ones(1, 20, dtype=torch.bool)
    i2t, t2i = late_interaction(image[None], everything, words, mask)
    found = late_scores(codes, scales, counts, patches)
    np.testing.assert_allclose(found[0], i2t[0], atol=1e-6)
    np.testing.assert_allclose(found[1], t2i[0], atol=1e-6)


def test_threads_do_not_disturb_each_other():
    given = [case(seed, 40, 30, 64, 6) for seed in range(4)]
    wanted = [[s.tolist() for s in late_scores(*one)] for one in given]
    wrong = []

    def work(number):
        for _ in range(20):
            if [s.tolist() for s in late_scores(*given[number])] != wanted[number]:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    "change",
    [
        {"scales": np.ones(2)},
        {"scales": np.ones((3, 2))},
        {"scales": np.float32(1)},
        {"counts": [1, 2]},
        {"counts": [1, 2, 5]},
        {"counts": [-1, 2, 3]},
        {"query": np.ones((2, 7))},
        {"query": np.ones(8)},
        {"codes": np.ones((3, 4, 8), np.float32)},
    ],
)
def test_what_does_not_fit_is_refused(change):
    codes, scales, counts, query = case(0, 3, 4, 8, 2)
    given = {"codes": codes, "scales": scales, "counts": counts, "query": query, **change}
    with pytest.raises(ValueError):
        late_scores(**given)


def test_every_half_becomes_the_same_float32():
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)]
    for halves in (finite, finite.reshape(2, -1)[:, ::3], finite[:0]):
        floats = widened(halves)
        assert floats.shape == halves.shape and floats.dtype == np.float32
        np.testing.assert_array_equal(
            floats.view(np.uint32), halves.astype(np.float32).view(np.uint32)
        )
    np.testing.assert_array_equal(widened(every), every.astype(np.float32))  # with inf and NaN

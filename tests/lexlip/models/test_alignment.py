"""Alignment: the word that each patch matches best."""

from __future__ import annotations

import numpy as np
import pytest

from lexlip.models.localisation.alignment import best_words
from tests.support import rerank_oracles as oracles


def test_planted_words_are_found_again():
    rng = np.random.default_rng(0)
    words, image = (rng.normal(size=(n, 16)).astype(np.float32) for n in (7, 49))
    words /= np.linalg.norm(words, axis=1, keepdims=True)
    image /= np.linalg.norm(image, axis=1, keepdims=True)
    planted = [3, 17, 18, 44]
    image[planted] = words[5]
    found, cosines = best_words(image, words)
    assert set(planted) <= set(np.flatnonzero(found == 5))
    np.testing.assert_allclose(cosines[planted], 1, atol=1e-6)
    for patch in range(49):
        each = [oracles.dot(image[patch].tolist(), word) for word in words.tolist()]
        assert found[patch] == each.index(max(each))
        assert cosines[patch] == pytest.approx(max(each), abs=1e-6)


def test_alignment_without_words_or_patches():
    found, cosines = best_words(np.ones((3, 4), np.float32), np.ones((0, 4), np.float32))
    assert found.tolist() == [-1] * 3 and cosines.tolist() == [-1.0] * 3
    assert best_words(np.ones((0, 4), np.float32), np.ones((2, 4), np.float32))[0].shape == (0,)

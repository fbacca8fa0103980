"""Words to try in an index: frequent and telling ones, and those near to an unknown word."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy.sparse import csr_array

from lexlip.engines import PostingsEngine
from lexlip.lexicon import Lexicon
from lexlip.query.frequent import FrequentWord, frequent_words, near, pairs, telling

WORDS = ("[PAD]", "the", "dog", "##gy", "red", "x", "sand", "2024", "beach", "star")


@pytest.fixture
def lexicon():
    return Lexicon(WORDS, np.arange(1, len(WORDS)))


@pytest.fixture
def index():
    """Forty documents that have each word with its own chance, and words behind the vocabulary."""
    engine = PostingsEngine()
    generator = np.random.default_rng(2)
    chances = np.tile(np.linspace(0.9, 0.1, len(WORDS)), 2)
    chances[len(WORDS) :] = chances[len(WORDS) :][::-1]
    matrix = (generator.random((40, 2 * len(WORDS))) < chances).astype(int)
    engine.add([f"{n}" for n in range(40)], csr_array(matrix))
    engine.commit()
    yield engine, matrix
    engine.close()


@pytest.mark.parametrize("said", [False, True])
def test_words_are_counted_and_those_that_say_nothing_left_out(index, lexicon, said):
    engine, matrix = index
    part = matrix[:, len(WORDS) :] if said else matrix[:, : len(WORDS)]
    counts = Counter(dict(zip(WORDS, part.sum(0).tolist(), strict=True)))
    expected = {word: counts[word] for word in ("dog", "red", "sand", "beach", "star")}
    found = frequent_words(engine, lexicon, said)
    assert dict(found) == expected
    assert [count for _, count in found] == sorted(expected.values(), reverse=True)


def test_the_most_general_words_are_not_offered():
    words = [FrequentWord(f"{a}{b}word", 2 * n + 2) for n, (a, b) in enumerate(
        (a, b) for a in "abcdefgh" for b in "klmnopqr")][::-1]  # fmt: skip
    chosen = telling(words, 130, 12)
    counts = [one.documents for one in chosen]
    assert len(chosen) == len(set(chosen)) == 12
    assert max(counts) <= 0.6 * 130 and min(counts) >= 3
    assert counts[0] in (16, 18, 20)  # 130 / e^2 = 17.6
    assert telling([], 0) == [] and telling([FrequentWord("dog", 1)], 1) == [FrequentWord("dog", 1)]


def test_pairs_stand_together(index, lexicon):
    engine, matrix = index
    words = frequent_words(engine, lexicon, False)
    found = pairs(engine, lexicon, words, False)
    assert found and len({word for pair in found for word in pair}) == 2 * len(found)
    for one, other in found:
        both = matrix[:, WORDS.index(one)] & matrix[:, WORDS.index(other)]
        assert both.any()


def test_near_words_are_written_alike():
    words = [FrequentWord(word, 5) for word in ("zebra", "beach", "zebras", "moon")]
    assert near("Zebrra on the baech", words) == ["zebra", "zebras", "beach"]
    assert near("quux", words) == []

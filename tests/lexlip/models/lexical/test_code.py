"""Word codes: identities of the algebra, and what they find on vectors with a planted gap."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from lexlip.models.lexical import code as module
from lexlip.models.lexical.code import WordCode, unit
from lexlip.models.lexical.learned import LearnedCode
from tests.support.cones import cones


@pytest.fixture(scope="module")
def world():
    return cones()


@pytest.fixture(scope="module")
def code(world):
    known = world.owner < 200
    return WordCode.fit(world.words, world.pictures[:200], world.captions[known])


def recall(scores, right, k):
    rank = (scores > scores[np.arange(len(right)), right][:, None]).sum(1)
    return (rank < k).mean()


def test_words_find_unseen_pictures_nearly_as_vectors_do(code, world):
    new = world.owner >= 200
    shown = code.centred(world.pictures[200:], "image")
    asked = code.centred(world.captions[new], "text")
    right = world.owner[new] - 200
    weights = code.encode(shown, terms=24)
    assert np.diff(weights.indptr).max() <= 24
    words = np.asarray(weights @ code.project(asked).T).T
    dense, raw = asked @ shown.T, unit(world.captions[new]) @ unit(world.pictures[200:]).T
    assert recall(dense, right, 1) > recall(raw, right, 1)  # centring alone
    assert recall(words, right, 5) > recall(dense, right, 5) - 0.05
    plain = WordCode.fit(world.words, world.pictures[:200])  # no captions: the plain metric
    rest = plain.encode(plain.centred(world.pictures[200:], "image"), terms=24)
    alone = np.asarray(rest @ plain.project(plain.centred(world.captions[new], "text")).T).T
    assert recall(words, right, 1) > recall(alone, right, 1)


def test_orthonormal_words_of_both_signs_lose_nothing(world, monkeypatch):
    monkeypatch.setattr(module, "PENALTY", 0.0)
    axes = np.eye(world.words.shape[1], dtype=np.float32)
    both = np.concatenate([axes, -axes])
    code = replace(WordCode.fit(both, world.pictures), map=axes, root=axes)
    shown, asked = (
        code.centred(world.pictures[:20], "image"), code.centred(world.captions[:30], "text")
    )  # fmt: skip
    scores = np.asarray(code.encode(shown, terms=len(both)) @ code.project(asked).T).T
    assert scores == pytest.approx(asked @ shown.T, abs=2e-3)


def test_a_score_is_the_product_with_what_the_words_add_up_to(code, world):
    shown = code.centred(world.pictures[:20], "image")
    asked = code.centred(world.captions[:5], "text")
    weights = code.encode(shown, terms=16)
    sums = weights @ code.decoder
    assert np.linalg.norm(sums, axis=1) == pytest.approx(1, abs=1e-5)
    assert np.asarray(weights @ code.project(asked).T) == pytest.approx(sums @ asked.T, abs=1e-6)


def test_another_order_of_words_is_the_same_code(world):
    order = np.random.default_rng(3).permutation(len(world.words))
    one = WordCode.fit(world.words, world.pictures[:100], world.captions)
    two = WordCode.fit(world.words[order], world.pictures[:100], world.captions)
    shown = one.centred(world.pictures[100:110], "image")
    assert one.encode(shown, 12).toarray()[:, order] == pytest.approx(
        two.encode(shown, 12).toarray(), abs=2e-3
    )
    # Where two words are as good as each other rounding decides, which moves the map a little.
    first, second = one.project(shown)[:, order], two.project(shown)
    assert np.linalg.norm(first - second) < 0.03 * np.linalg.norm(second)


def test_words_are_spent_where_captions_look(code, world):
    """The metric of the queries lowers what is lost of queries, and not what is lost at all."""
    new = world.owner >= 200
    asked = code.centred(world.captions[new], "text")
    shown = code.centred(world.pictures[200:], "image")
    plain = replace(code, root=np.eye(code.width, dtype=np.float32))
    lost, left = [], []
    for one in (code, plain):
        rest = shown - one._weights(shown, 24) @ one.atoms
        lost.append(np.square(rest @ asked.T).mean())
        left.append(np.square(rest).sum(1).mean())
    assert lost[0] < lost[1] and left[0] > left[1]


def test_said_words_are_near_and_unusual(code, world):
    shown = code.centred(world.pictures[:50], "image")
    said = code.said(shown)
    near = shown @ code.atoms.T
    z = (near - code.usual) / code.spread
    for row in range(50):
        span = slice(said.indptr[row], said.indptr[row + 1])
        words = said.indices[span]
        assert said.data[span] == pytest.approx(near[row, words], abs=1e-6)
        assert (z[row, words] > 1).all() and len(words) <= module.MOST_SAID
        others = np.setdiff1d(np.flatnonzero((z[row] > 1) & (near[row] > 0)), words)
        assert len(others) == 0 or near[row, others].max() <= said.data[span].min() + 1e-6


def test_words_that_find_are_positive_and_tell_pictures_apart(code, world):
    asked = code.project(code.centred(world.captions[:1], "text"))[0]
    chosen = code.choose(asked, 20)
    assert len(chosen) == 20 and (asked[chosen] > 0).all()
    worth = asked * code.use
    assert worth[chosen].min() >= np.sort(worth)[-20] - 1e-9
    assert list(chosen) == sorted(chosen, key=lambda word: -worth[word])
    assert len(code.choose(-np.abs(asked), 20)) == 0


def test_words_with_weights_become_the_vector_that_projects_on_them(code):
    words = np.array([3, 77, 150])
    weights = np.array([1.0, 0.5, -0.5], np.float32)
    vector = code.vector_of(words, weights)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    found = code.project(vector)[words]
    assert found / found[0] == pytest.approx(weights, abs=0.05)


def test_scores_of_words_and_pictures_are_counted_exactly(code, world):
    shown = code.centred(world.pictures[:7], "image")
    asked = code.centred(world.captions[:7], "text")
    mean, spread = code.word_scores(shown)
    near = shown @ code.atoms.T
    assert mean == pytest.approx(near.mean(1), abs=1e-5)
    assert spread == pytest.approx(near.std(1), abs=1e-4)
    _, over = code.picture_scores(asked)
    seen = code.centred(world.pictures[:200], "image")
    assert over == pytest.approx(np.sqrt(np.square(asked @ seen.T).mean(1)), abs=1e-4)


def test_the_constant_is_larger_for_a_picture_that_everything_asks_for(code, world):
    other = code.centred(world.pictures[:30], "image")
    hub = unit(code.bank[:1] + other[:1] / 9)
    liked = replace(code, bank=np.concatenate([np.repeat(code.bank[:1], 99, 0), code.bank]))
    constants = liked.constants(np.concatenate([hub, other]))
    assert constants[0] > constants[1:].max()
    constants = code.constants(np.concatenate([hub, other]))
    by_hand = 0.3 * 0.03 * np.log(np.exp((other[0] @ code.bank.T) / 0.03).mean())
    assert constants[1] == pytest.approx(by_hand, abs=1e-5)
    assert not WordCode.fit(world.words, world.pictures).constants(other).any()


def test_one_caption_is_no_bank(world):
    code = WordCode.fit(world.words, world.pictures[:50], world.captions[:1])
    plain = WordCode.fit(world.words, world.pictures[:50])
    shown = code.centred(world.pictures[50:55], "image")
    assert len(code.bank) == 0 and (code.encode(shown) != plain.encode(shown)).nnz == 0


def test_a_code_is_its_arrays(code, world):
    shown = code.centred(world.pictures[:3], "image")
    again = WordCode.of(code.arrays())
    assert (again.encode(shown) != code.encode(shown)).nnz == 0
    with pytest.raises(KeyError):
        WordCode.of({name: a for name, a in code.arrays().items() if name != "use"})
    with pytest.raises(ValueError, match="other shapes"):
        WordCode.of(code.arrays() | {"use": code.use[:-1]})


def test_a_learned_code_is_its_head(code, world):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal(code.atoms.shape).astype(np.float32)
    learned = LearnedCode(**code.arrays(), rows=rows, bias=np.full(len(rows), -1, np.float32))
    shown = learned.centred(world.pictures[:4], "image")
    weights = np.log1p(np.maximum(shown @ rows.T - 1, 0))
    assert learned.project(shown) == pytest.approx(weights, abs=1e-6)
    coded = learned.encode(shown, 10)
    assert np.diff(coded.indptr).max() <= 10
    assert np.linalg.norm(coded.toarray(), axis=1) == pytest.approx(1, abs=1e-6)
    assert weights[0][learned.choose(weights[0], 5)].tolist() == sorted(weights[0])[::-1][:5]
    assert type(LearnedCode.of(learned.arrays())) is LearnedCode


def test_words_need_no_torch():
    program = (
        "import sys; import numpy as np; import lexlip.models.lexical.speaker, "
        "lexlip.models.lexical.lexicalise; from lexlip.models.lexical.code import WordCode; "
        "rng = np.random.default_rng(0); "
        "code = WordCode.fit(rng.normal(size=(40, 8)), rng.normal(size=(90, 8))); "
        "code.encode(code.centred(rng.normal(size=(3, 8)), 'image'), 4); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0

"""Joint queries: which pictures are right, and that what is counted is what was asked."""

from __future__ import annotations

import numpy as np
import pytest

from eval.studies import joint
from eval.studies.planted import Drawn
from lexlip.data.scenes import make_scenes
from lexlip.impacts import document_impacts
from lexlip.query.query import Query


@pytest.fixture(scope="module")
def drawn():
    return Drawn(make_scenes(150, seed=3, size=32))


@pytest.fixture(scope="module")
def asked(drawn):
    return joint.pairs(drawn.scenes, few=2)


def has(scene, thing):
    """What a thing means, said again: exactly one, of that shape or colour."""
    return [
        number
        for number, group in enumerate(scene.groups)
        if group.count == 1 and thing.word in (group.shape, group.colour)
    ]


def test_what_is_right_for_a_pair(drawn, asked):
    assert len(asked) > 20
    for pair in asked:
        assert pair.a.word in pair.a.text.split()
        for scene in drawn.scenes:
            a, b = has(scene, pair.a), has(scene, pair.b)
            different = any(x != y for x in a for y in b)
            assert (scene.id in pair.both) == different
            assert (scene.id in pair.only_a) == (bool(a) and not b)
            assert (scene.id in pair.has_a, scene.id in pair.has_b) == (bool(a), bool(b))


def test_shares_are_those_of_a_search_by_hand(model, drawn, asked):
    known = [
        p for p in asked if {p.a.word, p.b.word} <= {"red", "circle", "star", "blue", "square"}
    ]
    assert known
    sparse = joint.Sparse(model, drawn)

    class Vectors:
        def encode_document(self, images):
            return np.eye(len(images), 4, dtype=np.float32)

        def encode_query(self, texts):
            return np.array([[len(t), t.count("a"), 1, 0] for t in texts], dtype=np.float32)

    dense = joint.Dense(Vectors(), drawn)
    found = joint.measure(sparse, dense, known)
    images = [drawn.image(i) for i in range(len(drawn))]
    impacts = document_impacts(model.encode_image(images), 64)[0].toarray()
    totals = {name: [] for name in ("A + B", "A - B", "A -word")}
    for pair in known:
        a, b = Query.text(pair.a.text), Query.text(pair.b.text)
        column = model.lexicon.tokens.index(pair.b.word)
        for name, query, right in (
            ("A + B", a + b, pair.both), ("A - B", a - b, pair.only_a), ("A -word", a, pair.only_a)
        ):  # fmt: skip
            terms = query.prepare(model).terms
            scores = sum(impacts[:, t].astype(int) * w for t, w in terms.items())
            matched = sum((impacts[:, t] > 0) for t, w in terms.items() if w > 0) > 0
            if name == "A -word":
                matched = matched & (impacts[:, column] == 0)
            order = sorted(np.flatnonzero(matched), key=lambda i: (-scores[i], drawn.ids[i]))[:10]
            totals[name].append(len(right & {drawn.ids[i] for i in order}) / 10)
    assert found["and"]["A + B"] == pytest.approx(np.mean(totals["A + B"]))
    assert found["not"]["A - B"] == pytest.approx(np.mean(totals["A - B"]))
    assert found["not"]["A -word"] == pytest.approx(np.mean(totals["A -word"]))
    by_hand = []
    for pair in known:
        one, two = len(pair.a.text), len(pair.b.text)
        row = np.array([one + two, pair.a.text.count("a") + pair.b.text.count("a"), 2, 0])
        best = np.argsort(-(np.eye(150, 4) @ row), kind="stable")[:10]
        by_hand.append(len(pair.both & {drawn.ids[i] for i in best}) / 10)
    assert found["and"]["dense: A + B"] == pytest.approx(np.mean(by_hand))
    assert [row["weight"] for row in found["weights"]] == list(joint.WEIGHTS)
    assert "A + B" in joint.table(found)
    sparse.engine.close()

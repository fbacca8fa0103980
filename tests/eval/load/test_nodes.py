"""The study of nodes that die: how answers are judged."""

from __future__ import annotations

import json

from eval.load.nodes import answer_of, judged, shares


def hit(name, score):
    return {"id": name, "score": score, "words": [], "image": "token"}


def test_a_part_is_no_right_answer():
    wanted = answer_of(json.dumps({"hits": [hit("a", 3), hit("b", 2)], "cost": {}}).encode())
    assert judged(wanted, wanted) == "right"
    assert judged(wanted[:1], wanted) == judged([], wanted) == "partial"
    assert judged([("a", 2, [])], wanted) == "wrong"
    assert judged([("c", 1, []), *wanted], wanted) == "wrong"


def test_shares_are_milliseconds():
    assert shares([0.001] * 95 + [0.1] * 5)["p50"] == 1.0
    assert 1.0 <= shares([0.001] * 95 + [0.1] * 5)["p95"] <= 100.0

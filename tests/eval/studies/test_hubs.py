"""Hub study: constants take hubs back, and the halves of the queries judge each other."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from eval.studies import hubs
from lexlip.models.dense_control import DenseDualEncoder


def test_constants_by_hand():
    bank = np.array([[0.2, 0.9], [0.4, 0.9]])
    soft = 0.05 * math.log((math.exp(0.2 / 0.05) + math.exp(0.4 / 0.05)) / 2)
    assert hubs.constants(bank, 0.05).tolist() == pytest.approx([soft, 0.9])


def test_a_hub_no_longer_hides_what_is_right():
    rng = np.random.default_rng(0)
    relevant = np.arange(200)[:, None] // 5 == np.arange(40)
    scores = 0.3 * relevant + rng.normal(0, 0.02, relevant.shape)
    bank = rng.normal(0, 0.02, (300, 40))
    scores[:, 7] += 0.4  # near to everything
    bank[:, 7] += 0.4
    found = hubs.measure(scores, bank, relevant)
    assert found["before"]["R@1"] == pytest.approx(5 / 200)
    assert found["after"]["R@1"] == 1
    assert all(share > 0 for share, _ in found["chosen"].values())
    # Without hubs there is nothing to win, and nothing is lost.
    scores[:, 7] -= 0.4
    bank[:, 7] -= 0.4
    assert hubs.measure(scores, bank, relevant)["after"]["R@1"] == 1


def test_hits_are_in_the_order_of_scores():
    relevant = np.array([[False, True, False], [True, False, False]])
    scores = np.array([[3.0, 2.0, 1.0], [1.0, 1.0, 1.0]])
    assert hubs.hits(scores, relevant).tolist() == [[False, True, True], [True, True, True]]


def test_the_job_measures_words_and_vectors(checkpoint, make_model, tiny_run, tmp_path, capsys):
    dense = tmp_path / "dense"
    make_model(kind=DenseDualEncoder).save_pretrained(dense)
    chosen = [f"model={checkpoint}", f"dense={dense}", f"out={tmp_path}", "bank=12"]
    hubs.main(chosen, tiny_run, None)
    found = json.loads((tmp_path / "hubs.json").read_text())
    assert found.keys() == {"words", "dense"}
    assert found["dense"].keys() == {"t2i", "i2t"}
    assert {"i2t, 32 terms", "i2t, 64 terms"} < found["words"].keys()
    for directions in found.values():
        for one in directions.values():
            assert one["before"] == one["grid"]["0.0 0.01"]
            assert all(0 <= v <= 1 for v in one["after"].values())
    table = capsys.readouterr().out.splitlines()
    assert sum(line.startswith(("| words", "| dense")) for line in table) == 6

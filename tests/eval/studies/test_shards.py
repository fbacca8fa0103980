"""Searches over shards: measured on real ones, simulated for many."""

from __future__ import annotations

import numpy as np
import pytest

from eval.studies import shards
from lexlip.errors import LexLIPError


def test_a_search_waits_for_its_slowest_shard():
    rng = np.random.default_rng(0)
    times = rng.exponential(1.0, (40, 5, 1))
    found = shards.simulate(times, 100, 4000, hop=2.0, merge=0.5)
    values = np.sort(times.ravel())
    # P(max of 100 <= t) = F(t) ** 100, of the measured F.
    shares = (np.arange(1, 201) / 200) ** 100
    for quantile in (0.1, 0.5, 0.9):
        wanted = values[np.searchsorted(shares, quantile)] + 2.5
        near = values[np.clip(np.searchsorted(values, wanted - 2.5) + [-2, 2], 0, 199)] + 2.5
        assert near[0] <= np.quantile(found, quantile) <= near[1]


def test_slow_queries_are_slow_on_all_shards():
    times = np.array([1.0, 9.0])[None, None].repeat(3, 0).repeat(4, 1)
    found = shards.simulate(times, 1000, 2000)
    assert set(found.tolist()) == {1.0, 9.0} and 800 < (found == 9).sum() < 1200


def test_a_second_copy_cuts_off_pauses():
    times = np.ones((100, 10, 1))
    times[0, 0] = 500.0  # one pause in a thousand
    plain = shards.simulate(times, 100, 5000)
    hedged = shards.simulate(times, 100, 5000, hedge=2.0)
    assert np.mean(plain == 500) == pytest.approx(1 - 0.999**100, abs=0.02)
    assert np.quantile(hedged, 0.99) == 3.0 and np.mean(hedged > 3) < 0.001


def test_real_shards_are_measured(tmp_path, capsys):
    out = tmp_path / "shards.json"
    shards.app(
        ["documents=300", "shards=3", "queries=6", "rounds=2", "k=5", "many=3,30", f"out={out}"],
        standalone_mode=False,
    )
    printed = capsys.readouterr().out
    assert out.is_file() and "slowest of 3, measured" in printed
    found = shards.run(
        shards.Settings(documents=200, shards=2, queries=5, rounds=2, many=(20,), searches=50)
    )
    assert [row["shards"] for row in found["rows"]] == [2, 20]
    assert 0 < found["shard_ms"][0] <= found["measured_ms"][0]
    assert found["rows"][0]["ms"][0] <= found["rows"][1]["ms"][0]


@pytest.mark.parametrize("wrong", [{"shards": 0}, {"many": (0,)}, {"hedge": 100}])
def test_impossible_numbers_are_refused(wrong):
    with pytest.raises(LexLIPError, match="1 or more"):
        shards.run(shards.Settings(**wrong))

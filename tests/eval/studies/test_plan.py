"""A plan for an index of any size, from what was measured."""

from __future__ import annotations

import json

import pytest

from eval.studies import plan
from lexlip.errors import LexLIPError


@pytest.fixture
def metrics(tmp_path):
    """A race of two engines, at three sizes and at one."""
    rows = [
        {
            "engine": "postings",
            "data": "light",
            "n": n,
            "qps": 1000 / (0.5 + n * 2e-6),
            "bytes_per_image": 1e7 / n + 100,
        }
        for n in (1000, 100_000, 10_000)
    ]
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps({"rows": rows}))
    return path


def test_the_plan_follows_from_the_two_largest_sizes(metrics, capsys):
    settings = plan.Settings(
        (str(metrics),), pictures=20_000_000, shard=1_000_000, rate=50, busy=0.5
    )
    found = plan.plans(settings)["postings"]
    assert found["shards"] == 20 and found["ms"] == pytest.approx(2.5)
    assert found["gb"] == pytest.approx(4.0) and found["shard_gb"] == pytest.approx(0.2)
    assert found["core_s"] == pytest.approx(0.05) and found["cores"] == 5
    assert found["million"] == pytest.approx(0.05 * 1e6 / 3600 * 0.04 / 0.5)
    assert found["month"] == pytest.approx(5 * 730 * 0.04 + 2 * 4 * 3.0)
    plan.app([f"metrics={metrics}", "pictures=20000000"], standalone_mode=False)
    assert "postings" in capsys.readouterr().out


def test_races_are_taken_together(metrics, tmp_path):
    rows = json.loads(metrics.read_text())["rows"]
    (tmp_path / "small.json").write_text(json.dumps({"rows": rows[:1]}))
    (tmp_path / "large.json").write_text(json.dumps({"rows": rows[1:2]}))
    files = tuple(str(tmp_path / name) for name in ("small.json", "large.json"))
    assert plan.plans(plan.Settings(files))["postings"]["ms"] == pytest.approx(10.5)


def test_an_index_smaller_than_a_shard_is_one(metrics):
    found = plan.plans(plan.Settings((str(metrics),), pictures=1000))["postings"]
    assert found["shards"] == 1 and found["ms"] == pytest.approx(0.502)


def test_growth_needs_two_sizes():
    with pytest.raises(LexLIPError, match="lucene was measured at one size"):
        plan.Growth.of([{"engine": "lucene", "n": 10, "qps": 1.0, "bytes_per_image": 1.0}])


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"shard": 0}, "1 or more"),
        ({"busy": 0.0}, "busy 0 to 1"),
        ({"metrics": ()}, "no race: give metrics="),
        ({"data": "heavy"}, "no race of heavy"),
    ],
)
def test_a_plan_of_nothing_is_refused(metrics, wrong, said):
    with pytest.raises(LexLIPError, match=said):
        plan.plans(plan.Settings(**({"metrics": (str(metrics),)} | wrong)))

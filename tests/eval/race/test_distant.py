"""Engines on servers in the race: exact there, too, and measured where they are."""

from __future__ import annotations

import pytest

from eval.race import engines
from eval.race.engines import Settings


@pytest.mark.engine
@pytest.mark.xdist_group("opensearch")
def test_opensearch_runs_beside_ours(opensearch, tmp_path, monkeypatch):
    monkeypatch.setenv("LEXLIP_OPENSEARCH_URL", opensearch.url)
    settings = Settings(
        out=str(tmp_path / "out"),
        scratch=str(tmp_path),
        data=("light",),
        documents=(200,),
        engine=("postings", "opensearch"),
        queries=20,
        rounds=1,
        seconds=2.0,
        checked=20,
    )
    found = {row["engine"]: row for row in engines.run(settings)["rows"]}
    assert found.keys() == {"postings", "opensearch"}
    there = found["opensearch"]
    assert there["recall_at_10"] == 1 and there["queries"] == 20
    assert there["bytes_per_image"] > 100  # of the cluster, not of the folder
    assert there["p50_ms"] <= there["p95_ms"] <= there["p99_ms"]

"""Searches of processes that search once: numpy finds what the kernel finds, and loads no numba."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy.sparse import csr_array

from lexlip.engines.postings import Segment, plain, segment
from lexlip.engines.postings.layout import BLOCK
from lexlip.errors import LexLIPError
from lexlip.storage import one_off, vectors
from lexlip.storage.products import products
from tests.lexlip.engines.postings.test_segment import expected, found, make, random_impacts


@pytest.fixture
def once(monkeypatch):
    """A process that says that it searches once, whatever was loaded."""
    monkeypatch.setattr(segment, "prefers_numpy", lambda entries: True)


@pytest.mark.parametrize("n", [1, 7, 300, BLOCK + 77])
def test_numpy_finds_the_hits_of_the_kernel(tmp_path, once, n):
    rng = np.random.default_rng(n)
    impacts = random_impacts(rng, n, 14, share=0.2, high=5)
    impacts[:, 3], impacts[:, 5] = 0, np.maximum(impacts[:, 5], 1)
    part = make(tmp_path / "segment", impacts)
    for trial in range(12):
        count = int(rng.integers(1, 9))
        chosen = rng.choice(20, count, replace=False).tolist()  # some are beyond the segment
        terms = {term: int(rng.integers(1, 65)) for term in chosen}
        alive = None if trial % 2 else (rng.random(n) < 0.5).astype(np.uint8)
        for k in (1, 10, n + 1):
            assert found(part, terms, k, alive) == expected(impacts, terms, k, alive)


def test_corrupted_postings_are_one_line(tmp_path, once):
    part = make(
        tmp_path / "segment",
        np.full((BLOCK * 2, 1), 3, np.int32) * (np.arange(2 * BLOCK) % 9 == 0)[:, None],
    )
    part._arrays["directory"] = np.zeros_like(part._arrays["directory"])
    with pytest.raises(LexLIPError, match="damaged"):
        part.search({0: 1}, 3)


def test_much_work_is_compiled(tmp_path):
    impacts = csr_array(np.ones((50, 3), np.int32))
    Segment.write(tmp_path / "segment", impacts)
    table = Segment.open(tmp_path / "segment")._table
    assert plain.entries(table, {0: 1, 2: 5, 9: 1}) == 150
    assert not one_off.prefers_numpy(150)  # a process says so first


def test_products_of_numpy_are_those_of_the_kernel():
    rng = np.random.default_rng(0)
    codes = rng.integers(-127, 128, (40, 24)).astype(np.int8)
    rows, query = rng.integers(0, 40, 30), rng.standard_normal(24).astype(np.float32)
    ours, theirs = vectors._one_by_one(codes, rows, query), products(codes, rows, query)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-3)
    assert ours[0] == vectors._one_by_one(codes, rows[:1], query)[0]


def test_one_search_loads_no_numba(tmp_path):
    Segment.write(tmp_path / "segment", csr_array(np.ones((50, 3), np.int32)))
    script = f"""
import sys
from pathlib import Path
from lexlip.engines.postings import Segment
from lexlip.storage.one_off import search_once
search_once()
print(Segment.open(Path({str(tmp_path / "segment")!r})).search({{1: 2}}, 1)[1].tolist())
print("numba" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == ["[2]", "False"], done.stderr

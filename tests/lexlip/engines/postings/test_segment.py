"""Segments of postings against dot products, through damage, and from two threads at once."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from lexlip.engines.postings import Segment, build, layout, restore
from lexlip.engines.postings.layout import (
    BLOCK,
    COMMON,
    COMMON_SHARE,
    DENSE,
    DENSE_SHARE,
    DTYPES,
    RARE,
)
from lexlip.errors import LexLIPError
from lexlip.impacts import MAX_IMPACT, MAX_QUERY_TERMS, MAX_QUERY_WEIGHT

REPOSITORY = Path(__file__).resolve().parents[4]


@pytest.fixture(params=["numba", "numpy"], autouse=True, scope="module")
def road(request):
    """Run all tests on both roads: numba's loops, and numpy where it is not installed."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "numpy":
            patch.setattr("lexlip.engines.postings.segment.loops", lambda *_: None)
        yield request.param


def random_impacts(rng, n, v, share=0.1, high=MAX_IMPACT):
    """Return [n, v] impacts; `share` is drawn anew for each term, so some lists are dense."""
    shares = share * rng.random(v) * 2
    return (rng.integers(1, high + 1, size=(n, v)) * (rng.random((n, v)) < shares)).astype(np.int32)


def expected(impacts, terms, k, alive=None):
    """Return what a search must find: a scipy product, sorted by (-score, document)."""
    matrix = csr_array(impacts).astype(np.int64)
    query = np.zeros(matrix.shape[1], dtype=np.int64)
    for term, weight in terms.items():
        if term < query.size:
            query[term] = weight
    scores = matrix @ query
    if alive is not None:
        scores[alive == 0] = 0
    order = sorted(np.flatnonzero(scores).tolist(), key=lambda d: (-scores[d], d))[:k]
    return order, scores[order].tolist()


def found(segment, terms, k, alive=None):
    documents, scores = segment.search(terms, k, alive)
    assert documents.dtype == scores.dtype == np.int32
    return documents.tolist(), scores.tolist()


def make(folder, impacts):
    Segment.write(folder, csr_array(impacts))
    return Segment.open(folder)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A segment of three blocks with rare, common and dense terms, and its impacts."""
    rng = np.random.default_rng(1)
    impacts = random_impacts(rng, 2 * BLOCK + 77, 12, share=0.12, high=9)
    impacts[:, 3] = 0
    impacts[[5, BLOCK + 1], 3] = 200  # rarer than there are blocks
    impacts[:, 4] = np.maximum(impacts[:, 4], 1)  # in every document
    impacts[:BLOCK, 5] = 0
    impacts[:, 6] = 0  # a term that no document has
    impacts[rng.random(impacts.shape[0]) > 0.1, 7] = 0  # 1 % of the documents: few a block
    impacts[rng.random(impacts.shape[0]) > 0.02, 8] = 0  # rare, but more than there are blocks
    impacts[40:60] = 0
    return make(tmp_path_factory.mktemp("large") / "segment", impacts), impacts


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_finds_what_a_product_finds(tmp_path, data):
    seed = data.draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    n, v = data.draw(st.integers(0, 700)), data.draw(st.integers(1, 40))
    high = data.draw(st.sampled_from([1, 3, MAX_IMPACT]))
    impacts = random_impacts(rng, n, v, data.draw(st.sampled_from([0.01, 0.1, 0.5])), high)
    folder = tmp_path / "segment"
    shutil.rmtree(folder, ignore_errors=True)
    segment = make(folder, impacts)
    weight = st.sampled_from([1, 2, MAX_QUERY_WEIGHT])
    terms = data.draw(st.dictionaries(st.integers(0, v + 3), weight, max_size=12))
    alive = None
    if data.draw(st.booleans()):
        alive = (rng.random(n) < 0.5).astype(np.uint8)
    for k in (1, 3, n + 5):
        assert found(segment, terms, k, alive) == expected(impacts, terms, k, alive)
    back = segment.impacts()
    assert back.dtype == np.int32 and back.has_canonical_format and back.shape == (n, v)
    assert (back.toarray() == impacts).all() and segment.postings == back.nnz
    for d in range(min(n, 20)):
        wanted = {t: int(impacts[d, t]) for t in terms if t < v and impacts[d, t]}
        assert segment.contributions(d, terms) == wanted


@pytest.mark.parametrize("seed", range(20))
def test_many_blocks(large, seed):
    segment, impacts = large
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 13))
    chosen = rng.choice(12, size=size, replace=False).tolist()
    if seed % 2:  # few postings a block are searched in another way than many
        chosen = [[3], [3, 7], [7, 8], [3, 7, 8]][seed // 2 % 4]
    terms = {t: int(rng.integers(1, 3)) for t in chosen}
    alive = [None, rng.integers(0, 2, len(segment)), rng.random(len(segment)) < 0.001][seed % 3]
    if alive is not None:
        alive = alive.astype(np.uint8)
    for k in (1, 10, 1000, 10_000):
        assert found(segment, terms, k, alive) == expected(impacts, terms, k, alive)


def test_round_trip_of_many_blocks(large):
    segment, impacts = large
    assert (segment.impacts().toarray() == impacts).all()
    assert len(segment) == impacts.shape[0] and segment.width == impacts.shape[1]
    for d in (0, 5, 6, 50, BLOCK - 1, BLOCK, BLOCK + 1, len(segment) - 1):
        wanted = {t: int(impacts[d, t]) for t in range(12) if impacts[d, t]}
        assert segment.contributions(d, [*range(14), 10**9, 10**30]) == wanted


def test_memory_is_saved_in_pieces_that_do_not_show(large, tmp_path, monkeypatch):
    _, impacts = large
    Segment.write(tmp_path / "whole", csr_array(impacts))
    monkeypatch.setattr(build, "_PIECE", 3000)
    monkeypatch.setattr(restore, "_PIECE", 3000)
    segment = make(tmp_path / "pieces", impacts)
    for path in sorted((tmp_path / "whole").iterdir()):
        assert path.read_bytes() == (tmp_path / "pieces" / path.name).read_bytes()
    assert (segment.impacts().toarray() == impacts).all()


def kinds(folder):
    """Return the kind of each term that occurs."""
    _, _, table = layout.read(folder)
    return dict(zip(table.terms.tolist(), table.kinds.tolist(), strict=True))


def test_how_often_a_term_occurs_says_how_it_lies_on_disk(tmp_path):
    """On both sides of both limits; what each takes is counted by hand."""
    n = 4 * COMMON_SHARE * DENSE_SHARE
    impacts = np.zeros((n, 6), dtype=np.int32)
    for term, step in enumerate([2, DENSE_SHARE, DENSE_SHARE + 1, COMMON_SHARE, COMMON_SHARE + 4]):
        impacts[::step, term] = 255 - term
    impacts[[3, n - 1], 5] = 9
    segment = make(tmp_path / "s", impacts)
    assert kinds(tmp_path / "s") == {0: DENSE, 1: COMMON, 2: COMMON, 3: RARE, 4: RARE, 5: RARE}
    rare = sum(int((impacts[:, t] > 0).sum()) for t in (3, 4, 5))
    common = sum(int((impacts[:, t] > 0).sum()) for t in (1, 2))
    sizes = {name: np.load(tmp_path / "s" / f"{name}.npy").nbytes for name in DTYPES}
    assert sizes == {
        "terms": 12, "sizes": 12, "directory": 0, "documents": 2 * rare, "impacts": rare,
        "steps": 2 * common, "dense": n,
    }  # fmt: skip
    assert (segment.impacts().toarray() == impacts).all()


@pytest.mark.parametrize("gap", [1, 254, 255, 256, 257, 510, 511, 512, 3000])
def test_steps_longer_than_a_byte_are_bridged(tmp_path, gap):
    """Common terms whose documents lie together, then far apart, also across blocks."""
    n = BLOCK + 4000
    impacts = np.zeros((n, 2), dtype=np.int32)
    ends = [300, 300 + gap, BLOCK - 1, BLOCK - 1 + gap, BLOCK + gap]
    impacts[:300, 0] = 7
    impacts[ends, 0] = [1, 2, 255, 3, 4]
    impacts[gap :: n // 2, 1] = 5
    impacts[gap::4, 1] = 6
    segment = make(tmp_path / "s", impacts)
    assert kinds(tmp_path / "s") == {0: COMMON, 1: COMMON}
    assert (segment.impacts().toarray() == impacts).all()
    assert np.flatnonzero(segment.having(0, 8)).tolist() == [BLOCK - 1]
    for d in (0, gap, *ends, n - 1):
        wanted = {t: int(impacts[d, t]) for t in (0, 1) if impacts[d, t]}
        assert segment.contributions(d, [0, 1]) == wanted
    for terms in ({0: 3}, {1: 2}, {0: 1, 1: 64}):
        assert found(segment, terms, n) == expected(impacts, terms, n)


def test_a_sparse_term_that_fills_a_block(tmp_path):
    """Documents in topical order: 16,384 postings in one block, none in the others."""
    impacts = np.zeros((DENSE_SHARE * BLOCK + 1, 1), dtype=np.int32)
    impacts[BLOCK : 2 * BLOCK] = 7
    segment = make(tmp_path / "segment", impacts)
    assert found(segment, {0: 2}, 2) == ([BLOCK, BLOCK + 1], [14, 14])
    assert (segment.impacts().toarray() == impacts).all()


def test_the_largest_query_is_exact(tmp_path):
    impacts = np.full((3, MAX_QUERY_TERMS), MAX_IMPACT)
    impacts[1, 0] = 254
    segment = make(tmp_path / "dense", impacts)
    terms = dict.fromkeys(range(MAX_QUERY_TERMS), MAX_QUERY_WEIGHT)
    top = MAX_QUERY_TERMS * MAX_IMPACT * MAX_QUERY_WEIGHT
    assert found(segment, terms, 5) == ([0, 2, 1], [top, top, top - MAX_QUERY_WEIGHT])
    sparse = np.zeros((50, MAX_QUERY_TERMS), dtype=np.int32)
    sparse[[7, 30]] = MAX_IMPACT
    assert found(make(tmp_path / "sparse", sparse), terms, 5) == ([7, 30], [top, top])


def test_no_documents_no_terms_no_hits(tmp_path):
    empty = make(tmp_path / "empty", np.zeros((0, 5), dtype=np.int32))
    assert found(empty, {1: 1}, 3) == ([], []) and len(empty) == empty.postings == 0
    assert empty.impacts().shape == (0, 5)
    blank = make(tmp_path / "blank", np.zeros((4, 5), dtype=np.int32))
    assert found(blank, {1: 1}, 3) == ([], []) and blank.contributions(3, [1]) == {}
    one = make(tmp_path / "one", np.array([[0, 3]]))
    assert found(one, {1: 2}, 9) == ([0], [6])
    for terms in ({}, {0: 1}, {7: 1}, {10**30: 1}):
        assert found(one, terms, 9) == ([], [])
    assert found(one, {1: 1}, 9, np.zeros(1, dtype=np.uint8)) == ([], [])
    with pytest.raises(IndexError):
        one.contributions(1, [1])
    with pytest.raises(LexLIPError, match="mask"):
        one.search({1: 1}, 9, np.ones(2, dtype=np.uint8))


def test_duplicates_are_summed_and_zeros_are_no_postings(tmp_path):
    rows = csr_array((np.array([1, 2, 0]), np.array([1, 1, 0]), np.array([0, 3])), shape=(1, 2))
    Segment.write(tmp_path / "s", rows)
    assert Segment.open(tmp_path / "s").impacts().toarray().tolist() == [[0, 3]]
    assert rows.nnz == 3  # the caller's matrix is left alone


@pytest.mark.parametrize("impacts", [[[0, 256]], [[-1, 2]], [[0.5, 1.0]]])
def test_what_is_no_impact_is_refused_and_nothing_written(tmp_path, impacts):
    with pytest.raises(LexLIPError):
        Segment.write(tmp_path / "s", csr_array(impacts))
    assert not (tmp_path / "s").exists()


def test_two_threads_find_the_same(large):
    segment, impacts = large
    queries = [{t: 1 + t % 3, (t + 1) % 12: 2} for t in range(12)]
    wanted = [expected(impacts, terms, 50) for terms in queries]
    wrong = []

    def work():
        for _ in range(10):
            for terms, want in zip(queries, wanted, strict=True):
                if found(segment, terms, 50) != want:
                    wrong.append(terms)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.fixture
def folder(large, tmp_path):
    """A folder that a test may damage."""
    rng = np.random.default_rng(2)
    impacts = random_impacts(rng, BLOCK + 500, 6, share=0.05)
    impacts[:, 0] = 3  # a dense term
    impacts[rng.random(BLOCK + 500) > 0.05, 1] = 0  # a rare one
    Segment.write(tmp_path / "s", csr_array(impacts))
    return tmp_path / "s"


def refused(folder):
    with pytest.raises(LexLIPError) as caught:
        Segment.open(folder)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


def test_missing_and_foreign_folders_are_refused(tmp_path, folder):
    refused(tmp_path / "nothing")
    refused(tmp_path)
    for text in ("", "[]", '{"format": "lexlip-segment-999"}', "\xff"):
        (folder / "segment.json").write_text(text, encoding="latin-1")
        refused(folder)


@pytest.mark.parametrize("key", ["documents", "width", "postings"])
@pytest.mark.parametrize("value", [-1, "7", 3, None, 2**60])
def test_damaged_headers_are_refused(folder, key, value):
    header = json.loads((folder / "segment.json").read_text())
    header[key] = value
    (folder / "segment.json").write_text(json.dumps(header))
    refused(folder)


@pytest.mark.parametrize("name", DTYPES)
def test_damaged_arrays_are_refused(folder, name):
    path = folder / f"{name}.npy"
    whole = path.read_bytes()
    array = np.load(path)
    for damage in (b"", whole[:60], whole[:-1], b"PK\3\4" + whole[4:], whole[:9] + whole[40:]):
        path.write_bytes(damage)
        refused(folder)
    for other in (
        array[:-1],
        np.append(array, array[-1:], 0),
        array.astype(np.float32),
        array[None],
    ):
        np.save(path, other)
        refused(folder)
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    refused(folder)
    path.unlink()
    refused(folder)


@pytest.mark.parametrize("name", ["sizes", "terms"])
def test_numbers_out_of_order_are_refused(folder, name):
    array = np.load(folder / f"{name}.npy").astype(np.uint32)
    for at, value in ((0, 2**32 - 1), (1, 2**30), (array.size - 1, 2**31), (array.size - 1, 0)):
        damaged = array.copy()
        damaged[at] = value
        np.save(folder / f"{name}.npy", damaged)
        refused(folder)


@pytest.mark.parametrize("name", ["directory", "documents", "impacts", "steps", "dense"])
def test_damaged_postings_never_leave_the_arrays(folder, name, road):
    """Noise in place of postings: any answer is fine, numbers beyond the segment are not."""
    rng = np.random.default_rng(3)
    array = np.load(folder / f"{name}.npy")
    for value in (None, 0, np.iinfo(array.dtype).max):
        noise = rng.integers(0, np.iinfo(array.dtype).max, array.shape, endpoint=True)
        np.save(
            folder / f"{name}.npy",
            (noise if value is None else 0 * noise + value).astype(array.dtype),
        )
        segment = Segment.open(folder)
        for terms in ({0: 1}, {t: 64 for t in range(6)}):
            try:
                documents, _ = segment.search(terms, 10_000)
            except LexLIPError as error:
                assert road == "numpy" and "is damaged" in str(error)
                continue
            assert ((documents >= 0) & (documents < len(segment))).all()
        segment.contributions(len(segment) - 1, range(6))
        for read in (segment.impacts, *(partial(segment.having, term) for term in range(6))):
            try:
                read()
            except LexLIPError as error:
                assert "is damaged" in str(error)


@pytest.mark.parametrize("name", DTYPES)
def test_no_byte_of_a_header_escapes_as_a_traceback(folder, name):
    rng = np.random.default_rng(4)
    path = folder / f"{name}.npy"
    whole = path.read_bytes()
    for _ in range(60):
        damaged = bytearray(whole)
        for at in rng.integers(0, 128, int(rng.integers(1, 4))):
            damaged[at] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            segment = Segment.open(folder)
        except LexLIPError as error:
            assert "\n" not in str(error)
        else:
            segment.search({t: 1 for t in range(6)}, 10)


def test_importing_does_not_load_numba():
    code = "import sys, lexlip.engines.postings; sys.exit('numba' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)


def test_compiles_where_no_cache_can_be_written(monkeypatch):
    from numba.core.caching import CacheImpl

    from lexlip.storage.compiled import compiled

    monkeypatch.setattr(CacheImpl, "_locator_classes", [])
    assert compiled()(lambda number: number + 1)(2) == 3

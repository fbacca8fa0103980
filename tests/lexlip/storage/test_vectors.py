"""Vectors in a byte a number: products, the store by id, and what can go wrong."""

from __future__ import annotations

import numpy as np
import pytest

from lexlip.errors import LexLIPError
from lexlip.storage import fields
from lexlip.storage import vectors as module
from lexlip.storage.products import products
from lexlip.storage.vectors import CodedVectors, VectorStore, compare
from lexlip.storage.views import Vectors

d = 24


def some(rng, n, width=d):
    rows = rng.standard_normal((n, width))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    marks = rng.random((3, n)).astype(np.float32)
    return Vectors(rows.astype(np.float32), *marks)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 400])
@pytest.mark.parametrize("width", [1, 7, 384])
@pytest.mark.parametrize("road", ["numba", "numpy"])
def test_products_are_inner_products(n, width, road, monkeypatch):
    if road == "numpy":
        monkeypatch.setattr("lexlip.storage.products.loops", lambda *_: None)
    rng = np.random.default_rng(n + width)
    codes = rng.integers(-127, 128, (50, width), dtype=np.int8)
    query, rows = rng.standard_normal(width).astype(np.float32), rng.integers(0, 50, n)
    found = products(codes, rows, query)
    wanted = codes[rows].astype(np.float64) @ query.astype(np.float64)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-3 * width**0.5)
    # Of a row alone, wherever it stands.
    alone = [products(codes, rows[i : i + 1], query)[0] for i in range(n)]
    assert found.tolist() == alone


def test_products_stay_within_their_rows():
    codes = np.zeros((3, 4), np.int8)
    for rows, width in (([3], 4), ([-1], 4), ([0], 5)):
        with pytest.raises(ValueError):
            products(codes, np.array(rows), np.zeros(width, np.float32))


def test_a_byte_a_number_is_near_enough():
    rng = np.random.default_rng(1)
    exact = some(rng, 200, 384)
    coded = CodedVectors.encode(exact)
    assert coded.bytes == 200 * (384 + 8) and len(coded) == 200 and coded.width == 384
    back = coded.decode()
    assert np.abs(back.vectors - exact.vectors).max() < 1.01 / 127 / 2
    query = exact.vectors[3]
    found = compare([(coded, np.arange(200), np.arange(200))], 200, query)
    np.testing.assert_allclose(found.cosine, exact.vectors @ query, atol=1e-3)
    np.testing.assert_allclose(found.cosine, back.vectors @ query, atol=1e-6)
    np.testing.assert_allclose(found.constant, exact.constant, atol=5e-4)


@pytest.mark.parametrize("small", [0, 2048])
def test_the_newest_vector_of_an_id_is_read(tmp_path, monkeypatch, no_flush, small):
    monkeypatch.setattr(module, "_SMALL", small)
    monkeypatch.setattr(fields, "_BLOCK", 100)  # several blocks a part
    rng = np.random.default_rng(3)
    wanted, names = {}, [f"é{i}" for i in range(60)]
    store = VectorStore(tmp_path / "v", "w")
    reader = VectorStore(tmp_path / "v")
    for turn in range(10):
        ids = rng.choice(names, size=rng.integers(1, 25), replace=False).tolist()
        rows = some(rng, len(ids))
        store.write(ids, rows)
        wanted |= {name: CodedVectors.encode(rows.take([i])) for i, name in enumerate(ids)}
        if turn == 7:
            gone = set(rng.choice(names, 20, replace=False).tolist())
            store.keep(lambda ids, gone=gone: [None if name in gone else {} for name in ids])
            wanted = {name: row for name, row in wanted.items() if name not in gone}
        assert reader.reopen()
        asked, query = [*names, "nobody"], some(rng, 1).vectors[0]
        for one in (store, reader):
            found = compare(one.spans(asked), len(asked), query)
            assert found.held.tolist() == [name in wanted for name in asked]
            for i, name in enumerate(asked):
                if name in wanted:
                    alone = compare([(wanted[name], np.arange(1), np.arange(1))], 1, query)
                    assert [field[i] for field in found] == [field[0] for field in alone]
                else:
                    assert found.cosine[i] == found.constant[i] == 0
    assert store.bytes > 0 and store.verify() == [] and len(store) == len(wanted)
    store.close(), reader.close()


def test_what_does_not_fit_is_refused_and_nothing_is_changed(tmp_path, no_flush):
    rng = np.random.default_rng(5)
    store = VectorStore(tmp_path / "v", "w")
    store.write(["a"], some(rng, 1))
    bad = some(rng, 1)
    bad.vectors[0, 0] = np.nan
    huge = some(rng, 1)
    huge.constant[0] = 1e6
    for ids, rows, message in (
        (["b"], bad, "not finite"),
        (["b"], huge, "not finite"),
        (["b"], some(rng, 1, d + 1), f"holds vectors of {d} numbers, these have {d + 1}"),
        (["b", "c"], some(rng, 1), "2 ids but 1 vectors"),
    ):
        with pytest.raises(LexLIPError, match=message) as raised:
            store.write(ids, rows)
        assert "\n" not in str(raised.value)
    assert len(store) == 1
    with pytest.raises(LexLIPError, match="the query has 3"):
        compare(store.spans(["a"]), 1, np.zeros(3, np.float32))
    store.close()


def test_damage_is_found(tmp_path, no_flush):
    store = VectorStore(tmp_path / "v", "w")
    store.write(["a", "b"], some(np.random.default_rng(0), 2))
    store.close()
    path = next((tmp_path / "v").glob("part-*/vector-codes.npy"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    reader = VectorStore(tmp_path / "v")
    (found,) = reader.verify()
    assert "vector-codes.npy" in found
    reader.close()
    path.write_bytes(data[:-1])
    with pytest.raises(LexLIPError, match="damaged"):
        VectorStore(tmp_path / "v")

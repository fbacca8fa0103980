"""The forward store: what was written last is what is read."""

from __future__ import annotations

import numpy as np
import pytest

from lexlip.errors import LexLIPError
from lexlip.storage import forward
from lexlip.storage.codecs import CODECS
from lexlip.storage.forward import ForwardStore
from lexlip.storage.views import Views
from tests.support.stores import D, assert_reads, d, some, unit, views_of


@pytest.mark.parametrize("codec", ["float16", "int8", "int8-token"])
@pytest.mark.parametrize("small", [0, 256])
def test_the_newest_views_of_an_id_are_read(tmp_path, monkeypatch, no_flush, small, codec):
    monkeypatch.setattr(forward, "_SMALL", small)
    rng = np.random.default_rng(3)
    wanted = {}
    names = [f"é{i}" for i in range(60)]
    store = ForwardStore(tmp_path / "v", "w", codec=codec)
    reader = ForwardStore(tmp_path / "v")
    assert len(store) == store.token_size == store.gaussian_size == 0 and store.codec is None
    for turn in range(12):
        ids = rng.choice(names, size=rng.integers(1, 25), replace=False).tolist()
        views = some(rng, len(ids), positions=int(rng.integers(1, 7)))
        before = dict(wanted)
        store.write(ids, views)
        wanted |= {name: views.take([i]) for i, name in enumerate(ids)}
        if turn:
            assert_reads(reader, before, names)  # until it reopens
        assert reader.reopen() and not reader.reopen()
        if turn == 8:
            gone = set(rng.choice(names, 20, replace=False).tolist())
            store.keep(lambda ids, gone=gone: [None if name in gone else {} for name in ids])
            wanted = {name: it for name, it in wanted.items() if name not in gone}
            assert len(list((tmp_path / "v").glob("part-*"))) == 1
            reader.reopen()
        # Small parts are merged, so their number grows as the logarithm of the number of views.
        assert len(list((tmp_path / "v").glob("part-*"))) <= (1 if small else 5)
        asked = rng.permutation([*names, "nobody", *names[:3]]).tolist()
        for one in (store, reader):
            assert len(one) == len(wanted) and (one.token_size, one.gaussian_size) == (d, D)
            assert_reads(one, wanted, asked)
    assert store.bytes > 0 and store.verify() == []
    store.close(), reader.close()
    for read in (store.read, store.gather, store.gaussians, store.held):
        with pytest.raises(LexLIPError, match="closed"):
            read(["é1"])


@pytest.mark.parametrize("codec", CODECS)
def test_a_codec_is_learned_once_and_survives_merging(tmp_path, monkeypatch, no_flush, codec):
    monkeypatch.setattr(forward, "_SMALL", 0)
    rng = np.random.default_rng(0)
    store, read = ForwardStore(tmp_path / "v", "w", codec=codec), {}
    for n in (40, 20, 10, 5):
        ids = [f"{n}-{i}" for i in range(n)]
        store.write(ids, some(rng, n))
        read |= {name: store.read([name]) for name in ids}
    assert len(list((tmp_path / "v").glob("part-*"))) == 4
    store.close()
    store = ForwardStore(tmp_path / "v", "w")
    assert store.codec == codec
    store.write(["new"], some(rng, 1))
    store.keep(lambda ids: ids)
    assert len(list((tmp_path / "v").glob("part-*"))) == 1
    for name, views in read.items():
        found = store.read([name])
        assert all(np.array_equal(getattr(found, a), getattr(views, a)) for a in vars(views))
        assert not found.tokens[0, found.counts[0] :].any()  # padding is not decoded
    store.close()
    with pytest.raises(LexLIPError, match=f"keeps tokens as {codec}, not as "):
        ForwardStore(tmp_path / "v", codec="float16" if codec == "int8" else "int8")
    with pytest.raises(LexLIPError, match="no codec 'int9'"):
        ForwardStore(tmp_path / "w", "w", codec="int9")
    assert not (tmp_path / "w").exists()


def test_late_interaction_on_codes_is_that_on_tokens(tmp_path):
    rng = np.random.default_rng(1)
    views, ids = some(rng, 50, 12, 64), [str(i) for i in range(50)]
    words = unit(rng.standard_normal((4, 64)))

    def score(tokens, counts):
        pairs = zip(tokens, counts, strict=True)
        return np.array([(t[:n] @ words.T).max(0).mean() if n else -1 for t, n in pairs])

    store = ForwardStore(tmp_path / "v", "w")
    store.write(ids, views)
    found = store.gather(ids)
    coded = score(found.codes * found.scales[..., None], found.counts)
    assert np.abs(score(views.tokens, views.counts) - coded).max() <= 8 * found.scales.max() / 2
    store.close()


def test_csd_is_an_inner_product(tmp_path):
    """The distance of PCME++ from means and sums of variances, against its definition."""
    rng = np.random.default_rng(2)
    views, query = some(rng, 20, size=64), some(rng, 1, size=64)
    store = ForwardStore(tmp_path / "v", "w")
    store.write([str(i) for i in range(20)], views)
    found = store.gaussians([str(i) for i in range(20)])
    mean, total = found.mean.astype(np.float32), found.total_variance
    here = 2 - 2 * mean @ query.mean[0] + total + np.exp(query.log_variance[0]).sum()
    squares = (views.mean - query.mean) ** 2
    exact = (squares + np.exp(views.log_variance) + np.exp(query.log_variance)).sum(1)
    assert here == pytest.approx(exact, abs=2e-3)
    store.close()


def test_of_an_id_that_comes_twice_the_last_views_stay(tmp_path):
    views = some(np.random.default_rng(0), 2)
    store = ForwardStore(tmp_path / "v", "w")
    store.write(["a", "a"], views)
    assert len(store) == 1
    assert_reads(store, {"a": views.take([1])}, ["a", "a"])
    store.close()


def test_ids_with_one_checksum_are_told_apart(tmp_path):
    from zlib import crc32

    ids = ["plumless", "buckeroo"]
    assert len({crc32(name.encode()) for name in ids}) == 1
    views = some(np.random.default_rng(0), 2)
    store = ForwardStore(tmp_path / "v", "w")
    store.write(ids[:1], views.take([0]))
    assert store.held(ids).tolist() == [True, False]
    store.write(ids, views)
    assert_reads(store, {name: views.take([i]) for i, name in enumerate(ids)}, ids * 2)
    store.close()


@pytest.mark.parametrize("width, size", [(d, 0), (0, D)])
def test_one_of_the_two_is_enough(tmp_path, width, size):
    views = some(np.random.default_rng(0), 3, width=width, size=size)
    store = ForwardStore(tmp_path / "v", "w")
    store.write(["a", "b", "c"], views)
    assert (store.token_size, store.gaussian_size) == (width, size)
    found, codes = store.read(["c", "x"]), store.gather(["c", "x"])
    assert (found.has_tokens, found.has_gaussians) == (width > 0, size > 0)
    assert codes.held.tolist() == [True, False] and codes.codes.shape == found.tokens.shape
    assert found.counts.tolist() == codes.counts.tolist() == [views.counts[2] if width else 0, 0]
    assert store.gaussians(["c", "x"]).mean.shape == (2, size)
    with pytest.raises(LexLIPError, match="use the model that it was made with"):
        store.write(["d"], some(np.random.default_rng(0), 1))
    store.close()


def test_nothing_is_something_that_can_be_asked_for(tmp_path):
    rng = np.random.default_rng(0)
    store = ForwardStore(tmp_path / "v", "w")
    for turn in range(3):
        if turn == 1:  # documents without any token
            views = some(rng, 2)
            store.write(["a", "b"], Views(views.tokens[:, :0], views.counts * 0, *views_of(views)))
            assert store.read(["a"]).tokens.shape == (1, 0, d) and store.held(["a"]).all()
        if turn == 2:  # none is left; the store stays what it was
            store.keep(lambda ids: [None] * len(ids))
            assert len(store) == 0 and (store.token_size, store.gaussian_size) == (d, D)
        for ids in ([], ["x", "y"]):
            found, codes = store.read(ids), store.gather(ids)
            assert len(found) == len(codes.codes) == len(store.gaussians(ids).mean) == len(ids)
            assert not found.counts.any() and not codes.counts.any() and not store.held(ids).any()
            assert codes.scales.shape == codes.codes.shape[:2] and np.isfinite(found.mean).all()
        before = store._current().generation.number
        store.write([], Views.empty(0))
        assert store._current().generation.number == before
    store.write(["a"], some(rng, 1))
    assert len(store) == 1 and store.verify() == []
    store.close()

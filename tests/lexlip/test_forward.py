"""The forward store: what was written last is what is read, whatever was killed when."""

from __future__ import annotations

import random
import resource
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from lexlip import forward
from lexlip.codecs import CODECS
from lexlip.errors import LexLIPError
from lexlip.forward import ForwardStore
from lexlip.generations import verify
from lexlip.views import Views

REPOSITORY = Path(__file__).resolve().parents[2]
d, D = 8, 6


def unit(array):
    return (array / np.linalg.norm(array, axis=-1, keepdims=True)).astype(np.float32)


def some(rng, n, positions=5, width=d, size=D):
    """Views of n documents, some of them without tokens."""
    counts = rng.integers(0, positions + 1, n).astype(np.int32)
    tokens = unit(rng.standard_normal((n, positions, width)))
    tokens[np.arange(positions) >= counts[:, None]] = 0
    spread = rng.normal(-6, 1, (n, size)).astype(np.float32)
    return Views(tokens, counts, unit(rng.standard_normal((n, size))), spread)


def assert_reads(store, wanted, asked):
    """Compare with {id: views of one document}; float16 is exact but for its rounding."""
    found, gathered, held = store.read(asked), store.gather(asked), store.held(asked)
    spread = store.gaussians(asked)
    mean, log_variance, total = spread.mean, spread.log_variance, spread.total_variance
    assert held.tolist() == [name in wanted for name in asked]
    assert np.array_equal(held, gathered.held) and np.array_equal(held, spread.held)
    assert np.array_equal(found.counts, gathered.counts) and found.counts.dtype == np.int32
    assert gathered.codes.shape == found.tokens.shape and gathered.codes.dtype == np.int8
    assert np.array_equal(mean, found.mean) and np.array_equal(log_variance, found.log_variance)
    rebuilt = gathered.codes * gathered.scales[..., None]
    for i, name in enumerate(asked):
        exact = wanted.get(name)
        count = 0 if exact is None else int(exact.counts[0])
        assert found.counts[i] == count and not found.tokens[i, count:].any()
        if exact is None:
            assert not found.mean[i].any() and not log_variance[i].any() and total[i] == 0
            continue
        halves = [a.astype(np.float16).astype(np.float32) for a in (exact.mean, exact.log_variance)]
        assert np.array_equal(found.mean[i], halves[0][0])
        assert np.array_equal(log_variance[i], halves[1][0])
        variances = np.exp(exact.log_variance[0].astype(np.float64))
        assert total[i] == pytest.approx(variances.sum(), rel=1e-6)
        tokens = exact.tokens[0, :count]
        if store.codec == "float16":
            assert np.array_equal(found.tokens[i, :count], tokens.astype(np.float16))
        scales = gathered.scales[i, :count, None]
        assert (np.abs(found.tokens[i, :count] - tokens) <= 0.51 * scales + 1e-6).all()
        assert (np.abs(rebuilt[i, :count] - tokens) <= 0.52 * scales + 1e-6).all()


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


def views_of(views):
    return views.mean, views.log_variance


@contextmanager
def full_disk(free=20_000):
    """Let no file grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    kept = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, kept)


def test_a_write_that_fails_changes_nothing(tmp_path):
    rng = np.random.default_rng(0)
    store = ForwardStore(tmp_path / "v", "w")
    first = some(rng, 2)
    store.write(["a", "b"], first)
    before = sorted((tmp_path / "v").rglob("*"))
    many = [f"{i}" for i in range(2000)]
    with full_disk(), pytest.raises(LexLIPError, match="keeps what it had, writing failed: "):
        store.write(many, some(rng, 2000))
    good, inf = some(rng, 2), np.full((2, D), np.inf, np.float32)
    for message, ids, views in [
        ("3 ids but views of 2 documents", ["a", "b", "c"], good),
        ("tokens of width 8 and Gaussians of width 6, these have .9, 6.", ["a", "b"],
         some(rng, 2, width=9)),
        ("these have .8, 7.", ["a", "b"], some(rng, 2, size=7)),
        ("neither tokens nor Gaussians", ["a", "b"], Views.empty(2)),
        ("counts must be 0..5", ["a", "b"], Views(good.tokens, good.counts + 6, *views_of(good))),
        ("counts must be 0..5", ["a", "b"], Views(good.tokens, good.counts - 6, *views_of(good))),
        ("not finite", ["a", "b"], Views(good.tokens * np.nan, good.counts, *views_of(good))),
        ("not finite", ["a", "b"], Views(good.tokens, good.counts, good.mean, inf)),
        ("not finite or too large", ["a", "b"],
         Views(good.tokens, good.counts, good.mean, good.mean + 1000)),
        ("is no id", ["a", ""], good),
    ]:  # fmt: skip
        with pytest.raises(LexLIPError, match=message) as raised, np.errstate(over="ignore"):
            store.write(ids, views)
        assert "\n" not in str(raised.value)
    assert sorted((tmp_path / "v").rglob("*")) == before and store.verify() == []
    assert_reads(store, {"a": first.take([0]), "b": first.take([1])}, ["a", "b", "0"])
    with pytest.raises(LexLIPError, match="open for writing elsewhere"):
        ForwardStore(tmp_path / "v", "w")
    reader = ForwardStore(tmp_path / "v")
    with pytest.raises(LexLIPError, match="open for reading"):
        reader.write(["a", "b"], good)
    with pytest.raises(LexLIPError, match="open for reading"):
        reader.keep(lambda ids: [None] * len(ids))
    store.close(), reader.close()
    with pytest.raises(LexLIPError, match="no index"):
        ForwardStore(tmp_path / "nowhere")


@pytest.mark.parametrize("when", ["np.save", "array", "publish"])
def test_a_killed_write_leaves_what_was_there(tmp_path, monkeypatch, when):
    rng = np.random.default_rng(0)
    first, second = some(rng, 3), some(rng, 3)
    store = ForwardStore(tmp_path / "v", "w")
    store.write(["a", "b", "c"], first)
    store.close()
    before = sorted((tmp_path / "v").rglob("*"))
    store = ForwardStore(tmp_path / "v", "w")

    def dies(*_, **__):
        raise KeyboardInterrupt

    owner, name = {
        "np.save": (np, "save"),
        "array": (np.lib.format, "write_array_header_1_0"),
        "publish": (store._writer, "publish"),
    }[when]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, dies)
        with pytest.raises(KeyboardInterrupt):
            store.write(["b", "c", "d"], second)
    reader = ForwardStore(tmp_path / "v")
    for one in (store, reader):
        assert_reads(one, {n: first.take([i]) for i, n in enumerate("abc")}, list("abcd"))
    store.close(), reader.close()
    assert sorted((tmp_path / "v").rglob("*")) == before
    store = ForwardStore(tmp_path / "v", "w")
    store.write(["b", "c", "d"], second)
    wanted = {"a": first.take([0])} | {n: second.take([i]) for i, n in enumerate("bcd")}
    assert_reads(store, wanted, list("abcd"))
    store.close()


WRITER = """
import sys
import numpy as np
from lexlip.forward import ForwardStore
from lexlip.views import Views

store = ForwardStore(sys.argv[1], "w", codec="float16")
n = 0
while True:
    n += 1
    mean = np.full((300, 1), n, np.float32)
    tokens = np.full((300, 7, 4), n / 1024, np.float32)
    ids = [str(i) for i in (range(300) if n % 3 else range(100))]
    part = slice(len(ids))
    store.write(ids, Views(tokens[part], np.full(len(ids), 7, np.int32), mean[part], -mean[part]))
    print(n, flush=True)
"""


def test_a_writer_that_is_killed_leaves_one_whole_write(tmp_path):
    path = tmp_path / "v"
    ForwardStore(path, "w").close()
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as child:
        lines = [child.stdout.readline() for _ in range(6)]
        time.sleep(random.random() / 20)
        child.kill()
        lines += child.stdout.readlines()
    written = int([line for line in lines if line.endswith("\n")][-1])
    for mode in ("r", "w"):  # the next writer removes what nothing names
        store = ForwardStore(path, mode)
        assert store.verify() == []
        views = store.read([str(i) for i in range(300)])
        newest = int(views.mean[0, 0])
        assert newest in (written, written + 1)
        older = newest if newest % 3 else newest - 1
        assert (views.mean[:100] == newest).all() and (views.mean[100:] == older).all()
        assert (views.tokens == views.mean[:, None] / 1024).all() and (views.counts == 7).all()
        parts = len(store._current().parts)
        store.close()
    assert len(list(path.glob("part-*"))) == parts


def test_readers_go_on_while_a_writer_merges(tmp_path, no_flush):
    """Every reader sees one write as a whole, on threads of their own."""
    store, failures, done = ForwardStore(tmp_path / "v", "w"), [], threading.Event()
    ids = [f"n{i}" for i in range(40)]

    def write(n):
        mean = np.full((40, 2), n, np.float32)
        tokens = np.zeros((40, 3, 2), np.float32)
        tokens[..., 0] = 1
        store.write(ids, Views(tokens, np.full(40, n % 4, np.int32), mean, mean))

    def read():
        reader = ForwardStore(tmp_path / "v")
        while not done.is_set():
            found, codes = reader.read(ids), reader.gather(ids)
            n = int(found.mean[0, 0])
            whole = (found.mean == n).all() and (found.counts == n % 4).all()
            if not (whole and (codes.counts == n % 4).all()):
                failures.append(n)
            reader.reopen()
        reader.close()

    write(1)
    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for n in range(2, 16):
            write(n)
    finally:
        done.set()
    for thread in threads:
        thread.join()
    assert failures == [] and int(store.read(ids[:1]).mean[0, 0]) == 15
    store.close()


def test_damage_is_said(tmp_path):
    store = ForwardStore(tmp_path / "v", "w", codec="residual2")
    store.write(["a", "b"], some(np.random.default_rng(0), 2))
    store.close()
    (part,) = (tmp_path / "v").glob("part-*")
    kinds = {"ids", "ids-lengths", "sums", "sum-rows", "counts", "mean", "log-variance"}
    kinds |= {"total-variance", "tokens-centroids", "tokens-residuals"}
    kinds |= {f"codec-{name}" for name in ("centroids", "cutoffs", "weights")}
    assert {file.stem for file in part.iterdir()} == kinds
    for file in part.iterdir():
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        assert [f"{file.name} is damaged" in line for line in verify(tmp_path / "v")] == [True]
        file.write_bytes(whole[:-4])
        with pytest.raises(LexLIPError, match=f"{file.name} is damaged"):
            ForwardStore(tmp_path / "v")
        file.write_bytes(whole)
    mean = part / "mean.npy"
    mean.write_bytes(mean.read_bytes().replace(b"(2, 6)", b"(6, 2)"))
    with pytest.raises(LexLIPError, match="is damaged .its arrays differ in length.: build") as it:
        ForwardStore(tmp_path / "v")
    assert "\n" not in str(it.value)


def test_a_store_of_another_model_or_kind_is_refused(tmp_path):
    from scipy.sparse import csr_array

    from lexlip.floats import FloatVectors

    views = some(np.random.default_rng(0), 1)
    store = ForwardStore(tmp_path / "v", "w", model="abc")
    store.write(["a"], views)
    store.close()
    for mode in ("r", "w"):
        with pytest.raises(LexLIPError, match="views of model abc, not of xyz: use that.*build"):
            ForwardStore(tmp_path / "v", mode, model="xyz")
        for model in ("abc", None):
            store = ForwardStore(tmp_path / "v", mode, model=model)
            assert store.held(["a"]).all()
            store.close()
    store = ForwardStore(tmp_path / "v", "w")
    store.keep(lambda ids: [None] * len(ids))  # also when nothing of it is left
    store.close()
    with pytest.raises(LexLIPError, match="not of xyz"):
        ForwardStore(tmp_path / "v", model="xyz")
    floats = FloatVectors(tmp_path / "f", "w")
    floats.write(["a"], csr_array([[1.0]]))
    floats.close()
    with pytest.raises(LexLIPError, match="format 'lexlip-floats-2', this lexlip reads 'lexlip-v"):
        ForwardStore(tmp_path / "f")

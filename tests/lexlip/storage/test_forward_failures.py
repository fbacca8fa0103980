"""The forward store after failures: killed, full, damaged, or of another model, nothing is lost."""

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

from lexlip.errors import LexLIPError
from lexlip.storage.forward import ForwardStore
from lexlip.storage.generations import verify
from lexlip.storage.views import Views
from tests.support.stores import D, assert_reads, some, views_of

REPOSITORY = Path(__file__).resolve().parents[3]


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


@pytest.mark.parametrize("when", ["array", "publish"])
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
from lexlip.storage.forward import ForwardStore
from lexlip.storage.views import Views

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

    from lexlip.storage.floats import FloatVectors

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

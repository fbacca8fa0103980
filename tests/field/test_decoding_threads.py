"""Threads that decode pictures beside the model: order, errors, Ctrl-C, memory."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from contextlib import closing

import numpy as np
import pytest
from PIL import Image

from lexlip import Index
from lexlip.build.encode import encode_pictures
from lexlip.build.recipe import Recipe
from lexlip.data import in_order as threads
from lexlip.data.collection import Collection, load_collection
from lexlip.data.crops import with_crops
from lexlip.data.in_order import in_order
from lexlip.errors import LexLIPError
from tests.support.cameras import as_bytes, scene


@pytest.fixture(autouse=True)
def four_threads(monkeypatch):
    monkeypatch.setattr(threads, "thread_count", lambda: 4)


def test_results_come_in_order_whoever_is_ready_first():
    def slow(n):
        time.sleep(0.02 * (n % 3 == 0))
        return n

    assert list(in_order(slow, range(30), ahead=5)) == list(range(30))


def test_no_more_is_made_ahead_than_asked_for():
    made, most = [], []

    def make(n):
        made.append(n)
        return n

    with closing(in_order(make, range(100), ahead=6)) as results:
        for n in results:
            time.sleep(0.002)
            most.append(len(made) - n)
    assert max(most) <= 7


def test_an_error_comes_in_its_place_and_ends_the_rest():
    begun = []

    def work(n):
        begun.append(n)
        if n == 3:
            raise ValueError("the third")
        return n

    results = in_order(work, range(1000), ahead=8)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="the third"):
        next(results)
    assert len(begun) < 30
    assert not [t for t in threading.enumerate() if t.name.startswith("lexlip-decoding")]


def test_one_bad_picture_costs_no_other(model, tmp_path):
    good = {f"{n:03}": as_bytes(scene(60, 40, n), "PNG") for n in range(40)}
    given = {k: (b"no picture" if int(k) % 3 == 0 else v) for k, v in good.items()}
    source = Collection(list(given), [[] for _ in given], list(given.values()))
    chunk = encode_pictures(model, source, range(40), batch_size=7)
    assert chunk.ids == [k for k in given if int(k) % 3]
    assert [name for name, _ in chunk.skipped] == [k for k in given if int(k) % 3 == 0]
    for row, name in enumerate(chunk.ids):
        alone = model.encode_image([good[name]]).toarray()
        np.testing.assert_allclose(chunk.weights[[row]].toarray(), alone, atol=1e-5)
    with pytest.raises(LexLIPError, match="not a picture"):
        model.encode_image(list(given.values()))


def test_a_picture_that_does_not_fit_into_memory_is_one_line(model, monkeypatch):
    def short_of_memory(self):
        raise MemoryError

    data = as_bytes(scene(30, 30), "PNG")
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", short_of_memory)
    chunk = encode_pictures(model, Collection(["a"], [[]], [data]), range(1))
    assert not chunk.ids and "MemoryError" in chunk.skipped[0][1]


def test_what_is_encoded_does_not_depend_on_the_path(model, tmp_path):
    """Sources, threads and corners: the index holds what the model says of the picture alone."""
    for n in range(5):
        (tmp_path / f"{n}.jpg").write_bytes(as_bytes(scene(1500, 1100, n)))
    paths = sorted(tmp_path.iterdir())
    source = load_collection(tmp_path)
    for crops in (0, 4):
        chunk = encode_pictures(model, source, range(5), None, Recipe(crops=crops), 2)
        pictures = [source.image(i, model.image_side) for i in range(5)]
        wanted = with_crops(model.encode_image, pictures, crops).toarray()
        np.testing.assert_allclose(chunk.weights.toarray(), wanted, atol=1e-5)
    chunk = encode_pictures(model, source, range(5))
    np.testing.assert_allclose(
        chunk.weights.toarray(), model.encode_image(paths).toarray(), atol=1e-5
    )


_INDEX = """
import resource, sys
from lexlip import Index, LexLIP
model = LexLIP.from_pretrained(sys.argv[1])
for folder in sys.argv[3:]:
    Index.create(sys.argv[2], model, folder, engine="postings", crops=4, replace=True).close()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, flush=True)
"""


def test_memory_depends_on_small_pictures_only(checkpoint, tmp_path):
    for name, size in (("small", (600, 400)), ("large", (6000, 4000))):
        (tmp_path / name).mkdir()
        data = as_bytes(scene(*size))
        for n in range(24):
            (tmp_path / name / f"{n}.jpg").write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", _INDEX, checkpoint, tmp_path / "x.lex", tmp_path / "small",
         tmp_path / "large"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    small, large = map(int, done.stdout.split())
    assert large - small < 150  # MB; 24 decoded pictures have 1,728


def test_ctrl_c_ends_a_build_and_leaves_nothing(checkpoint, tmp_path):
    (tmp_path / "photos").mkdir()
    data = as_bytes(Image.new("RGB", (4000, 3000)), "PNG", compress_level=1)
    for n in range(200):
        (tmp_path / "photos" / f"{n}.png").write_bytes(data)
    command = [sys.executable, "-m", "lexlip.cli", "index", tmp_path / "photos", "-o",
               tmp_path / "x.lex", "-m", checkpoint, "--engine", "postings"]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        while len(list(tmp_path.iterdir())) == 1 and process.poll() is None:
            time.sleep(0.05)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        process.communicate(timeout=60)
        assert time.monotonic() - began < 20
    assert process.returncode not in (0, -signal.SIGKILL)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["photos"]


def test_an_index_of_one_picture_needs_no_thread(model, tmp_path, monkeypatch):
    monkeypatch.setattr(threads, "ThreadPoolExecutor", None)
    scene(30, 30).save(tmp_path / "a.png")
    with Index.create(tmp_path / "a.lex", model, tmp_path / "a.png", engine="postings") as index:
        assert len(index) == 1

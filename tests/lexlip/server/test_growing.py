"""A server whose index grows while it is served."""

from __future__ import annotations

import shutil
import threading
import time

import pytest

from lexlip import Index
from lexlip.errors import LexLIPError
from lexlip.server.growing import Grower, Growth, Progress
from lexlip.server.picture_files import token_of


def wait(condition, seconds=30):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "still not so"
        time.sleep(0.01)
    return found


def test_speed_is_measured_over_the_last_seconds():
    now = [100.0]
    progress = Progress(clock=lambda: now[0])
    assert progress.growth() == Growth()
    progress.report(500, 2000)  # there before the job began
    assert progress.growth() == Growth(done=500, total=2000)
    now[0] += 10
    progress.report(600, 2000, skipped=2)
    growth = progress.growth()
    assert (growth.per_second, growth.seconds_left, growth.skipped) == (10, 140, 2)
    now[0] += 5
    assert progress.growth().seconds_left == 135
    for _ in range(10):  # faster: what was long ago counts no more
        now[0] += 10
        progress.report(progress.growth().done + 50, 2000)
    assert progress.growth().per_second == 5
    progress.end("done")
    assert progress.growth() == Growth("done", 1100, 2000, skipped=0)


def test_an_index_grows_while_it_is_served(make_index, serve, model, engine, photos, pictures):
    path, go = make_index(engine), [threading.Event() for _ in range(2)]

    def add(progress):
        for step, number in enumerate(("08", "09")):
            progress.report(step, 2)
            assert go[step].wait(30)
            shutil.copy2(photos / f"{number}.png", pictures)
            with Index.open(path, model, "w") as index:
                index.add(pictures)
        progress.report(2, 2, skipped=1)

    client = serve(path, grow=add)
    told = wait(lambda: (it := client.get("/status").json())["growth"]["total"] and it)
    assert told["documents"] == 8
    assert told["growth"] == {
        "state": "indexing", "done": 0, "total": 2, "per_second": None, "seconds_left": None,
        "skipped": 0, "message": None,
    }  # fmt: skip
    data = (pictures / "home" / "00.png").read_bytes()
    for answer in (
        client.delete(f"/images/{token_of('home/00.png')}"),
        client.post("/images", files={"file": data}),
    ):
        assert answer.status_code == 409
        assert answer.json()["error"] == "pictures are being added: try again in a moment"
    go[0].set()
    wait(lambda: client.get("/status").json()["documents"] == 9)
    assert client.get("/search?q=red&k=50").json()["total"] == 9
    assert "08.png" in {one["id"] for one in client.get("/images").json()["images"]}
    go[1].set()
    wait(lambda: client.get("/status").json()["documents"] == 10)  # a watch is a moment late
    ended = wait(lambda: (it := client.get("/status").json())["growth"]["state"] == "done" and it)
    assert ended["documents"] == 10 and ended["growth"]["skipped"] == 1
    wait(lambda: client.delete(f"/images/{token_of('home/00.png')}").status_code == 200)
    assert client.get("/status").json()["documents"] == 9


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (LexLIPError("no index at {path}: make one"), "no index at the index: make one"),
        (ValueError("{path} secret"), "adding pictures failed: the server's log says why"),
    ],
)
def test_a_job_that_fails_is_told_of(make_index, serve, error, message):
    path = make_index()

    def fail(progress):
        raise type(error)(str(error).format(path=path))

    client = serve(path, grow=fail)
    growth = wait(lambda: (it := client.get("/status").json()["growth"])["message"] and it)
    assert growth["state"] == "failed" and growth["message"] == message
    assert client.get("/search?q=red").json()["hits"]
    wait(lambda: client.delete(f"/images/{token_of('home/00.png')}").status_code == 200)


def test_without_a_job_nothing_grows(make_index, serve):
    assert serve(make_index()).get("/status").json()["growth"] is None


def test_a_job_is_asked_to_stop_and_waited_for():
    ended = threading.Event()

    def work(progress):
        assert progress.stopped.wait(30)
        progress.report(3, 9)
        ended.set()

    grower = Grower(work)
    assert not grower.busy and grower.growth == Growth()
    grower.start()
    assert grower.busy
    grower.stop()
    assert ended.is_set() and not grower.busy
    assert grower.growth == Growth("stopped", 3, 9)

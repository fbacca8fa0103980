"""Health: what does not work is said, and a full disk has a status of its own."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from lexlip.server.answers import search as searching
from lexlip.server.picture_files import token_of
from tests.support.cameras import as_bytes

Usage = namedtuple("Usage", "total used free")


def health(client):
    answer = client.get("/healthz")
    assert client.get("/livez").json() == {"status": "ok"}
    return answer.status_code, answer.json()["status"], " ".join(answer.json()["problems"])


def test_blocked_workers_are_said(make_index, serve, monkeypatch):
    client = serve(make_index(), seconds=0.1, threads=2)
    assert health(client) == (200, "ok", "")
    free, answer = threading.Event(), searching.search

    def slow(*args):
        assert free.wait(20)
        return answer(*args)

    monkeypatch.setattr(searching, "search", slow)
    with ThreadPoolExecutor(2) as pool:
        statuses = list(pool.map(lambda _: client.get("/search?q=red").status_code, range(2)))
        assert statuses == [504, 504]
        time.sleep(0.2)
        code, status, problems = health(client)
        assert (code, status) == (503, "failing") and "workers" in problems
        free.set()
    for _ in range(200):
        if health(client) == (200, "ok", ""):
            break
        time.sleep(0.05)
    assert health(client) == (200, "ok", "")


def test_an_index_that_is_gone_is_said(make_index, serve, engine):
    path = make_index(engine)
    client = serve(path)
    away = path.with_name("away")
    path.rename(away)
    code, status, problems = health(client)
    assert (code, status) == (503, "failing") and "gone" in problems
    assert client.get("/search?q=red").status_code == 200  # what is open is served on
    away.rename(path)
    assert health(client) == (200, "ok", "")


def test_a_commit_that_cannot_be_read_is_said(make_index, serve, engine):
    if ":" in engine:
        pytest.skip("its commits lie elsewhere: test_away.py, test_away_milvus.py")
    path = make_index(engine)
    client = serve(path)
    shutil.rmtree(path / "engine")
    code, status, problems = health(client)
    assert (code, status) == (503, "failing") and str(path) not in problems


def test_a_full_disk_is_said_where_pictures_are_taken(make_index, serve, monkeypatch):
    path = make_index()
    writable, reading = serve(path), serve(path, read_only=True)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9, 0))
    assert health(writable) == (200, "impaired", "the disk is full: nothing can be added")
    assert health(reading) == (200, "ok", "")


@pytest.mark.parametrize("names", [("fsync",), ("mkdir",), ("rename", "replace")])
def test_a_full_disk_is_507_wherever_it_is_noticed(make_index, serve, monkeypatch, names):
    client = serve(make_index())
    picture = as_bytes(Image.new("RGB", (40, 40), "red"), "PNG")

    def fail(*args, **named):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        for name in names:
            patch.setattr(os, name, fail)
        posted = client.post("/images", files={"file": picture})
        deleted = client.delete(f"/images/{token_of('home/00.png')}")
    for answer in (posted, deleted):
        assert answer.status_code in (200, 507), answer.text  # 200: it needed no such call
    assert posted.status_code == 507 and "No space left" in posted.json()["error"]
    assert client.get("/search?q=red").status_code == 200
    assert client.post("/images", files={"file": picture}).status_code == 200


def test_a_full_disk_where_a_form_is_kept_is_507(make_index, serve, monkeypatch):
    def fail(*args, **named):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    client = serve(make_index())
    monkeypatch.setattr("starlette.datastructures.UploadFile.write", fail)
    answer = client.post("/words", files={"file": bytes(2**21)})
    assert answer.status_code == 507 and "make room" in answer.json()["error"]

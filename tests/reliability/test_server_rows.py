"""Rows 3, 6, 11, 14, 19 and 21 of the failure matrix, against `lexlip serve` as a real process."""

from __future__ import annotations

import io
import json
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from lexlip import Index
from lexlip.models.shipped import load_shipped
from tests.conftest import noise

from .serving import served

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="made of Linux's means"),
]


def as_png(image, **options):
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Twelve pictures, and an index of them by the shipped model."""
    home = tmp_path_factory.mktemp("served")
    (home / "pictures").mkdir()
    for number in range(12):
        noise(number).save(home / "pictures" / f"{number:02}.png")
    Index.create(home / "i.lex", load_shipped(), home / "pictures").close()
    return home


@pytest.fixture
def index(sound, tmp_path):
    return shutil.copytree(sound / "i.lex", tmp_path / "i.lex")


def _worst():
    """Return pictures that cost much, of few bytes: (name, data)."""
    side, random_bytes = 6300, np.random.default_rng(0)
    yield "grey16.png", as_png(Image.fromarray(np.zeros((side, side), np.uint16)), compress_level=1)
    yield "rgba.png", as_png(Image.new("RGBA", (7900, 7900)), compress_level=1)
    row = b"\0" + b"\xff" * 5
    head = struct.pack(">IIBBBBB", 1, 40_000_000, 1, 0, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(row * 1000)), (b"IEND", b"")]
    yield (
        "thin.png",
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
            for kind, body in parts
        ),
    )
    file = io.BytesIO()
    grain = random_bytes.integers(0, 255, (60, 60, 3), np.uint8)
    Image.fromarray(grain).resize((side, side)).save(file, "JPEG", progressive=True, quality=20)
    data = file.getvalue()
    at = data.rindex(b"\xff\xda")  # the last scan, again and again
    yield "scans.jpg", data[:at] + data[at:-2] * (30_000_000 // (len(data) - at)) + b"\xff\xd9"
    file = io.BytesIO()
    Image.new("RGB", (7900, 7900)).save(file, "WEBP", lossless=True)
    yield "large.webp", file.getvalue()


def test_row_06_pictures_that_cost_much_stop_nobody(index, tmp_path, figure):
    """Eight at once of each: answered, in bounded memory, and the next search is answered too."""
    with served(index, tmp_path / "log") as server:
        server.search()
        idle, peak, statuses, over = server.memory(), [0.0], set(), threading.Event()

        def watch():
            while not over.is_set():
                peak[0] = max(peak[0], server.memory())
                time.sleep(0.02)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            for name, data in _worst():
                head = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{name}"'
                body = head.encode() + b"\r\n\r\n" + data + b"\r\n--b--\r\n"
                kind = [("Content-Type", "multipart/form-data; boundary=b")]

                def ask(body=body, kind=kind):
                    statuses.add(server.ask("/words", "POST", body, kind, seconds=120)[0])

                threads = [threading.Thread(target=ask) for _ in range(8)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                assert server.search()
        finally:
            over.set()
            watcher.join()
        assert statuses <= {200, 400, 413, 503, 504} and 200 in statuses, statuses
        assert peak[0] - idle < 1_500, (idle, peak)  # 8 bodies of 30 MB among them
        assert server.ask("/healthz")[0] == 200
    figure("MB above idle, eight of the worst pictures at once", f"{peak[0] - idle:.0f}")


def test_row_14_a_query_of_a_megabyte_is_refused(index, tmp_path):
    with served(index, tmp_path / "log") as server:
        text = "red " * 2**18
        began, kind = time.monotonic(), [("Content-Type", "application/json")]
        asked = json.dumps({"q": text})
        assert server.ask("/search", "POST", asked, kind)[0] in (400, 413, 422)
        assert server.ask(f"/search?q={'a' * 60_000}")[0] in (400, 414, 431)
        body = json.dumps({"q": "a" * 31 * 2**20})
        try:
            assert server.ask("/search", "POST", body, kind)[0] == 413
        except (BrokenPipeError, ConnectionResetError):
            pass  # it hung up before all was sent
        assert time.monotonic() - began < 15 and server.search()


def test_row_19_slow_clients_stop_nobody(index, tmp_path, figure):
    """Nothing sent, half a header, half a body, nothing read: more of them than descriptors."""
    half = [
        b"", b"GET / HTTP/1.1\r\nHos",
        b"POST /search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99\r\n\r\n{",
        b"GET /static/app.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 3,
    ]  # fmt: skip
    with served(index, tmp_path / "log", first="ulimit -n 256;") as server:
        slow = []
        try:
            for number in range(400):
                try:
                    connection = socket.create_connection(("127.0.0.1", server.port), 5)
                    connection.sendall(half[number % len(half)])
                    slow.append(connection)
                except OSError:  # sent away
                    pass
            times = []
            for _ in range(10):
                began = time.monotonic()
                assert server.search()
                times.append(time.monotonic() - began)
        finally:
            for connection in slow:
                connection.close()
        assert max(times) < 10
        assert server.log.stat().st_size < 100_000
    figure("slow clients beside searches", len(slow))
    figure("longest search beside 400 slow clients, s", f"{max(times):.2f}")


@pytest.mark.parametrize("gone", ["all", "manifest.json"])
def test_row_21_a_server_says_what_is_gone_and_serves_on(index, tmp_path, gone):
    with served(index, tmp_path / "log") as server:
        before = server.search()
        if gone == "all":
            shutil.rmtree(index)
        else:
            (index / gone).unlink()
        assert server.search() == before
        status, body = server.ask("/healthz")
        assert status == 503 and json.loads(body)["problems"]
        assert server.ask("/livez")[0] == 200
        status, body = server.post("new.png", as_png(noise(50)))
        assert status >= 400 and len(body.splitlines()) == 1
        for _ in range(30):
            server.ask("/search?q=red")
        assert server.log.stat().st_size < 100_000


KILL = """
import itertools, json, os, sys
from lexlip import Index
from lexlip.models.shipped import load_shipped
path, journal, engine = sys.argv[1:]
model = load_shipped()
with Index.open(path, model, "w") as index:
    for number in itertools.count(int(open(journal).read().count("\\n"))):
        name = f"{number:05}"
        index.add({name: f"a red circle {number}"})
        with open(journal, "a") as file:
            file.write(name + "\\n")
            file.flush()
            os.fsync(file.fileno())
"""


@pytest.mark.parametrize("engine", ["postings", pytest.param("lucene", marks=pytest.mark.java)])
def test_row_03_an_index_job_that_is_killed_loses_nothing(request, tmp_path, engine, figure):
    """What was acknowledged is there, whole, after each kill -9; the next one goes on."""
    if engine == "lucene":
        request.getfixturevalue("lucene")
    path, journal, model = tmp_path / "i.lex", tmp_path / "journal", load_shipped()
    Index.create(path, model, {"first": "a blue square"}, engine=engine).close()
    journal.write_text("")
    kills = 0
    for _ in range(4 if engine == "lucene" else 6):
        writer = subprocess.Popen([sys.executable, "-c", KILL, path, journal, engine])
        known, began = journal.stat().st_size, time.monotonic()
        while journal.stat().st_size == known and time.monotonic() - began < 60:
            time.sleep(0.005)
        time.sleep(random.uniform(0, 0.2))
        assert writer.poll() is None
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        kills += 1
        acknowledged = set(journal.read_text().split())
        with Index.open(path, model) as index:
            ids = set(index.engine.ids())
            assert index.check() == []
            assert acknowledged | {"first"} <= ids and len(ids) <= len(acknowledged) + 2
            assert {hit.id for hit in index.search("red", 10_000)} >= acknowledged
    figure("writers killed", kills)


def test_row_11_a_server_on_a_full_disk_serves_on_and_writes_again(index, tmp_path, figure):
    """Posts are 507 until there is room; nothing that was acknowledged is lost."""
    if subprocess.run(
        ["unshare", "-Urm", "sh", "-c", "mount -t tmpfs none /tmp"], capture_output=True
    ).returncode:
        pytest.skip("no file system of its own can be mounted here")
    disk = tmp_path / "disk"
    disk.mkdir()
    size = sum(path.stat().st_size for path in index.rglob("*")) // 1024
    commands = (
        f"mount -t tmpfs -o size={size + 1200}k none {disk}; cp -r {index} {disk}/i.lex; "
        f"dd if=/dev/zero of={disk}/filler bs=1k 2>/dev/null; truncate -s -64K {disk}/filler; "
        f"(for i in $(seq 900); do [ -e {tmp_path}/go ] && break; sleep 0.1; done; "
        f"rm {disk}/filler) & "
    )
    where = {"first": commands, "within": ("unshare", "-Urm")}
    with served(disk / "i.lex", tmp_path / "log", **where) as server:
        held, refused = json.loads(server.ask("/stats")[1])["documents"], 0
        for number in range(60):
            status, body = server.post(f"n{number}.png", as_png(noise(100 + number, 60)))
            if status < 300:
                held += 1
                continue
            assert status == 507, body
            refused += 1
            if refused > 3:
                break
        assert refused > 3 and server.search()
        (tmp_path / "go").touch()
        for _ in range(100):
            time.sleep(0.1)
            status, body = server.post("last.png", as_png(noise(99)))
            if status < 400:
                break
        assert status < 400, body
        found = server.ask("/stats")
        assert json.loads(found[1])["documents"] == held + 1
    figure("posts refused by a full disk, and none lost", refused)

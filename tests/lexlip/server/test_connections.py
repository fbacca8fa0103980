"""Connections over real sockets: how many there may be, and how long they may wait."""

from __future__ import annotations

import logging
import os
import re
import resource
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lexlip import Index
from lexlip.server.calm import Calm
from lexlip.server.connections import Limits, Server

ROOT = Path(__file__).resolve().parents[3]
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LARGE = 8 * 2**20


async def application(scope, receive, send):
    """Answers with all of the body, or with a large one."""
    if scope["type"] != "http":
        return
    more = scope["method"] == "POST"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message["more_body"]
    size = LARGE if scope["path"] == "/large" else 2
    headers = [(b"content-length", str(size).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for start in range(0, size, 2**16):
        part = b"k" * min(2**16, size - start)
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


@pytest.fixture
def serve():
    """Return a function: serve with these limits in a thread, and return its address."""
    running = []

    def start(**limits):
        limits = Limits(**limits)
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**14)
        server = Server(
            application, limits, log_level="warning", lifespan="off", ws="none",
            timeout_graceful_shutdown=1,
        )  # fmt: skip
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        running.append((server, thread, listening))
        while not server.started:
            time.sleep(0.01)
        return listening.getsockname()

    yield start
    for server, thread, listening in running:
        server.should_exit = True
        thread.join(20)
        listening.close()


def connect(address, sent=b""):
    client = socket.create_connection(address, timeout=10)
    client.sendall(sent)
    return client


def answer(client):
    """Return what comes until the end of a small answer, or of the connection."""
    read = b""
    try:
        while not read.endswith(b"kk") and (part := client.recv(2**16)):
            read += part
    except ConnectionError:
        pass
    return read


def seconds_until_closed(client, trickle=b"", most=8.0):
    """Return how long a connection stays; `trickle` is sent again and again meanwhile."""
    begun = time.monotonic()
    client.settimeout(0.05)
    while time.monotonic() - begun < most:
        try:
            if trickle:
                client.sendall(trickle)
            if not client.recv(2**16):
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - begun


@pytest.mark.parametrize(
    ("sent", "trickle"),
    [
        (b"", b""),
        (b"GET / HT", b""),
        (b"GET / HTTP/1.1\r\nHost: a\r\n", b"A: b\r\n"),
        (GET, b""),  # kept after its answer
        (GET + b"GET", b"T"),
        # The answer came before the body did.
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\n", b"x"),
    ],
)
def test_a_connection_without_a_request_is_closed(serve, sent, trickle):
    client = connect(serve(header=0.5), sent)
    assert 0.2 < seconds_until_closed(client, trickle) < 3


def test_a_request_has_the_time_of_its_application(serve):
    address = serve(header=0.4)
    client = connect(address, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n")
    for _ in range(4):
        time.sleep(0.3)
        client.sendall(b"x")
    assert answer(client).startswith(b"HTTP/1.1 200")
    for _ in range(4):  # kept, as long as requests come
        time.sleep(0.2)
        client.sendall(GET)
        assert answer(client).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("sent", [b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n", GET * 20_000])
def test_a_client_that_does_not_read_is_left(serve, sent):
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**12)
    client.connect(serve(header=0.3, reading=0.3))
    client.settimeout(3)
    try:
        client.sendall(sent)
    except OSError:  # it is closed before all of it is taken, or takes no more
        pass
    time.sleep(1.5)
    client.settimeout(5)
    read = 0
    try:
        while part := client.recv(2**16):
            read += len(part)
    except ConnectionError:
        pass
    assert read < LARGE / 2


def test_a_client_that_reads_slowly_has_all_of_its_answer(serve):
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**14)
    client.connect(serve(header=0.3, reading=0.3))
    client.settimeout(10)
    client.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    read = 0
    while part := client.recv(2**18):
        read += len(part)
        time.sleep(0.002)
    assert read > LARGE


def test_idle_connections_make_room(serve):
    address = serve(most=20, header=60)
    idle = [connect(address, b"GET / HT") for _ in range(100)]
    for _ in range(5):
        assert answer(connect(address, GET)).startswith(b"HTTP/1.1 200")
    time.sleep(0.3)
    closed = sum(seconds_until_closed(client, most=0.01) < 0.01 for client in idle)
    assert closed >= 80


def test_a_log_is_calm(caplog):
    now = [0.0]
    logger = logging.getLogger("lexlip.test")
    calm = Calm(2, 60, lambda: now[0])
    logger.addFilter(calm)

    def say(number):
        logger.warning("line %d", number)

    try:
        for number in range(100):
            say(number)
        now[0] = 60.0
        say(100)
        logger.warning("another")
    finally:
        logger.removeFilter(calm)
    assert caplog.messages == [
        "line 0", "line 1", "line 100 (and 98 more such lines before)", "another",
    ]  # fmt: skip


def test_more_idle_connections_than_descriptors_stop_nobody(model, checkpoint, photos, tmp_path):
    path = tmp_path / "i.lex"
    Index.create(path, model, photos, engine="postings", checkpoint=checkpoint).close()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    command = [sys.executable, "-m", "lexlip.cli", "serve", str(path), "--port", "0"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "LEXLIP_API_KEY": "", "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard)),
    ) as process:  # fmt: skip
        try:
            line = process.stdout.readline()
            port = int(re.search(r"127\.0\.0\.1:([0-9]+)", line)[1])
            idle = []
            for _ in range(400):
                idle.append(connect(("127.0.0.1", port)))
            begun = time.monotonic()
            for _ in range(4):
                client = connect(
                    ("127.0.0.1", port), b"GET /stats HTTP/1.1\r\nHost: localhost\r\n\r\n"
                )
                assert client.recv(20).startswith(b"HTTP/1.1 200")
                client.close()
            assert time.monotonic() - begun < 10
            assert len(idle) == 400
        finally:
            process.terminate()
            told = process.stderr.read()
    assert len(told) < 5000 and "Traceback" not in told, told[:2000]

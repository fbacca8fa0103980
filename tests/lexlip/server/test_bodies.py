"""Bodies of requests: refused by their length, counted, timed, and forgotten when nobody waits."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from starlette.testclient import TestClient

from lexlip.server import Settings, create_app

JSON = {"Content-Type": "application/json"}


def call(app, sent, headers, path="/words", method="POST", client=("10.0.0.1", 9)):
    """Call an application as a server does; `sent` are messages, or seconds to wait."""
    answers, taken, left = [], [], list(sent)

    async def receive():
        while left and isinstance(left[0], float):
            await asyncio.sleep(left.pop(0))
        if not left:
            await asyncio.sleep(60)
        taken.append(left[0])
        return left.pop(0)

    async def send(message):
        answers.append(message)

    given = {"host": "127.0.0.1", **headers}
    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "headers": [
            (name.lower().encode(), value.encode()) for name, value in given.items()
        ], "query_string": b"", "http_version": "1.1", "scheme": "http", "root_path": "",
        "server": ("127.0.0.1", 80), "client": client, "asgi": {"version": "3.0"},
    }  # fmt: skip
    with ThreadPoolExecutor(1) as pool:  # a browser's tests leave a loop running in this one
        pool.submit(asyncio.run, asyncio.wait_for(app(scope, receive, send), 20)).result()
    status = answers[0]["status"] if answers else None
    return status, b"".join(it.get("body", b"") for it in answers), taken


def part(data, more=True):
    return {"type": "http.request", "body": data, "more_body": more}


@pytest.fixture
def app(make_index, model):
    """Return a function: an application with these settings."""
    path = make_index()
    return lambda **settings: create_app(path, model, Settings(**settings))


def test_json_that_tells_its_length_is_refused_unread(app):
    told = JSON | {"Content-Length": str(31 * 2**20)}
    status, body, taken = call(app(), [part(b"{")], told)
    assert status == 413 and b"1,048,576 bytes" in body and not taken


def test_json_that_does_not_tell_is_read_as_far_as_it_may_be_long(app):
    parts = [part(b" " * 2**18) for _ in range(100)]
    status, body, taken = call(app(), parts, JSON)
    assert status == 413 and b"1,048,576 bytes" in body and len(taken) == 5
    small = [part(b'{"q": '), part(b'"red"}', more=False)]
    assert call(app(), small, JSON)[0] == 200


def test_a_body_that_stops_is_cut_off(app):
    for headers in (JSON, {"Content-Type": "multipart/form-data; boundary=b"}):
        status, body, _ = call(app(body_seconds=0.2), [part(b"--b")], headers)
        assert status == 408 and b"within 0 s" in body


def test_a_body_that_comes_has_more_time(app):
    document = json.dumps({"q": "red" + " " * 32 * 2**10}).encode()
    parts = [part(document), 0.5, part(b"", more=False)]
    assert call(app(body_seconds=0.2, max_query=10**6), parts, JSON)[0] == 200
    slow = [part(document[:100]), 0.5, part(document[100:], more=False)]
    assert call(app(body_seconds=0.2, max_query=10**6), slow, JSON)[0] == 408


def test_large_bodies_share_what_there_is_for_all(app):
    application = app(max_bodies=3 * 2**20)
    form = {"Content-Type": "multipart/form-data; boundary=b"}
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'

    def parts(count):
        return [part(head), *[part(bytes(2**20)) for _ in range(count)], part(b"\r\n--b--", False)]

    status, body, _ = call(application, parts(4), form)
    assert status == 503 and b"other uploads" in body
    for _ in range(5):  # what was held is let go
        assert call(application, parts(2), form)[0] == 400


def test_a_client_that_leaves_is_no_line_in_the_log(app, caplog):
    for headers in (JSON, {"Content-Type": "multipart/form-data; boundary=b"}):
        with caplog.at_level(logging.DEBUG):
            status, _, _ = call(app(), [part(b"--b"), {"type": "http.disconnect"}], headers)
        assert status is None
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


def test_guessing_keys_is_slow(app):
    application = app(api_key="right", guesses=3, guess_seconds=1.0)

    def ask(key, client="10.0.0.1"):
        given = {} if key is None else {"X-API-Key": key}
        return call(application, [], given, "/stats", "GET", (client, 9))[0]

    assert [ask(None) for _ in range(9)] == [401] * 9  # a page that asks for the key
    assert [ask("wrong") for _ in range(3)] == [401] * 3
    # Now the right one is not told from a wrong one.
    assert [ask("wrong"), ask("right"), ask(None)] == [429, 429, 401]
    assert ask("right", "10.0.0.2") == 200
    assert [ask("wrong", f"2001:db8::{n}") for n in range(4)] == [401, 401, 401, 429]
    assert ask("right", "2001:db8:0:1::") == 200
    time.sleep(1)
    assert [ask("right"), ask("wrong")] == [200, 401]


def test_a_client_that_has_to_wait_is_told_how_long(app):
    client = TestClient(app(api_key="right", guesses=1), "http://127.0.0.1")
    assert client.get("/stats", headers={"X-API-Key": "wrong"}).status_code == 401
    answer = client.get("/stats", headers={"X-API-Key": "right"})
    assert answer.status_code == 429 and 50 < int(answer.headers["retry-after"]) <= 60

"""Logs of requests: a JSON object a line, and nothing of what people ask unless wanted."""

from __future__ import annotations

import json
import logging

import pytest

from lexlip.server.request_log import JsonLines, Logged


@pytest.fixture
def lines(caplog):
    """Return a function: the lines of requests so far."""
    caplog.set_level(logging.INFO, "lexlip.server.request_log")
    form = JsonLines()

    def lines():
        return [json.loads(form.format(it)) for it in caplog.records if it.msg == "request"]

    return lines


PATHS = ["/search?q=my+secret", "/my-secret", "/healthz", "/images/my-secret"]


@pytest.mark.parametrize("wanted", [False, True])
def test_a_request_is_a_line_and_its_query_only_if_wanted(make_index, serve, lines, wanted):
    client = serve(make_index(), log_requests=True, log_queries=wanted)
    for path in PATHS:
        client.get(path)
    client.post("/search", json={"q": "my secret"})
    found = lines()
    assert [line["status"] for line in found] == [200, 404, 200, 404, 200]
    assert found[0]["route"] == "/search" and found[1]["route"] == "other"
    for line in found:
        assert line["ms"] >= 0 and line["bytes"] > 0 and line["method"] in ("GET", "POST")
        assert {"time", "level", "client"} <= line.keys()
    told = [line for line in found if "secret" in json.dumps(line)]
    assert len(told) == (1 if wanted else 0)
    if wanted:
        assert told[0]["query"] == "q=my+secret"


def test_nothing_is_logged_by_default(make_index, serve, lines):
    serve(make_index()).get(PATHS[0])
    assert lines() == []


def test_refused_requests_are_lines_too(make_index, serve, lines):
    client = serve(make_index(), log_requests=True, api_key="k" * 32)
    client.get("/search?q=red")
    client.get("/", headers={"Host": "elsewhere"})
    assert [line["status"] for line in lines()] == [401, 400]


async def _raises(scope, receive, send):
    raise ValueError("a bug")


def test_an_application_that_fails_is_a_500(lines):
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    scope = {"type": "http", "method": "GET", "path": "/"}
    with ThreadPoolExecutor(1) as pool, pytest.raises(ValueError):  # a loop runs in this thread
        pool.submit(asyncio.run, Logged(_raises, False)(scope, None, None)).result()
    assert [line["status"] for line in lines()] == [500]


def test_other_lines_are_json_too():
    try:
        raise ValueError("two\nlines")
    except ValueError:
        import sys

        record = logging.LogRecord("a", logging.ERROR, "a.py", 1, "b %s", ("c",), sys.exc_info())
    line = JsonLines().format(record)
    assert "\n" not in line and json.loads(line)["message"] == "b c"
    assert "ValueError" in json.loads(line)["exception"]

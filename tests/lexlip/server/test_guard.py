"""Who may ask, how much, and what every answer carries."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from lexlip.server.answers import search as searching
from lexlip.server.picture_files import token_of

KEY = "pass wörd"


def test_every_answer_carries_a_strict_policy(make_index, serve):
    client = serve(make_index(), api_key="k", max_body=100)
    given = {"X-API-Key": "k"}
    answers = [
        client.get("/"),
        client.get("/static/index.html"),
        client.get("/stats", headers=given),
        client.get("/stats"),
        client.get("/nowhere", headers=given),
        client.get(f"/images/{token_of('home/00.png')}", headers=given),
        client.post("/search", content=b"x" * 101, headers=given),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 401, 404, 200, 413]
    for answer in answers:
        policy = dict(
            part.strip().split(" ", 1)
            for part in answer.headers["content-security-policy"].split(";")
        )
        assert policy["default-src"] == "'self'" and policy["object-src"] == "'none'"
        assert policy["img-src"] == "'self' data: blob:" and "script-src" not in policy
        assert "unsafe" not in str(policy) and policy["frame-ancestors"] == "'none'"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"]


def test_the_page_asks_whether_its_files_have_changed(make_index, serve):
    client = serve(make_index())
    for address in ("/", "/static/index.html"):
        answer = client.get(address)
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["content-type"].startswith("text/html")
        again = client.get(address, headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304
    assert client.head("/").status_code == 200
    for climbing in ("/static/..%2fapp.py", "/static/%2e%2e/app.py", "/static/../../cli/app.py"):
        assert client.get(climbing).status_code == 404


def test_without_the_key_nothing_but_the_page_is_open(make_index, serve):
    client = serve(make_index(), api_key=KEY)
    for address in ("/", "/healthz", "/livez", "/static/index.html"):
        assert client.get(address).status_code == 200
    image = token_of("home/00.png")
    closed = ["/search?q=red", f"/explain?q=red&image={image}", f"/images/{image}", "/stats",
              "/metrics", "/openapi.json", "/healthz/", "/nowhere", "/statics"]  # fmt: skip
    for address in closed:
        for headers in ({}, {"X-API-Key": "wrong"}, {"X-API-Key": ""}):
            answer = client.get(address, headers=headers)
            assert answer.status_code == 401 and "X-API-Key" in answer.json()["error"], address
    assert client.delete(f"/images/{image}").status_code == 401
    given = {"X-API-Key": KEY.encode()}
    assert client.get("/search?q=red", headers=given).status_code == 200
    assert client.delete(f"/images/{image}", headers=given).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[::1", "a@b:c"])
def test_other_names_are_refused(make_index, serve, host):
    client = serve(make_index())
    answer = client.get("/stats", headers={"Host": host})
    assert answer.status_code == 400 and "another name" in answer.json()["error"]
    for known in ("localhost", "127.0.0.1:8000", "[::1]:80", "LOCALHOST"):
        assert client.get("/healthz", headers={"Host": known}).status_code == 200
    named = serve(make_index("postings", replace=True), hosts=("search.example",))
    assert named.get("/healthz", headers={"Host": "search.example:80"}).status_code == 200
    assert named.get("/healthz").status_code == 400


def test_pages_of_other_sites_change_nothing(make_index, serve):
    client, image = serve(make_index()), token_of("home/00.png")
    foreign = [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": "http://["},
               {"Origin": "http://127.0.0.1:99"}, {"Sec-Fetch-Site": "cross-site"}]  # fmt: skip
    for headers in foreign:
        answer = client.delete(f"/images/{image}", headers=headers)
        assert answer.status_code == 403 and "another site" in answer.json()["error"]
    own = {"Origin": "http://127.0.0.1", "Sec-Fetch-Site": "same-origin"}
    assert client.delete(f"/images/{image}", headers=own).status_code == 200


def test_a_body_is_cut_off_where_it_is_too_long(make_index, serve):
    client = serve(make_index(), max_body=1000)

    def parts():
        for _ in range(11):
            yield b"x" * 100

    told = client.post("/words", content=b"x" * 1001)
    counted = client.post("/words", content=parts(), headers={"Content-Type": "application/json"})
    form = client.post("/images", files={"file": b"x" * 1001})
    lying = client.post("/images", content=parts(), headers={
        "Content-Length": "5", "Content-Type": "multipart/form-data; boundary=b"})  # fmt: skip
    for answer in (told, counted, form, lying):
        assert answer.status_code == 413 and "1,000 bytes" in answer.json()["error"]


def test_what_takes_too_long_is_answered_and_too_many_are_sent_away(make_index, serve, monkeypatch):
    client = serve(make_index(), seconds=0.3, threads=1, waiting=0)
    free, asked = threading.Event(), threading.Event()
    answer = searching.search

    def slow(*args):
        asked.set()
        assert free.wait(20)
        return answer(*args)

    monkeypatch.setattr(searching, "search", slow)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.get, "/search?q=red")
        assert asked.wait(20)
        busy = client.get("/search?q=red")
        assert busy.status_code == 503 and "busy" in busy.json()["error"]
        assert client.get("/livez").status_code == 200
        assert first.result().status_code == 504 and "0.3 s" in first.result().json()["error"]
    assert client.get("/search?q=red").status_code == 503  # its thread is still at it
    free.set()
    monkeypatch.setattr(searching, "search", answer)
    service = client.app.state.service
    for _ in range(200):
        if not service.workers._taken:
            break
        threading.Event().wait(0.05)
    assert client.get("/stats").status_code == 200


def test_metrics_count_by_route(make_index, serve):
    client = serve(make_index())
    for _ in range(3):
        cost = client.get("/search?q=red").json()["cost"]["postings"]
    client.get("/search?q=")
    client.get(f"/images/{token_of('home/00.png')}")
    client.get("/some/secret")
    text = client.get("/metrics").text
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
    count = 'lexlip_requests_total{{method="GET",path="{}",status="{}"}}'
    assert lines[count.format("/search", 200)] == "3.0"
    assert lines[count.format("/search", 400)] == "1.0"
    assert lines[count.format("/images/{image}", 200)] == "1.0"
    assert lines[count.format("other", 404)] == "1.0" and "secret" not in text
    assert float(lines["lexlip_postings_total"]) == 3 * cost > 0
    assert lines["lexlip_documents"] == "8.0"
    assert lines['lexlip_search_stage_seconds_count{stage="search"}'] == "3.0"


def test_a_failure_of_ours_is_one_line_without_its_cause(make_index, serve, monkeypatch, model):
    from starlette.testclient import TestClient

    client = serve(make_index())

    def fail(*args):
        raise RuntimeError("a secret")

    monkeypatch.setattr(searching, "search", fail)
    quiet = TestClient(client.app, "http://127.0.0.1", raise_server_exceptions=False)
    answer = quiet.get("/search?q=red")
    assert answer.status_code == 500 and "secret" not in answer.text
    assert answer.json()["error"] and answer.headers["content-security-policy"]

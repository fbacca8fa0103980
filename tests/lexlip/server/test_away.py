"""A server whose engine is on other machines: nodes die, hang and come back."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest
from scipy.sparse import csr_array

from lexlip import Index
from lexlip.engines import OpenSearchEngine
from lexlip.engines.distant import Unavailable, within
from lexlip.engines.opensearch import view
from lexlip.errors import LexLIPError
from lexlip.server import watching
from lexlip.server.picture_files import token_of
from tests.lexlip.engines.test_opensearch import answering, told
from tests.support.cameras import as_bytes

OpenSearch = pytest.importorskip("opensearchpy").OpenSearch
pytestmark = [pytest.mark.engine, pytest.mark.xdist_group("opensearch")]
QUERIES = ("red", "a blue star", "two circles", "green -red")
AWAY = {"error": "the search engine does not answer: try again in a moment"}


def wait(told, seconds=60):
    """Return what a function tells once that is true."""
    until = time.monotonic() + seconds
    while not (found := told()):
        assert time.monotonic() < until
        time.sleep(0.05)
    return found


def hits(client, query):
    found = client.get("/search", params={"q": query, "k": 50})
    assert found.status_code == 200, found.text
    return [(hit["id"], hit["score"], hit["words"]) for hit in found.json()["hits"]]


def reading(client):
    """What asks the engine."""
    return [
        client.get("/search?q=red"),
        client.post("/search/batch", json={"queries": ["red", "blue"]}),
        client.get("/explain", params={"q": "red", "image": token_of("home/00.png")}),
        client.get("/facets?column=folder"),
        client.get("/images"),
        client.get(f"/images/{token_of('home/00.png')}"),
        client.get("/columns"),
        client.get("/stats"),
        client.delete(f"/images/{token_of('home/00.png')}"),
    ]


def health(client):
    told = client.get("/healthz")
    return told.status_code, told.json()["status"], told.json()["problems"]


def metric(client, name):
    lines = client.get("/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])


@pytest.mark.full
def test_a_manager_is_killed_while_people_search(
    three_nodes, make_index, serve, model, caplog, tmp_path
):
    postings = serve(make_index())
    right = {query: hits(postings, query) for query in QUERIES}
    safe = make_index(f"opensearch:{three_nodes.place('safe', '?shards=3&replicas=1')}")
    safe = safe.rename(tmp_path / "safe.lex")
    bare = make_index(f"opensearch:{three_nodes.place('bare', '?shards=3')}")
    three_nodes.wait(3)
    deep = OpenSearchEngine(tmp_path / "deep", "w", three_nodes.place("deep", "?shards=3"))
    deep.add([f"{n:05}" for n in range(5100)], csr_array([[1]] * 5100))
    deep.commit()
    deep.close()
    deep = OpenSearchEngine(tmp_path / "deep", "r", three_nodes.place("deep"))
    whole, broken = serve(safe), serve(bare, seconds=5.0)
    assert {query: hits(broken, query) for query in QUERIES} == right
    stop, wrong, count = threading.Event(), [], [0] * 4

    def search(number):
        while not stop.is_set():
            query = QUERIES[count[number] % 4]
            try:
                if hits(whole, query) != right[query]:
                    wrong.append(query)
            except AssertionError as error:
                wrong.append(error)
            count[number] += 1

    threads = [threading.Thread(target=search, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    try:
        with caplog.at_level(logging.WARNING, "lexlip"):
            manager = three_nodes.manager
            three_nodes.kill(manager)
            wait(lambda: broken.get("/healthz").status_code == 503)
            for answer in reading(broken):
                assert (answer.status_code, answer.json()) == (503, AWAY), answer.request.url
                assert answer.headers["Retry-After"] == "1"
            problem = ["the engine is away: the log says why"]
            assert health(broken) == (503, "failing", problem)
            assert broken.get("/status").status_code == broken.get("/livez").status_code == 200
            assert metric(broken, "lexlip_engine_up") == 0
            assert metric(broken, "lexlip_engine_unavailable_total") >= 9
            # Nothing that is not whole is told as if it were.
            for call in (
                lambda: deep.search({0: 1}, 5100), lambda: deep.search({0: 1}, 5), deep.ids,
                lambda: deep.frequencies([0]), lambda: list(deep.walk()), deep.stats, deep.matching,
            ):  # fmt: skip
                try:
                    told = call()
                except Unavailable as error:
                    assert "\n" not in str(error)
                else:
                    assert told == 5100  # known from the commit
            assert health(whole) == (200, "ok", [])
            three_nodes.start(manager)
            wait(lambda: health(broken) == (200, "ok", []))
            three_nodes.wait(3)
            assert {query: hits(broken, query) for query in QUERIES} == right
            assert len(deep.search({0: 1}, 5100)) == len(deep.ids()) == 5100
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong and min(count) > 10
    said = [it.getMessage() for it in caplog.records if it.name == watching.__name__]
    assert [line.partition(" after")[0].partition(",")[0] for line in said] == [
        "the engine is away", "the engine is back"
    ]  # fmt: skip
    assert metric(broken, "lexlip_engine_up") == 1
    picture = as_bytes(model_picture(), "PNG")
    assert len(whole.post("/images", files={"file": picture}).json()["added"]) == 1
    assert whole.get("/search?q=red").json()["total"] == 9
    deep.close()


def model_picture():
    from PIL import Image

    return Image.new("RGB", (40, 40), "red")


def test_another_servers_commit_is_seen_within_a_moment(opensearch, make_index, serve, model):
    path = make_index(f"opensearch:{opensearch.place()}")
    one, other = serve(path), serve(path, read_only=True)
    assert one.delete(f"/images/{token_of('home/00.png')}").json() == {"deleted": 1}
    assert one.get("/search?q=red").json()["total"] == 7  # its own, at once
    wait(lambda: other.get("/search?q=red").json()["total"] == 7, 5)
    with Index.open(path, model, "w") as index:
        index.compact()
    time.sleep(2 * watching.EVERY)
    assert hits(other, "red") == hits(one, "red")


def test_a_search_does_not_look_for_commits(opensearch, make_index, serve, monkeypatch):
    client = serve(make_index(f"opensearch:{opensearch.place()}"))
    looks, read = [], view.read_state
    monkeypatch.setattr(view, "read_state", lambda *at: looks.append(1) or read(*at))
    begun = time.monotonic()
    for _ in range(50):
        assert client.get("/search?q=red&explain=false").status_code == 200
    assert len(looks) <= 2 * (time.monotonic() - begun) / watching.EVERY + 2


def test_a_commit_is_asked_once_for_what_it_says(opensearch, make_index, serve, monkeypatch):
    path = make_index(f"opensearch:{opensearch.place()}")
    client, asked = serve(path), []
    real = OpenSearch.search, OpenSearch.msearch
    for name, call in zip(("search", "msearch"), real, strict=True):
        monkeypatch.setattr(
            OpenSearch, name, lambda *at, call=call, **how: asked.append(how) or call(*at, **how)
        )

    def searches():
        """Those of the test, not those of the watch."""
        found = sum("terminate_after" not in how["body"] for how in asked)
        asked.clear()
        return found

    first = hits(client, "a red circle")
    assert 2 <= searches() <= 5
    assert hits(client, "a red circle") == first and searches() == 1
    for image in ("home/00.png", "trip/01.png", "home/00.png"):
        assert client.get(f"/images/{token_of(image)}").status_code == 200
    assert searches() <= 2
    # What another commit says is another matter.
    assert client.delete(f"/images/{token_of(first[0][0])}").status_code == 200
    assert [id for id, *_ in hits(client, "a red circle")] == [id for id, *_ in first[1:]]
    assert client.get(f"/images/{token_of(first[0][0])}").status_code == 404


def test_a_failure_that_passes_costs_no_answer(opensearch, tmp_path):
    place = opensearch.place()
    with closing(OpenSearchEngine(tmp_path / "index", "w", place)) as engine:
        engine.add(["a"], csr_array([[1]]))
        engine.commit()
        state = engine._client.get(index=engine.place.name, id="lexlip")
    missing = {"error": {"type": "search_phase_execution_exception", "reason": "missing shards"}}
    whole = {
        "_shards": {"failed": 0}, "timed_out": False,
        "hits": {"hits": [{"sort": [1, "a"], "_score": 1.0}]},
    }  # fmt: skip
    part = whole | {"_shards": {"failed": 1, "total": 3}}
    opened = [told("3.8.0"), (200, state)]
    with answering(
        [*opened, *[(503, missing)] * 3, (500, missing), (503, missing), (200, whole)]
    ) as (url, came):
        reader = OpenSearchEngine(tmp_path / "index", "r", f"{url}/{place.rpartition('/')[2]}")
        assert reader.search({0: 1}, 1)[0].id == "a" and len(came) == 8
        reader.close()
    for bad, tries in (
        ((503, missing), 12),
        ((200, part), 1),
        ((200, whole | {"timed_out": True}), 1),
    ):
        with answering([*opened, bad]) as (url, came):
            reader = OpenSearchEngine(tmp_path / "index", "r", f"{url}/{place.rpartition('/')[2]}")
            with pytest.raises(Unavailable, match="did not answer"):
                reader.search({0: 1}, 1)
            assert len(came) == 2 + tries
            reader.close()


def test_a_silent_node_is_passed_over(opensearch, tmp_path):
    place = opensearch.place()
    with closing(OpenSearchEngine(tmp_path / "index", "w", place)) as engine:
        engine.add(["a"], csr_array([[1]]))
        engine.commit()
    url, _, name = place.rpartition("/")
    with answering([(None, {})]) as (silent, came):
        both = f"{silent},{url.removeprefix('http://')}/{name}?timeout=4"
        begun = time.monotonic()
        reader = OpenSearchEngine(tmp_path / "index", "r", both)
        while not came:
            assert reader.search({0: 1}, 5)[0].id == "a"
        assert time.monotonic() - begun < 4 and reader.search({0: 1}, 5)
        reader.close()
        alone = f"{silent}/{name}?timeout=1"
        for seconds, least in ((60, 1), (0.3, 0.3)):
            begun = time.monotonic()
            with within(seconds), pytest.raises(Unavailable, match="did not answer within"):
                OpenSearchEngine(tmp_path / "index", "r", alone)
            assert least <= time.monotonic() - begun < least + 1


def test_serving_begins_with_the_engine_away(make_index, opensearch, tmp_path):
    path = make_index(f"opensearch:{opensearch.place()}")
    found = subprocess.run(
        [sys.executable, "-m", "lexlip.cli", "serve", path, "--port", "0"],
        env=environment(LEXLIP_OPENSEARCH_NODES="http://127.0.0.1:9"),
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert found.returncode == 2 and found.stdout == ""
    (line,) = found.stderr.splitlines()
    assert "OpenSearch at http://127.0.0.1:9 cannot be reached" in line


def environment(**more):
    import os

    return {**os.environ, **more}


def test_an_engine_that_is_away_is_a_lexlip_error():
    assert issubclass(Unavailable, LexLIPError)

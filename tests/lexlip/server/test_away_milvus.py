"""A server whose engine is a Milvus that dies and comes back, and copies of its folder."""

from __future__ import annotations

import logging
import time

import pytest
from scipy.sparse import csr_array

from lexlip import Index
from lexlip.engines import open_engine
from lexlip.server import following, watching
from tests.lexlip.server.test_away import AWAY, health, hits, reading, wait
from tests.lexlip.server.test_shared_storage import send

pytestmark = [pytest.mark.engine, pytest.mark.xdist_group("milvus")]
QUERIES = ("red", "a blue star", "green -red")


@pytest.fixture(scope="module")
def milvus_server(tmp_path_factory):
    """A Milvus Lite of one's own."""
    from importlib.metadata import version

    from tests.support.milvus import StartedServer, why_not

    pytest.importorskip("milvus_lite")
    if reason := why_not():
        pytest.skip(reason)
    if int(version("milvus-lite")[0]) < 3:
        pytest.skip("Milvus Lite 2 has no server")
    started = StartedServer(tmp_path_factory.mktemp("server"))
    yield started
    started.stop()


def test_a_milvus_that_dies_is_503_until_it_is_back(milvus_server, make_index, serve, caplog):
    postings = serve(make_index())
    right = {query: hits(postings, query) for query in QUERIES}
    path = make_index(f"milvus:{milvus_server.uri}/photos")
    client = serve(path, seconds=5.0)
    assert {query: hits(client, query) for query in QUERIES} == right
    with caplog.at_level(logging.WARNING, "lexlip"):
        milvus_server.kill()
        wait(lambda: client.get("/healthz").status_code == 503)
        for answer in reading(client):
            assert (answer.status_code, answer.json()) == (503, AWAY), answer.request.url
        assert health(client)[1] == "failing"
        milvus_server.start()
        wait(lambda: health(client) == (200, "ok", []))
    assert {query: hits(client, query) for query in QUERIES} == right
    lines = [r.getMessage() for r in caplog.records if "the engine is" in r.getMessage()]
    assert len(lines) == 2 and lines[0].startswith("the engine is away")
    assert lines[1].startswith("the engine is back after")


def test_a_reader_is_told_what_newer_commits_bring(milvus_server, tmp_path):
    place = f"milvus:{milvus_server.uri}/coming"
    writer = open_engine(place, tmp_path / "e", "w")
    writer.add(["a", "b"], csr_array([[1], [2]]))
    writer.commit()
    reader = open_engine(place, tmp_path / "e", "r")
    assert reader.coming() == []
    writer.add(["b", "c"], csr_array([[3], [4]]))
    writer.delete(["a"])
    writer.commit()
    assert sorted(reader.coming()) == ["b", "c"] and reader.stale()
    assert reader.reopen() and reader.coming() == []
    writer.close(), reader.close()


def test_an_index_in_milvus_is_served_from_shared_storage(
    milvus_server, make_index, serve, model, images, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(following, "EVERY", 0.2)
    monkeypatch.setattr(watching, "EVERY", 0.2)
    path = make_index(f"milvus:{milvus_server.uri}/copied", keep_floats=True)
    there = tmp_path / "storage" / "photos.lex"
    send(path, there)
    here, other = serve(path), serve(there.as_uri())
    assert hits(other, "red") == hits(here, "red")
    with Index.open(path, model, "w") as index:
        index.add({"new.png": images[9]})
    time.sleep(1)  # the collection has the commit, the storage has not
    assert other.get("/search?q=red").json()["total"] == 8
    send(path, there)
    wait(lambda: other.get("/search?q=red").json()["total"] == 9, 20)
    wait(lambda: hits(other, "red") == hits(here, "red"))

"""A reader lives on while another index takes the place of its own: never a mixture of two."""

from __future__ import annotations

import logging
import os
import shutil
import threading

import pytest
from starlette.testclient import TestClient

from lexlip import Index, LexLIPError
from lexlip.build import identity
from lexlip.server.app import create_app
from lexlip.server.settings import Settings

ENGINES = ["postings", pytest.param("lucene", marks=pytest.mark.java)]


@pytest.fixture(params=ENGINES)
def engine(request, no_flush):
    if request.param == "lucene":
        request.getfixturevalue("lucene")
    return request.param


@pytest.fixture
def no_flush(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def lucene():
    from lexlip.engines.lucene.engine import lucene_jar
    from lexlip.engines.lucene.java import find_java

    try:
        find_java(), lucene_jar()
        import jnius_config  # noqa: F401
    except (LexLIPError, ImportError) as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def other(make_model, tmp_path_factory):
    """Another model with the same words, and the folder of its checkpoint."""
    import torch

    model = make_model(seed=1)
    with torch.no_grad():
        for head in (model.text_head, model.image_head):
            head.bias.add_(1.5)
    folder = tmp_path_factory.mktemp("other") / "checkpoint"
    model.save_pretrained(folder)
    return model, folder


@pytest.fixture
def build(tmp_path, images, engine):
    """Return a function: write an index of some of the pictures at the one place."""
    path = tmp_path / "photos.lex"

    def build(model, checkpoint, count=6, **options):
        source = {f"{number}.png": images[number] for number in range(count)}
        with Index.create(
            path, model, source, engine=engine, checkpoint=checkpoint, replace=True, **options
        ) as index:
            return index.search("a red circle", 99)

    build.path = path
    return build


def test_reopen_goes_on_to_a_new_index_of_the_same_model(build, model, checkpoint):
    first = build(model, checkpoint)
    with Index.open(build.path, model) as index:
        assert index.search("a red circle", 99) == first and not index.stale()
        second = build(model, checkpoint, count=12, keep_floats=True)
        assert index.search("a red circle", 99) == first  # the old one, until it is told
        assert index.stale() and index.replaced
        assert index.reopen() and not index.stale()
        assert index.search("a red circle", 99) == second != first
        assert index.search("a red circle", 99, rescore=12) and len(index) == 12
        assert not index.reopen()


def test_an_equal_index_is_noticed_too(build, model, checkpoint):
    """As many commits, the same manifest in every byte: only the folder is another one."""
    first = build(model, checkpoint)
    with Index.open(build.path, model) as index:
        assert build(model, checkpoint) == first
        assert index.replaced and index.reopen() and index.search("a red circle", 99) == first


def test_reopen_renews_the_model_where_it_may(build, model, checkpoint, other):
    build(model, checkpoint)
    with Index.open(build.path) as index:
        old = index.query("a red circle")
        wanted = build(*other)
        assert index.query("a red circle") == old
        assert index.reopen()
        assert index.model.fingerprint == other[0].fingerprint == index.manifest["model"]
        assert index.search("a red circle", 99) == wanted
        assert index.query("a red circle") != old


def test_reopen_refuses_another_model_than_the_one_given(build, model, checkpoint, other):
    first = build(model, checkpoint)
    with Index.open(build.path, model) as index:
        build(*other)
        for _ in range(2):
            with pytest.raises(LexLIPError, match="another index has taken its place") as caught:
                index.reopen()
            assert len(str(caught.value).splitlines()) == 1
            assert index.manifest["model"] == model.fingerprint
            assert index.search("a red circle", 99) == first


def test_a_writer_is_not_moved(build, model, checkpoint):
    build(model, checkpoint)
    with Index.open(build.path, model, "w") as index:
        shutil.copytree(build.path, build.path.with_name("copy"))
        shutil.rmtree(build.path)
        build.path.with_name("copy").rename(build.path)
        with pytest.raises(LexLIPError, match="was replaced while it was written to"):
            index.reopen()


def test_an_index_that_is_gone_is_said_so(build, model, checkpoint):
    first = build(model, checkpoint)
    with Index.open(build.path, model) as index:
        shutil.rmtree(build.path)
        with pytest.raises(LexLIPError, match="no index at"):
            index.reopen()
        assert index.search("a red circle", 99) == first


def test_a_commit_is_seen_as_before(build, model, checkpoint, images):
    build(model, checkpoint)
    with Index.open(build.path, model) as index, Index.open(build.path, model, "w") as writer:
        writer.add({"new.png": images[11]})
        assert index.stale() and not index.replaced
        assert index.reopen() and len(index) == 7 and not index.reopen()


def test_what_is_opened_is_of_one_index(build, model, checkpoint, other, monkeypatch):
    """Replaced between manifest and engine: opened again, all of the new one."""
    import lexlip.index as module

    build(model, checkpoint)
    real, wanted = module.read_manifest, []

    def slow(path):
        found = real(path)
        if not wanted:
            wanted.append(None)
            wanted[0] = build(*other)
        return found

    monkeypatch.setattr(module, "read_manifest", slow)
    with Index.open(build.path) as index:
        assert index.manifest["model"] == other[0].fingerprint
        assert index.search("a red circle", 99) == wanted[0]


def test_readers_and_replacements_side_by_side(build, model, checkpoint, other):
    """Answers are those of one index or of the other, never of both."""
    one, two = build(model, checkpoint), build(*other)
    stop = threading.Event()

    def replace():
        for turn in range(6):
            build(*((model, checkpoint), other)[turn % 2])
        stop.set()

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        with Index.open(build.path) as index:
            while not stop.is_set():
                assert index.search("a red circle", 99) in (one, two)
                index.reopen()
    finally:
        thread.join()


def test_a_mark_waits_for_the_second_rename(tmp_path):
    assert identity.mark(tmp_path) is None
    threading.Timer(0.02, (tmp_path / "manifest.json").write_text, ["{}"]).start()
    assert identity.mark(tmp_path) is not None


def test_the_server_stays_with_its_model(build, model, checkpoint, other, caplog):
    build(model, checkpoint)

    def ids(client):
        answer = client.get("/search", params={"q": "a red circle", "k": 24}).json()
        return [(hit["id"], hit["score"]) for hit in answer["hits"]]

    with TestClient(create_app(build.path, None, Settings()), "http://127.0.0.1") as client:
        first = ids(client)
        second = build(model, checkpoint, count=12)
        assert ids(client) == [tuple(hit) for hit in second] != first
        with caplog.at_level(logging.WARNING):
            build(*other)
            for _ in range(3):
                assert ids(client) == [tuple(hit) for hit in second]
        said = [it.getMessage() for it in caplog.records if "served" in it.name]
        assert len(said) == 1 and "another model" in said[0] and "restart" in said[0]
        third = build(model, checkpoint)
        assert ids(client) == [tuple(hit) for hit in third] == first

"""Engines for the tests of the library: all of them, or postings in small parts."""

from __future__ import annotations

import os
from contextlib import contextmanager

import pytest

pytest.register_assert_rewrite("tests.support.oracles")


KINDS = [
    "postings",
    pytest.param("lucene", marks=pytest.mark.java),
    # One worker of pytest-xdist has all of them, so that one node is started.
    pytest.param("opensearch", marks=[pytest.mark.engine, pytest.mark.xdist_group("opensearch")]),
    pytest.param("milvus", marks=pytest.mark.xdist_group("milvus")),
]


@contextmanager
def engines(request, folder):
    """Yield a function that makes engines, each in a folder of its own unless given one."""
    from lexlip.engines import DISTANT, open_engine
    from lexlip.engines.postings import engine as postings

    made, places, kind = [], {}, request.param
    node = request.getfixturevalue(kind) if kind != "postings" else None

    def make(name=None, mode="w"):
        name = name or f"index-{len(made)}"
        if kind in DISTANT and name not in places:
            places[name] = f"{kind}:{node.place()}"
        made.append(open_engine(places.get(name, kind), folder / name, mode))
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        if kind == "postings":
            patch.setattr(postings, "_SMALL", 0)  # even small parts are kept apart
            patch.setattr(os, "fsync", lambda descriptor: None)  # no test cuts the power
        yield make
        for engine in made:
            engine.close()


@pytest.fixture(params=KINDS)
def new_engine(request, tmp_path):
    """Return a function that makes an engine, each in a folder of its own unless given one."""
    with engines(request, tmp_path) as make:
        yield make


@pytest.fixture(params=KINDS, scope="module")
def shared_engine(request, tmp_path_factory):
    """An engine for tests of a file that read it only, or that it refuses."""
    with engines(request, tmp_path_factory.mktemp("shared")) as make:
        yield make()


@pytest.fixture
def engine(new_engine):
    return new_engine()


@pytest.fixture
def no_flush(monkeypatch):
    """No waiting for the disk: no test cuts the power."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def many_parts(monkeypatch):
    """Keep even small parts apart."""
    from lexlip.engines.postings import engine as postings

    monkeypatch.setattr(postings, "_SMALL", 0)


@pytest.fixture
def load(tmp_path):
    """Return a function: load a collection, with a cache of this test's own."""
    from lexlip.data.collection import load_collection

    def load(source, *args, **options):
        return load_collection(source, *args, cache=tmp_path / "cache", **options)

    return load

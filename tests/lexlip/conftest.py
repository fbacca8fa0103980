"""Engines for the tests of the library: both of them, or postings in small parts."""

from __future__ import annotations

import os

import pytest

pytest.register_assert_rewrite("tests.support.oracles")


@pytest.fixture(params=["postings", pytest.param("lucene", marks=pytest.mark.java)])
def new_engine(request, tmp_path):
    """Return a function that makes an engine, each in a folder of its own unless given one."""
    from lexlip.engines import LuceneEngine, PostingsEngine

    made = []
    if request.param == "lucene":
        request.getfixturevalue("lucene")
    else:
        request.getfixturevalue("many_parts")
        request.getfixturevalue("no_flush")
    kind = {"postings": PostingsEngine, "lucene": LuceneEngine}[request.param]

    def make(name=None, mode="w"):
        made.append(kind(tmp_path / (name or f"index-{len(made)}"), mode))
        return made[-1]

    yield make
    for engine in made:
        engine.close()


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

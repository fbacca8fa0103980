"""Copies of an index on shared storage: whole, or as they were."""

from __future__ import annotations

import shutil

import pytest

from lexlip import Index
from lexlip.build.identity import mark
from lexlip.build.shared import Shared
from lexlip.errors import LexLIPError
from lexlip.storage.files import MANIFEST
from lexlip.storage.remote import Remote, Unreachable
from lexlip.storage.seal import read_sealed, write_sealed

pytest.importorskip("fsspec")


@pytest.fixture
def original(tmp_path, model, photos, no_flush):
    """An index that says it is on a cluster: nobody asks that here."""
    path = tmp_path / "photos.lex"
    with Index.create(path, model, photos, engine="postings", keep_floats=True) as index:
        index.add({"more": photos / "00.png"})
    (path / "engine" / "opensearch.json").write_text('{"owner": "me"}')
    write_sealed(
        path / MANIFEST,
        read_sealed(path / MANIFEST) | {"engine": "opensearch:http://127.0.0.1:9/photos"},
    )
    return path


@pytest.fixture
def shared(original, tmp_path):
    return Shared(original.as_uri(), tmp_path / "cache")


def floats(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("LOCK", "OWNER")
    }


def test_a_copy_has_what_a_reader_needs(original, shared):
    assert shared.follow() and not shared.follow()
    assert floats(shared.path / "floats") == floats(original / "floats")
    assert (shared.path / MANIFEST).read_bytes() == (original / MANIFEST).read_bytes()
    assert not (shared.path / "files").exists()
    assert Shared(original.as_uri(), shared.path.parents[1]).path == shared.path


@pytest.mark.parametrize("harm", ["flip", "cut", "gone", "grown"])
def test_damage_is_not_taken_over(original, shared, harm):
    part = max((original / "floats").glob("part-*/*"), key=lambda file: file.stat().st_size)
    data = part.read_bytes()
    damaged = {
        "flip": bytes([data[0] ^ 1]) + data[1:], "cut": data[:-1], "grown": data + b"x",
    }.get(harm)  # fmt: skip
    part.unlink() if damaged is None else part.write_bytes(damaged)
    with pytest.raises(LexLIPError, match="does not exist" if harm == "gone" else "half written"):
        shared.follow()
    assert not shared.path.exists()
    part.write_bytes(data)
    assert shared.follow()
    before = floats(shared.path)
    (original / "floats" / "CURRENT").write_text("gen-000099.json " + "0" * 64 + "\n")
    with pytest.raises(LexLIPError):
        shared.follow()
    assert floats(shared.path / "floats")["CURRENT"] == before["floats/CURRENT"]


def test_names_lead_nowhere_else(original, shared, tmp_path):
    current = original / "floats" / "CURRENT"
    current.write_text("../../x.json " + "0" * 64 + "\n")
    with pytest.raises(LexLIPError, match="is damaged"):
        shared.follow()
    assert not shared.path.exists()


def test_what_cannot_be_served_is_said(original, shared, tmp_path):
    (original / "engine" / "opensearch.json").unlink()
    with pytest.raises(LexLIPError, match="opensearch.json does not exist"):
        shared.follow()
    manifest = read_sealed(original / MANIFEST)
    write_sealed(original / MANIFEST, manifest | {"engine": "postings"})
    with pytest.raises(LexLIPError, match="has the engine postings: .* copy the folder"):
        shared.follow()
    (original / MANIFEST).write_text("{}")
    with pytest.raises(LexLIPError, match="format None") as told:
        shared.follow()
    assert str(tmp_path / "cache") not in str(told.value)
    shutil.rmtree(original)
    with pytest.raises(LexLIPError, match="no index at .* lexlip index file://"):
        shared.follow()  # nothing was copied before


def test_an_index_that_says_the_same_is_another_one(original, shared):
    shared.follow()
    first = mark(shared.path)
    (original / "engine" / "opensearch.json").write_text('{"owner": "you"}')
    assert shared.follow() and mark(shared.path) != first and not shared.follow()


def test_another_index_takes_its_place(original, shared):
    shared.follow()
    first = mark(shared.path)
    manifest = read_sealed(original / MANIFEST)
    write_sealed(original / MANIFEST, manifest | {"source": "other"})
    shutil.rmtree(original / "floats")
    assert shared.follow() and mark(shared.path) != first
    assert not (shared.path / "floats").exists()


def test_a_silent_storage_leaves_the_copy(original, shared, monkeypatch):
    shared.follow()

    def silent(remote, *at):
        raise Unreachable("no answer")

    before = floats(shared.path)
    monkeypatch.setattr(Remote, "read", silent)
    with pytest.raises(Unreachable):
        shared.follow()
    assert floats(shared.path) == before

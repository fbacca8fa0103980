"""Pictures are found again from what the manifest of an index says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lexlip import Index
from lexlip.data.collection import load_collection
from lexlip.data.images import read_image
from lexlip.data.originals import Originals
from lexlip.storage.files import MANIFEST


def made(folder, model, source, **options):
    Index.create(folder / "i.lex", model, source, engine="postings", **options).close()
    return folder / "i.lex", json.loads((folder / "i.lex" / MANIFEST).read_text())


def test_a_folder_is_found_from_anywhere(model, photos, tmp_path, monkeypatch, no_flush):
    monkeypatch.chdir(photos.parent)
    made_of = made(tmp_path, model, photos.name)
    monkeypatch.chdir(tmp_path)
    found = Originals.of(*made_of)
    assert found.problem is None and found.find("03.png") == photos / "03.png"
    assert found.id_of(photos / "03.png") == "03.png"
    assert found.id_of(tmp_path / "03.png") is None
    for id in ("99.png", "../secret", "/etc/passwd", "a\0b", ".", "x" * 300, ""):
        assert found.find(id) is None


def test_one_picture_is_found(model, photos, tmp_path, no_flush):
    found = Originals.of(*made(tmp_path, model, photos / "05.png"))
    assert found.find("05.png") == photos / "05.png" and found.find("5") is None


def test_drawn_scenes_are_found_again_with_their_split(model, tmp_path, monkeypatch, no_flush):
    sizes = {"train": 3, "dev": 2, "test": 4, "size": 32}
    drawn = load_collection("scenes", "test", cache=tmp_path / "cache", scenes=sizes)
    path, manifest = made(tmp_path, model, drawn)
    assert manifest["pictures"]["split"] == "test"
    assert Path(manifest["pictures"]["path"]).is_relative_to(tmp_path / "cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    found = Originals.of(path, manifest)
    assert found.folder is None and found.problem is None
    for row, id in enumerate(drawn.ids):
        shown = read_image(found.find(id))
        assert shown.tobytes() == read_image(drawn.picture(row)).tobytes()
    assert found.find("nothing") is None and found.id_of(tmp_path) is None


@pytest.mark.parametrize("source", [{"a": "a text"}, None])
def test_what_was_given_cannot_be_found(model, images, tmp_path, source, no_flush):
    path, manifest = made(tmp_path, model, source or {"a": images[0]})
    assert manifest["pictures"] is None
    found = Originals.of(path, manifest)
    assert found.find("a") is None and "does not say" in found.problem
    older = {key: value for key, value in manifest.items() if key != "pictures"}
    assert Originals.of(path, older).find("a") is None


def test_what_is_gone_has_a_reason(tmp_path):
    found = Originals(tmp_path / "gone.csv")
    assert found.find("a") is None and "does not exist" in found.problem

"""Atomic files and folders: all there, or as before."""

from __future__ import annotations

import hashlib
import os

import numpy as np
import pytest

from lexlip.errors import LexLIPError
from lexlip.storage import files


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_json_round_trip_makes_parents_and_leaves_no_temporary(tmp_path):
    path = tmp_path / "a" / "b.json"
    files.write_json(path, {"word": "écureuil", "n": np.int64(3), "xs": np.array([1.5])})
    assert files.read_json(path) == {"word": "écureuil", "n": 3, "xs": [1.5]}
    assert names(path.parent) == ["b.json"]
    assert path.read_bytes().endswith(b"}\n")


def test_text_and_bytes_are_written_as_they_are(tmp_path):
    files.write_text(tmp_path / "t", "a\nµ\n")
    files.write_bytes(tmp_path / "b", b"\x00\xff")
    assert (tmp_path / "t").read_bytes() == b"a\n\xc2\xb5\n"
    assert (tmp_path / "b").read_bytes() == b"\x00\xff"


@pytest.mark.parametrize("bad", [{"x": float("nan")}, {"x": object()}])
def test_what_json_cannot_hold_leaves_the_old_file(tmp_path, bad):
    path = tmp_path / "a.json"
    files.write_json(path, 1)
    with pytest.raises((ValueError, TypeError)):
        files.write_json(path, bad)
    assert files.read_json(path) == 1
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_failure_midway_leaves_the_old_file(tmp_path, monkeypatch, broken):
    path = tmp_path / "a"
    files.write_bytes(path, b"old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(OSError, match="disk full"):
        files.write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_a_link_stays_a_link(tmp_path):
    files.write_text(tmp_path / "real", "old")
    (tmp_path / "link").symlink_to("real")
    files.write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe", b'{"a": 1,}'])
def test_broken_json_is_one_readable_line(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(LexLIPError, match="not valid JSON") as caught:
        files.read_json(path)
    assert "\n" not in str(caught.value)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(LexLIPError, match="nothing.json does not exist"):
        files.read_json(tmp_path / "nothing.json")
    with pytest.raises(LexLIPError, match="cannot be read"):
        files.sha256_file(tmp_path / "nothing")
    with pytest.raises(LexLIPError, match="cannot be read"):
        files.read_json(tmp_path)


def test_sha256(tmp_path):
    data = bytes(range(256)) * 5000
    (tmp_path / "a").write_bytes(data)
    assert files.sha256_file(tmp_path / "a") == hashlib.sha256(data).hexdigest()


def make(path, text, **options):
    with files.atomic_directory(path, **options) as folder:
        (folder / "sub").mkdir()
        files.write_text(folder / "sub" / "x", text)
        files.write_json(folder / "manifest.json", {})


def test_directory_appears_at_the_end_and_replaces_its_like(tmp_path):
    target = tmp_path / "deep" / "index"
    with files.atomic_directory(target) as folder:
        files.write_json(folder / "manifest.json", {})
        (folder / "old-only").touch()
        assert not target.exists()
    assert names(target) == ["manifest.json", "old-only"]
    make(target, "two")
    assert (target / "sub" / "x").read_text() == "two"
    assert names(target) == ["manifest.json", "sub"]
    assert names(target.parent) == ["index"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_midway_leaves_the_old_directory(tmp_path, error):
    target = tmp_path / "index"
    make(target, "old")
    with pytest.raises(error), files.atomic_directory(target) as folder:
        files.write_text(folder / "half", "half")
        raise error
    assert (target / "sub" / "x").read_text() == "old"
    assert names(tmp_path) == ["index"]


def test_a_failing_last_rename_puts_the_old_directory_back(tmp_path, monkeypatch):
    target = tmp_path / "index"
    make(target, "old")
    real, calls = os.rename, []

    def rename(source, destination):
        calls.append(source)
        if len(calls) == 2:  # the first moves the old one aside
            raise OSError("no")
        real(source, destination)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(OSError, match="no"):
        make(target, "new")
    assert (target / "sub" / "x").read_text() == "old"
    assert names(tmp_path) == ["index"]


def test_a_folder_that_is_not_ours_is_refused(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    make(photos, "into an empty folder")
    (photos / "manifest.json").unlink()
    with pytest.raises(LexLIPError, match=r"holds no manifest\.json"):
        make(photos, "new")
    assert (photos / "sub" / "x").read_text() == "into an empty folder"
    make(photos, "forced", marker=None)
    assert (photos / "sub" / "x").read_text() == "forced"
    (tmp_path / "file").touch()
    with pytest.raises(LexLIPError, match="is a file"):
        make(tmp_path / "file", "new")
    assert names(tmp_path) == ["file", "photos"]


def test_a_link_to_a_directory_is_followed(tmp_path):
    make(tmp_path / "gen-1", "old")
    (tmp_path / "current").symlink_to("gen-1")
    make(tmp_path / "current", "new")
    assert (tmp_path / "current").is_symlink()
    assert (tmp_path / "gen-1" / "sub" / "x").read_text() == "new"

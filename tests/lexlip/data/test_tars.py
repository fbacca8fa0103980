"""Webdataset tars: what is read of them, and what damaged and hostile ones do."""

from __future__ import annotations

import io
import json
import tarfile

import pytest
from PIL import Image

from lexlip.data import tars
from lexlip.data.collection import load_collection
from lexlip.errors import LexLIPError
from lexlip.storage.remote import Remote
from tests.support.file_server import serving
from tests.support.shards import write_tar, write_webdataset


def png(colour):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, "PNG")
    return file.getvalue()


RED, BLUE = png("red"), png("blue")
TOLD = {"a.png": ("a red square", {"year": 2020, "folder": "x"}), "b.png": (None, {"caption": "c"})}


@pytest.fixture
def folder(tmp_path):
    pictures = [("a.png", RED), ("b.png", BLUE), ("sub/c.png", RED)]
    return write_webdataset(tmp_path / "tars", pictures, 2, TOLD)


@pytest.mark.parametrize("pattern", ["photos-*.tar", "photos-{000000..000001}.tar"])
def test_pictures_captions_and_metadata_by_key(folder, pattern):
    found = load_collection(folder / pattern)
    assert found.ids == ["photos-000000/a.png", "photos-000000/b.png", "photos-000001/sub/c.png"]
    assert found.captions == [["a red square"], ["c"], []]
    assert found.columns == {"year": [2020, None, None]}
    assert "'folder' is left out" in found.left_out.notes[0]
    assert found.picture(1).read() == BLUE and found.image(2).getpixel((0, 0)) == (255, 0, 0)
    assert found.picture(0).size == len(RED) and found.picture(0).modified


def test_ids_do_not_depend_on_what_else_there_is(folder):
    one = load_collection(folder / "photos-000001.tar")
    assert one.ids == ["photos-000001/sub/c.png"]


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_letters_of_any_language(tmp_path, format):
    name = "é" * 40 + "/" + "n" * 120 + ".png"
    path = write_tar(tmp_path / "x.tar", [(name, RED), ("b.png", BLUE)], format)
    found = load_collection(path)
    assert found.ids == [f"x/{name}", "x/b.png"]
    assert [found.picture(row).read() for row in (0, 1)] == [RED, BLUE]


def test_hostile_members_are_left_out_and_named(tmp_path, monkeypatch):
    monkeypatch.setattr(tars, "MOST_TEXT", 2000)
    path = tmp_path / "x.tar"
    members = [("../up.png", RED), ("/root.png", RED), ("a/../../up2.png", RED), ("empty.png", b""),
               ("twice.png", RED), ("twice.png", BLUE), ("._mac.png", RED), ("film.mov", b"x"),
               ("good.png", RED), ("good.json", b"{" * 5000), ("twice.json", b"[1]"),
               ("b\udcff.png", RED)]  # fmt: skip
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in members:
            facts = tarfile.TarInfo(name)
            facts.size = len(data)
            tar.addfile(facts, io.BytesIO(data))
        for name, kind in (("l.png", tarfile.SYMTYPE), ("h.png", tarfile.LNKTYPE)):
            facts = tarfile.TarInfo(name)
            facts.type, facts.linkname = kind, "/etc/passwd"
            tar.addfile(facts)
    found = load_collection(path)
    assert found.ids == ["x/twice.png", "x/good.png"]
    assert found.image(0).getpixel((0, 0)) == (255, 0, 0)
    reasons = [why for _, why in found.left_out.skipped]
    assert sum("leads out" in why for why in reasons) == 3
    for part in ("is there twice", "is empty", "not UTF-8"):
        assert sum(part in why for why in reasons) == 1
    kinds = {"hidden files": 1, ".mov": 1, "links and devices in tars": 2}
    assert dict(found.left_out.kinds) == kinds
    notes = " ".join(found.left_out.notes)
    assert "good.json is left out: over 2,000 bytes" in notes
    assert "twice.json is no JSON object" in notes


def damage(data, how):
    if how == "cut":
        return data[: 512 + 20]  # within the picture
    if how == "cut after":
        return data[: 512 + 512]
    header = bytearray(data)
    header[1024 + 10] ^= 255  # of the second member
    return bytes(header)


@pytest.mark.parametrize("how", ["cut", "cut after", "header"])
def test_a_damaged_tar_gives_what_it_has_and_says_so(tmp_path, how):
    path = write_tar(tmp_path / "x.tar", [("a.png", RED), ("b.png", BLUE)])
    path.write_bytes(damage(path.read_bytes(), how))
    write_tar(tmp_path / "y.tar", [("a.png", RED)])
    found = load_collection(tmp_path / "*.tar")
    assert found.ids == ([] if how == "cut" else ["x/a.png"]) + ["y/a.png"]
    (note,) = found.left_out.notes
    assert "damaged behind its member 1" in note and "fetch it again" in note
    if how == "cut":
        assert "the tar ends within it" in found.left_out.skipped[0][1]


def test_what_is_no_tar(tmp_path):
    with tarfile.open(tmp_path / "z.tar", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a.png"))
    (tmp_path / "text.tar").write_text("no tar " * 200)
    for name in ("z.tar", "text.tar"):
        with pytest.raises(LexLIPError, match="is no tar, or a compressed one"):
            load_collection(tmp_path / name)
    with pytest.raises(LexLIPError, match="does not exist"):
        load_collection(tmp_path / "x-{0..1}.tar")
    with pytest.raises(LexLIPError, match="no file matches"):
        load_collection(tmp_path / "x-*.tar")
    write_tar(tmp_path / "none.tar", [("a.txt", b"x")])
    with pytest.raises(LexLIPError, match="no picture in"):
        load_collection(tmp_path / "none.tar")


def test_a_header_that_claims_much_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(tars, "MOST_TEXT", 10_000)
    facts = tarfile.TarInfo("a.png")
    facts.size, facts.pax_headers = len(RED), {"comment": "x" * 50_000}
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(facts, io.BytesIO(RED))
    with pytest.raises(LexLIPError, match="is no tar.*a header of"):
        load_collection(tmp_path / "x.tar")


def test_a_tar_that_was_replaced_meanwhile_is_noticed(tmp_path):
    path = write_tar(tmp_path / "x.tar", [("a.png", RED), ("b.png", BLUE)])
    found = load_collection(path)
    write_tar(path, [("new.txt", b"x" * 3000), ("a.png", RED), ("b.png", BLUE)])
    with pytest.raises(LexLIPError, match="the tar changed"):
        found.picture(1).read()


def test_behind_a_url_a_tar_is_gone_through_once_and_a_part_reads_its_members(folder, tmp_path):
    cache = tmp_path / "cache"
    with serving(folder) as (url, asked):
        pattern = f"{url}/photos-{{000000..000001}}.tar"
        found = load_collection(pattern, cache=cache)
        assert found.ids == load_collection(folder / "photos-*.tar").ids
        asked.clear()
        again = load_collection(pattern, cache=cache)
        assert again.captions == found.captions and again.columns == found.columns
        assert {method for method, _, _ in asked} == {"HEAD"}  # nothing is read
        asked.clear()
        assert again.picture(1).read() == BLUE
        start = again.picture(1).start
        assert asked == [
            ("GET", "/photos-000000.tar", f"bytes={start - 512}-{start + len(BLUE) - 1}")
        ]
        assert again.picture(1).stamp() and again.picture(1).stamp() != again.picture(0).stamp()


def test_tars_in_a_folder_of_a_bucket():
    for number, data in enumerate((RED, BLUE)):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as tar:
            for name, content in (("k.png", data), ("k.json", json.dumps({"n": number}).encode())):
                facts = tarfile.TarInfo(name)
                facts.size = len(content)
                tar.addfile(facts, io.BytesIO(content))
        Remote(f"memory://tars/p-{number}.tar").write(file.getvalue())
    found = load_collection("memory://tars")
    assert found.ids == ["p-0/k.png", "p-1/k.png"] and found.columns == {"n": [0, 1]}
    Remote("memory://tars").remove()

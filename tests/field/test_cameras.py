"""Files of phones and cameras: RAW, HEIC, AVIF, and what they say of date, camera and place."""

from __future__ import annotations

import sys
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, features
from starlette.testclient import TestClient
from typer.testing import CliRunner

from indexing.build import build
from indexing.settings import Settings
from lexlip import Index
from lexlip.cli import app
from lexlip.data.images import read_image, read_photo
from lexlip.data.raw import is_raw, without_twins
from lexlip.errors import LexLIPError
from lexlip.server import Settings as Limits
from lexlip.server import create_app
from lexlip.settings import Data
from tests.support.cameras import as_bytes, dng, exif_of, scene

rawpy = pytest.importorskip("rawpy")


def test_jfif_and_avif_and_heic_are_found_and_read(model, tmp_path):
    names = ["a.jfif", "b.JPG"]
    picture = scene(200, 100)
    for name in names:
        (tmp_path / name).write_bytes(as_bytes(picture))
    if features.check("avif"):
        picture.save(tmp_path / "c.avif", quality=95)
        names.append("c.avif")
    try:
        import pillow_heif

        pillow_heif.from_pillow(picture).save(tmp_path / "d.heic", quality=95)
        names.append("d.heic")
    except ImportError:
        pass
    with Index.create(tmp_path / "x.lex", model, tmp_path, engine="postings") as index:
        assert sorted(hit.id for hit in index.search(picture, 9)) == sorted(names)
        assert not index.skipped
    wanted = np.asarray(picture).astype(int)
    for name in names:
        assert np.abs(np.asarray(read_image(tmp_path / name)) - wanted).mean() < 6


def test_a_heic_with_a_picture_inside_that_is_large_enough_is_not_decoded_in_full():
    pillow_heif = pytest.importorskip("pillow_heif")
    file = pillow_heif.from_pillow(scene(1600, 1200))
    buffer = BytesIO()
    file.save(buffer, quality=80, thumbnails=[400])
    if not hasattr(pillow_heif.HeifImage, "get_thumbnail"):
        pytest.skip("this pillow-heif does not decode the small pictures inside")
    assert read_photo(buffer.getvalue(), at_least=64).image.size == (400, 300)
    assert read_photo(buffer.getvalue(), at_least=64).size == (1600, 1200)
    assert read_photo(buffer.getvalue(), at_least=350).image.size == (534, 400)


# --- RAW ------------------------------------------------------------------------------------------


def halves(width: int = 600, height: int = 400) -> Image.Image:
    """Red on the left, blue on the right."""
    picture = Image.new("RGB", (width, height), (250, 10, 10))
    picture.paste((10, 10, 250), (width // 2, 0, width, height))
    return picture


def test_the_picture_inside_a_raw_file_is_read(model, tmp_path):
    data = dng(halves())
    (tmp_path / "a.dng").write_bytes(data)
    for source in (data, tmp_path / "a.dng"):
        photo = read_photo(source, at_least=64)
        assert photo.size == (600, 400)
        assert photo.facts == {"taken": "2023-01-02T03:04:05", "camera": "ACME R1"}
        assert photo.image.getpixel((10, 10))[0] > 240 and photo.image.getpixel((590, 9))[2] > 240
    with Index.create(tmp_path / "x.lex", model, tmp_path, engine="postings") as index:
        (hit,) = index.search(halves(), 5, where="camera == 'ACME R1' and taken < '2024'")
        assert hit.id == "a.dng"


@pytest.mark.parametrize("orientation, red", [(1, (10, 10)), (3, (590, 10)), (6, (10, 10)),
                                              (8, (10, 590))])  # fmt: skip
def test_a_camera_that_was_turned(orientation, red):
    read = read_image(dng(halves(), orientation))
    assert read.size == ((400, 600) if orientation > 4 else (600, 400))
    assert read.getpixel(red)[0] > 240


@pytest.mark.parametrize("colour, channel", [(0, 0), (1, 1), (3, 2)])
def test_a_raw_file_without_a_picture_is_developed(colour, channel):
    for data in (dng(None, side=900, colour=colour), dng(halves(60, 40), 1, 900, colour)):
        read = read_image(data, at_least=400)
        assert min(read.size) >= 400
        assert int(np.argmax(read.getpixel((200, 200)))) == channel


def test_without_rawpy_one_line_names_what_to_install(monkeypatch, tmp_path):
    path = tmp_path / "a.dng"
    path.write_bytes(dng(halves()))
    monkeypatch.setitem(sys.modules, "rawpy", None)
    with pytest.raises(LexLIPError, match=r"a\.dng: .*pip install 'lexlip\[raw\]'$"):
        read_image(path)


def test_many_raw_files_without_rawpy_are_one_line_with_their_number(
    monkeypatch, checkpoint, tmp_path
):
    (tmp_path / "photos").mkdir()
    scene(40, 30).save(tmp_path / "photos" / "z.png")
    (tmp_path / "photos" / "damaged.png").write_bytes(b"not a picture")
    for n in range(7):
        (tmp_path / "photos" / f"{n}.NEF").write_bytes(dng(halves()))
    monkeypatch.setitem(sys.modules, "rawpy", None)
    out = ["-o", str(tmp_path / "x.lex"), "-m", str(checkpoint), "--engine", "postings"]
    done = CliRunner().invoke(app, ["index", str(tmp_path / "photos"), *out])
    assert done.exit_code == 0, done.output
    said = [line for line in done.stderr.splitlines() if line.startswith("skipped")]
    assert len(said) == 2 and "damaged.png" in said[0]
    assert "0.NEF and 6 others: " in said[1] and said[1].endswith("pip install 'lexlip[raw]'")
    with Index.open(tmp_path / "x.lex") as index:
        assert len(index.skipped) in (0, 8) and len(index) == 1


@pytest.mark.parametrize("keep", [20, 300, 5000])
def test_a_damaged_raw_file_is_one_line(keep, tmp_path):
    path = tmp_path / "a.nef"
    path.write_bytes(dng(halves())[:keep])
    with pytest.raises(LexLIPError) as excinfo:
        read_image(path)
    assert "a.nef" in str(excinfo.value) and "\n" not in str(excinfo.value)


def test_raw_files_are_told_by_their_content():
    heads = [b"II*\0\x10\0\0\0CR\x02\0", b"FUJIFILMCCD-RAW 0201", b"IIRO\x08", b"IIU\0\x18",
             b"\0\0\0\x18ftypcrx \0\0\0\1"]  # fmt: skip
    assert all(is_raw(BytesIO(head.ljust(64, b"\0"))) for head in heads)
    for kind in ("TIFF", "PNG", "JPEG"):
        assert not is_raw(BytesIO(as_bytes(halves(), kind)), ".tif")
    assert is_raw(BytesIO(dng(halves())))


def test_a_raw_beside_its_jpeg_is_one_picture():
    names = ["a.jpg", "a.NEF", "b.nef", "t/a.nef", "t/c.HEIC", "t/c.CR3", "d.tif", "d.dng"]
    kept, twins = without_twins(names)
    assert twins == ["a.NEF", "t/c.CR3"]
    assert kept == ["a.jpg", "b.nef", "t/a.nef", "t/c.HEIC", "d.tif", "d.dng"]


def test_raw_and_jpeg_of_one_photograph_are_one_document_and_said_once(checkpoint, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for n in range(3):
        scene(40, 30, n).save(folder / f"{n}.jpg")
        (folder / f"{n}.NEF").write_bytes(dng(halves()))
    (folder / "alone.nef").write_bytes(dng(halves()))
    out = ["-o", str(tmp_path / "x.lex"), "-m", str(checkpoint), "--engine", "postings"]
    done = CliRunner().invoke(app, ["index", str(folder), *out])
    assert done.exit_code == 0, done.output
    assert f"{folder}: left out RAW files beside their JPEG (3)" in done.stderr.splitlines()
    asked = Settings(
        data=str(folder), model=str(checkpoint), out=str(tmp_path / "b.lex"), engine="postings"
    )
    with Index.open(tmp_path / "x.lex") as index, build(asked, Data()) as bulk:
        for made in (index, bulk):
            ids = ["0.jpg", "1.jpg", "2.jpg", "alone.nef", "0.NEF"]
            held = [document is not None for document in made.engine.fetch(ids)]
            assert held == [True] * 4 + [False] and len(made) == 4


# --- date, camera and place -----------------------------------------------------------------------


FACTS = {
    "taken": "2024-06-30T17:05:00",
    "camera": "ACME Phone 3",
    "latitude": -33.857,
    "longitude": 151.215,
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_every_format_says_when_and_where_it_was_taken(kind):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    data = as_bytes(scene(40, 30), kind, exif=exif_of())
    assert read_photo(data).facts == FACTS
    assert read_photo(data, at_least=8).facts == FACTS


def test_heic_says_it_too():
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = BytesIO()
    pillow_heif.from_pillow(scene(64, 64)).save(buffer, exif=exif_of().tobytes())
    assert read_photo(buffer.getvalue()).facts == FACTS


@pytest.mark.parametrize("taken", ["0000:00:00 00:00:00", "2024:13:01 00:00:00", "", "soon"])
def test_a_clock_that_was_never_set_says_nothing(taken):
    data = as_bytes(scene(8, 8), exif=exif_of(taken, place=False))
    assert read_photo(data).facts == {"camera": "ACME Phone 3"}


@pytest.fixture
def phone(tmp_path):
    """A folder with a photograph, a drawing, and a photograph of another year."""
    folder = tmp_path / "phone"
    folder.mkdir()
    scene(80, 60, 1).save(folder / "new.jpg", exif=exif_of())
    scene(80, 60, 2).save(folder / "old.jpg", exif=exif_of("2019:01:01 00:00:00", place=False))
    scene(80, 60, 3).save(folder / "drawing.png")
    return folder


def test_every_path_that_indexes_makes_columns_of_it(model, checkpoint, phone, tmp_path):
    given = {path.name: path.read_bytes() for path in phone.iterdir()}
    out = ["-o", str(tmp_path / "cli.lex"), "-m", str(checkpoint), "--engine", "postings"]
    done = CliRunner().invoke(app, ["index", str(phone), *out])
    assert done.exit_code == 0, done.output
    asked = Settings(
        data=str(phone), model=str(checkpoint), out=str(tmp_path / "bulk.lex"), engine="postings"
    )
    with (
        Index.create(tmp_path / "a.lex", model, phone, engine="postings") as folder,
        Index.create(tmp_path / "b.lex", model, given, engine="postings") as memory,
        Index.open(tmp_path / "cli.lex", model) as command,
        build(asked, Data()) as bulk,
    ):
        for index in (folder, memory, command, bulk):
            (found,) = index.engine.fetch(["new.jpg"])
            assert {name: found[name] for name in FACTS} == FACTS
            hits = index.search(scene(80, 60), 9, where="taken >= '2024' and latitude < 0")
            assert [hit.id for hit in hits] == ["new.jpg"]
            hits = index.search(scene(80, 60), 9, where="camera == 'ACME Phone 3'")
            assert {hit.id for hit in hits} == {"new.jpg", "old.jpg"}


def test_a_picture_that_is_posted_has_them_too(model, phone, tmp_path):
    Index.create(tmp_path / "a.lex", model, phone / "drawing.png", engine="postings").close()
    served = create_app(tmp_path / "a.lex", model, Limits())
    with TestClient(served, base_url="http://127.0.0.1") as client:
        data = (phone / "new.jpg").read_bytes()
        assert client.post("/images", files={"file": data}).status_code == 200
        raw = client.post("/images", files={"file": dng(halves(), 6)}).json()
        shown = client.get(f"/images/{raw['images'][0]}?size=full") if raw.get("images") else None
        found = client.get("/search", params={"q": "red", "where": "taken > '2024'"})
        assert found.status_code == 200, found.text
    with Index.open(tmp_path / "a.lex", model) as index:
        hits = index.search(scene(9, 9), 9, where="latitude < 0")
        assert len(hits) == 1
        (hit,) = index.search(halves(), 9, where="camera == 'ACME R1'")
        assert hit.id.endswith(".raw")
    assert shown is None or Image.open(BytesIO(shown.content)).size == (400, 600)


def test_a_renamed_photograph_keeps_its_columns(model, phone, tmp_path):
    with Index.create(tmp_path / "a.lex", model, phone, engine="postings") as index:
        (phone / "new.jpg").rename(phone / "renamed.jpg")
        done = index.add(phone, prune=True)
        assert done.alike == 1 and not done.written
        (found,) = index.engine.fetch(["renamed.jpg"])
        assert {name: found[name] for name in FACTS} == FACTS


def test_columns_that_people_wrote_are_kept(model, phone, tmp_path):
    (phone / "metadata.csv").write_text("file_name,taken\nnew.jpg,1999\nold.jpg,1998\n")
    with Index.create(tmp_path / "a.lex", model, phone, engine="postings") as index:
        (found,) = index.engine.fetch(["new.jpg"])
        assert found["taken"] == 1999 and found["camera"] == "ACME Phone 3"

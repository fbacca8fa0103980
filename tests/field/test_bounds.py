"""What one picture may cost: judged by its header, in time, memory and lines of a log."""

from __future__ import annotations

import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from lexlip import Index
from lexlip.cli import app
from lexlip.data import images
from lexlip.data.images import read_image, size_of
from lexlip.data.jpeg import MAX_SCANS
from lexlip.data.limits import PictureTooLarge
from lexlip.errors import LexLIPError
from tests.support.cameras import as_bytes, scene, tiff, with_repeated_scans

ROOT = Path(__file__).resolve().parents[2]


def png(width: int, height: int, rows: int = 1) -> bytes:
    """A PNG of 8-bit grey whose header promises more than it holds."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        end = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + end

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(width + 1) * rows)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


@pytest.fixture
def undecoded(monkeypatch):
    """Fail where pixels are decoded."""

    def load(self):
        pytest.fail("the picture was decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)


@pytest.mark.parametrize("size", [(60_000, 60_000), (1, 40_000_000), (40_000_000, 1)])
@pytest.mark.parametrize("at_least", [None, 64])
def test_a_png_is_judged_before_it_is_decoded(size, at_least, undecoded):
    with pytest.raises(PictureTooLarge, match=f"{size[0]} x {size[1]}"):
        read_image(png(*size), at_least=at_least)


def test_the_size_of_a_png_is_told_without_decoding_it(undecoded):
    assert size_of(png(5000, 4000), "a.png") == (5000, 4000)


def test_a_png_that_says_how_to_turn_it_is_turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = as_bytes(Image.new("RGB", (40, 30)), "PNG", exif=exif)
    assert read_image(data).size == size_of(data, "a.png") == (30, 40)
    end = data.index(b"eXIf") - 4
    length = 12 + int.from_bytes(data[end : end + 4], "big")
    behind = data[:end] + data[end + length : -12] + data[end : end + length] + data[-12:]
    assert read_image(behind).size == (30, 40)


@pytest.fixture
def slow_jpeg():
    """A JPEG of 64 x 64 with 10,000 scans."""
    return with_repeated_scans(as_bytes(scene(64, 64), progressive=True), 10_000)


def test_a_jpeg_with_many_scans_is_refused_on_every_path(slow_jpeg, tmp_path, model, checkpoint):
    photos = tmp_path / "photos"
    photos.mkdir()
    scene(64, 64).save(photos / "good.png")
    (photos / "slow.jpg").write_bytes(slow_jpeg)
    with Index.create(tmp_path / "a.lex", model, photos, checkpoint=checkpoint) as index:
        assert len(index) == 1 and [name for name, _ in index.skipped] == ["slow.jpg"]
        assert "scans would take too long" in index.skipped[0][1]
    command = ["search", str(tmp_path / "a.lex"), "--image", str(photos / "slow.jpg")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2 and "scans would take too long" in result.stderr


def test_scans_of_a_large_jpeg_are_fewer(undecoded):
    data = bytearray(with_repeated_scans(as_bytes(scene(64, 64), progressive=True), 40))
    start = data.index(b"\xff\xc2")
    data[start + 5 : start + 9] = (8000).to_bytes(2, "big") * 2
    with pytest.raises(PictureTooLarge, match=r"a JPEG of \d+ scans would take too long"):
        read_image(bytes(data), at_least=64)


@pytest.mark.parametrize("times", [0, 60])
def test_scans_of_a_jpeg_in_a_tiff_are_few(times):
    jpeg = with_repeated_scans(as_bytes(Image.new("L", (64, 64)), progressive=True), times)
    jpeg += b"\0" * (len(jpeg) % 2)
    entries = {
        0x100: (4, 64), 0x101: (4, 64), 0x102: (3, 8), 0x103: (3, 7), 0x106: (3, 1),
        0x111: (4, 8), 0x115: (3, 1), 0x116: (4, 64), 0x117: (4, len(jpeg)),
    }  # fmt: skip
    place = 8 + len(jpeg)
    data = b"II*\0" + struct.pack("<I", place) + jpeg + tiff(entries, place)
    if times:
        with pytest.raises(LexLIPError, match="damaged"):
            read_image(data)
    else:
        assert read_image(data).size == (64, 64)


def test_scans_are_counted_once_the_limit_is_over(slow_jpeg):
    from lexlip.data.jpeg import count_scans

    most = count_scans(slow_jpeg + b"\xff" * 10)
    assert MAX_SCANS < most <= MAX_SCANS + 1


@pytest.mark.parametrize("mode", ["uint16", "int32"])
def test_sixteen_bits_become_eight_by_the_nearest(mode):
    values = np.arange(65536, dtype=mode).reshape(64, 1024)
    wanted = np.round(values / 257).astype(np.uint8)
    kind = "PNG" if mode == "uint16" else "TIFF"
    found = np.asarray(read_image(as_bytes(Image.fromarray(values), kind)))
    assert (found[..., 0] == wanted).all() and (found[..., 1] == wanted).all()


def test_large_pictures_are_decoded_and_converted_one_at_a_time(monkeypatch):
    data = as_bytes(Image.new("LA", (3000, 3000)), "PNG")
    busy, seen, convert = [], [], images.to_rgb

    def counting(picture):
        busy.append(1)
        seen.append(len(busy))
        threading.Event().wait(0.05)
        busy.pop()
        return convert(picture)

    monkeypatch.setattr(images, "to_rgb", counting)
    threads = [threading.Thread(target=read_image, args=(data,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [1, 1, 1, 1]


def test_pillow_fills_no_log(tmp_path):
    """A directory of 3,000 entries that lead nowhere, each of which Pillow warns of."""
    good = [(0x100, 3, 1, 8), (0x101, 3, 1, 8), (0x102, 3, 1, 8), (0x103, 3, 1, 1),
            (0x106, 3, 1, 1), (0x111, 4, 1, 8), (0x117, 4, 1, 64)]  # fmt: skip
    bad = [(0x9000 + n, 2, 100, 0xFFFF0000 + n) for n in range(3000)]
    entries = b"".join(struct.pack("<HHII", *entry) for entry in good + bad)
    head = b"II*\0" + struct.pack("<IH", 8, len(good + bad))
    (tmp_path / "a.tif").write_bytes(head + entries + bytes(4))
    told = "import sys; from lexlip.data.images import read_image; read_image(sys.argv[1])"
    command = [sys.executable, "-c", told, str(tmp_path / "a.tif")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "Warning" not in done.stderr and len(done.stderr) < 2000, done.stderr[:2000]

"""Reading pictures: every mode becomes RGB, every bad file one line."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from lexlip.data import formats, limits
from lexlip.data.images import read_image, size_of
from lexlip.errors import LexLIPError


def encoded(picture, kind, **options):
    data = BytesIO()
    picture.save(data, kind, **options)
    return data.getvalue()


@pytest.fixture
def photo():
    """A picture with content that does not compress to nothing."""
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8))


def one_line(excinfo, *parts):
    message = str(excinfo.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_all_kinds_of_sources_agree(photo, tmp_path):
    data = encoded(photo, "PNG")
    path = tmp_path / "a picture.png"
    path.write_bytes(data)
    for source in (path, str(path), data, photo, np.asarray(photo)):
        read = read_image(source)
        assert read.mode == "RGB"
        assert np.array_equal(np.asarray(read), np.asarray(photo))
        assert read is not photo


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_formats(photo, kind):
    flat = Image.new("RGB", photo.size, (200, 60, 20))
    read = read_image(encoded(flat, kind))
    assert read.size == flat.size
    assert np.abs(np.asarray(read, dtype=int) - (200, 60, 20)).max() < 12


def test_pictures_of_phones(photo, monkeypatch):
    pillow_heif = pytest.importorskip("pillow_heif")
    wide = Image.fromarray(np.full((64, 128, 3), (200, 30, 20), np.uint8))
    wide.paste((20, 30, 200), (64, 0, 128, 64))
    exif = Image.Exif()
    exif[274] = 6  # the camera was turned
    buffer = BytesIO()
    pillow_heif.from_pillow(wide).save(buffer, quality=95)
    upright = read_image(buffer.getvalue())
    assert upright.size == (128, 64) and upright.mode == "RGB"
    assert np.abs(np.asarray(upright).astype(int) - np.asarray(wide)).mean() < 3
    turned = BytesIO()
    pillow_heif.from_pillow(wide).save(turned, quality=95, exif=exif.tobytes())
    assert read_image(turned.getvalue()).size == size_of(turned.getvalue(), "a") == (64, 128)
    monkeypatch.setattr(formats, "formats", lambda: formats.FORMATS)
    with pytest.raises(LexLIPError, match=r"a.heic: HEIC needs a decoder: pip install pillow-heif"):
        read_image(buffer.getvalue(), "a.heic")


def test_exif_orientation_is_applied():
    picture = Image.new("RGB", (4, 2), "white")
    picture.putpixel((0, 0), (0, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to show
    file = encoded(picture, "PNG", exif=exif)
    read = read_image(file)
    assert read.size == size_of(file, "a.png") == (2, 4)
    assert size_of(encoded(picture, "PNG"), "a.png") == (4, 2)
    assert read.getpixel((1, 0)) == (0, 0, 0)


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_broken_exif_does_not_spoil_a_picture(photo, exif):
    assert read_image(encoded(photo, "JPEG", exif=exif)).size == photo.size


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "PA"])
def test_transparent_becomes_white(mode):
    picture = Image.new("RGBA", (2, 1), (0, 0, 0, 255))
    picture.putpixel((0, 0), (0, 0, 0, 0))
    if mode == "LA":
        picture = picture.convert("LA")
    elif mode == "PA":
        picture = picture.convert("PA")
    elif mode == "P":
        picture = Image.open(BytesIO(encoded(picture.quantize(), "PNG")))
        assert picture.mode == "P"
    read = read_image(picture)
    assert [read.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (0, 0, 0)]


def test_half_transparent_is_mixed_with_white():
    assert read_image(Image.new("RGBA", (1, 1), (0, 0, 0, 51))).getpixel((0, 0)) == (204,) * 3


def test_a_transparent_colour_of_an_rgb_png():
    picture = Image.new("RGB", (2, 1), (10, 20, 30))
    picture.putpixel((1, 0), (1, 2, 3))
    read = read_image(encoded(picture, "PNG", transparency=(10, 20, 30)))
    assert [read.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (1, 2, 3)]


def test_cmyk_grey_bilevel_and_sixteen_bits():
    cmyk = encoded(Image.new("RGB", (8, 8), (0, 0, 255)).convert("CMYK"), "JPEG")
    assert read_image(cmyk).getpixel((4, 4))[2] > 200 > 60 > read_image(cmyk).getpixel((4, 4))[0]
    assert read_image(Image.new("1", (1, 1), 1)).getpixel((0, 0)) == (255,) * 3
    assert read_image(Image.new("L", (1, 1), 77)).getpixel((0, 0)) == (77,) * 3
    deep = Image.fromarray(np.array([[0, 128 * 257, 65535]], dtype=np.uint16))
    read = read_image(encoded(deep, "PNG"))
    assert [read.getpixel((x, 0))[0] for x in range(3)] == [0, 128, 255]
    with pytest.raises(LexLIPError, match="floating-point"):
        read_image(Image.new("F", (1, 1), 0.5))


def test_the_first_picture_of_a_phone_that_stores_two():
    pictures = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = encoded(pictures[0], "MPO", save_all=True, append_images=pictures[1:])
    assert read_image(data).getpixel((4, 4))[0] > 240


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (5, 5), colour) for colour in ("red", "lime", "blue")]
    for kind in ("GIF", "WEBP"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
        red, green, blue = read_image(data).getpixel((2, 2))
        assert red > 240 and green < 10 and blue < 10


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_truncated_files_are_errors(photo, kind, tmp_path):
    data = encoded(photo, kind)
    path = tmp_path / "cut.img"
    for keep in (0.9, 0.5, 0.02):
        path.write_bytes(data[: int(len(data) * keep)])
        with pytest.raises(LexLIPError) as excinfo:
            read_image(path)
        one_line(excinfo, "cut.img")


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow on odd metadata
def test_random_damage_is_an_error_or_a_picture(photo):
    rng = np.random.default_rng(1)
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"):
        data = encoded(photo, kind)
        for _ in range(60):
            broken = bytearray(data)
            for _ in range(rng.integers(1, 20)):
                broken[rng.integers(0, len(broken))] = rng.integers(0, 256)
            try:
                assert read_image(bytes(broken)).mode == "RGB"
            except LexLIPError as error:
                assert "\n" not in str(error)


@pytest.mark.parametrize("data", [b"", b"hello, this is text", b"<svg></svg>", b"%!PS-Adobe-3.0\n"])
def test_not_a_picture(data, tmp_path):
    path = tmp_path / "x.jpg"
    path.write_bytes(data)
    with pytest.raises(LexLIPError) as excinfo:
        read_image(path)
    one_line(excinfo, "x.jpg", "not a picture")


def png_header(width, height):
    """The bytes of a tiny PNG that claims to be large."""

    def chunk(kind, body):
        crc = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("size", [(8001, 8000), (10_000, 10_000), (60_000, 60_000)])
@pytest.mark.filterwarnings("error")
def test_bombs_are_refused_by_their_header(size, monkeypatch):
    def never(*_):
        raise AssertionError("decoded before the size was judged")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", never)
    with pytest.raises(LexLIPError) as excinfo:
        read_image(png_header(*size), "bomb.png")
    one_line(excinfo, "bomb.png", "64,000,000", "raise LEXLIP_MAX_PIXELS")


def test_arrays_and_pictures_have_the_same_limit(monkeypatch):
    monkeypatch.setenv("LEXLIP_MAX_PIXELS", "100")
    for source in (Image.new("RGB", (11, 10)), np.zeros((11, 10, 3), np.uint8)):
        with pytest.raises(LexLIPError, match="over the limit"):
            read_image(source)
    assert read_image(Image.new("RGB", (10, 10))).size == (10, 10)


def test_too_many_bytes(tmp_path, photo, monkeypatch):
    data = encoded(photo, "PNG")
    monkeypatch.setattr(limits, "MAX_BYTES", len(data) - 1)
    (tmp_path / "big.png").write_bytes(data)
    for source in (data, tmp_path / "big.png"):
        with pytest.raises(LexLIPError, match="over the limit"):
            read_image(source)


def test_no_file(tmp_path):
    for path in (tmp_path / "none.jpg", tmp_path):
        with pytest.raises(LexLIPError) as excinfo:
            read_image(path)
        one_line(excinfo, str(path), "no such file")


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4)),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((2, 4, 4, 3), np.uint8),
        np.zeros(4, np.uint8),
    ],
)
def test_arrays_that_are_no_pictures(array):
    with pytest.raises(LexLIPError, match="is no picture"):
        read_image(array, "an upload")


def test_arrays_of_one_and_four_channels():
    grey = np.full((2, 3, 1), 9, np.uint8)
    assert read_image(grey).getpixel((0, 0)) == (9, 9, 9)
    assert read_image(grey[..., 0]).size == (3, 2)
    assert read_image(np.zeros((2, 3, 4), np.uint8)).getpixel((0, 0)) == (255, 255, 255)


def test_other_objects():
    with pytest.raises(LexLIPError, match="int is no picture"):
        read_image(3)

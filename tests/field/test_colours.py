"""Colours of a file are those that every viewer shows: profiles, 16 bits, orientation."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageCms

from lexlip.data.images import read_image, read_photo
from tests.support.cameras import as_bytes, scene, swapped_profile


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_a_profile_that_swaps_red_and_blue_is_honoured(kind, mode):
    if (kind, mode) in (("JPEG", "RGBA"), ("JPEG", "P"), ("WEBP", "P")):
        pytest.skip("no such file")
    stored = Image.new("RGB", (40, 40), (250, 5, 5)).convert(mode)
    options = {"lossless": True} if kind == "WEBP" else {}
    data = as_bytes(stored, kind, icc_profile=swapped_profile(), **options)
    red, green, blue = read_image(data).getpixel((20, 20))
    assert red < 20 and green < 20 and blue > 235
    again = read_image(read_image(data))  # converted once, whoever reads it again
    assert again.getpixel((20, 20)) == (red, green, blue)


def test_a_damaged_profile_is_ignored_and_srgb_changes_no_bit():
    picture = scene(60, 40)
    plain = read_image(as_bytes(picture, "PNG")).tobytes()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    grey_profile = swapped_profile().replace(b"RGB XYZ ", b"GRAYXYZ ")
    for profile in (b"no profile", srgb[:200], b"\0" * 500, grey_profile, srgb):
        data = as_bytes(picture, "PNG", icc_profile=profile)
        assert read_image(data).tobytes() == plain
    grey = as_bytes(Image.new("L", (4, 4), 77), "PNG", icc_profile=srgb)
    assert read_image(grey).getpixel((0, 0)) == (77, 77, 77)


def test_colours_and_scale_and_orientation_at_once():
    stored = Image.new("RGB", (2400, 1200), (250, 5, 5))
    stored.paste((5, 250, 5), (0, 0, 1200, 1200))
    exif = Image.Exif()
    exif[0x0112] = 6
    data = as_bytes(stored, exif=exif, icc_profile=swapped_profile(), quality=95)
    photo = read_photo(data, at_least=100)
    assert photo.size == (1200, 2400) and photo.image.size == (150, 300)
    top, bottom = (photo.image.getpixel((75, y)) for y in (20, 280))
    assert top[1] > 235 and bottom[2] > 235 and bottom[0] < 20


def test_sixteen_bits_are_read_in_any_order_of_bytes():
    values = np.array([[0, 128 * 257, 65535]], dtype=np.uint16)
    for mode, order in (("I;16", "<u2"), ("I;16B", ">u2")):
        deep = Image.frombytes(mode, (3, 1), values.astype(order).tobytes())
        assert [read_image(deep).getpixel((x, 0))[0] for x in range(3)] == [0, 128, 255]

"""Large pictures: decoded at the scale that is needed, and limits that can be set."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lexlip import Index
from lexlip.data.images import SMALL, read_image, read_photo
from lexlip.data.jpeg import MAX_SCANS, count_scans
from lexlip.data.limits import PictureTooLarge
from lexlip.errors import LexLIPError
from tests.support.cameras import as_bytes, scene, with_repeated_scans


def cosine(a, b) -> float:
    a, b = a.toarray().ravel(), b.toarray().ravel()
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_a_jpeg_is_decoded_at_the_scale_that_is_needed(model):
    photo = scene(3000, 2000)
    data = as_bytes(photo, quality=95)
    assert model.image_side == 64  # twice the 32 that it reads
    small = read_photo(data, at_least=model.image_side)
    assert min(small.image.size) >= 64 and small.image.width * small.image.height <= SMALL
    assert small.size == (3000, 2000)
    assert read_image(data).size == (3000, 2000)
    full = model.encode_image([read_image(data).resize((32, 32), Image.Resampling.BICUBIC)])
    assert cosine(model.encode_image([data]), full) > 0.999


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "BMP"])
def test_what_cannot_be_decoded_smaller_is_made_smaller_at_once(kind, model):
    data = as_bytes(scene(1600, 1200), kind)
    assert read_image(data, at_least=64).size == (89, 67)
    whole = model.encode_image([read_image(data).resize((32, 32), Image.Resampling.BICUBIC)])
    assert cosine(model.encode_image([data]), whole) > 0.999


def test_small_pictures_do_not_change_by_a_bit():
    picture = scene(1000, 1000)
    for kind in ("PNG", "JPEG"):
        data = as_bytes(picture, kind)
        assert read_image(data, at_least=32).tobytes() == read_image(data).tobytes()


@given(st.integers(1, 2600), st.integers(1, 2600), st.integers(1, 900))
def test_the_shorter_side_has_what_is_needed_or_all_there_is(width, height, side):
    read = read_image(Image.new("RGB", (width, height)), at_least=side)
    assert min(read.size) >= min(width, height, side)
    shape = (width / height) / (read.width / read.height)
    assert abs(shape - 1) < 2 / min(read.size)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_48_megapixel_jpeg_of_a_phone_is_indexed(model, tmp_path, progressive):
    (tmp_path / "photos").mkdir()
    photo = Image.new("RGB", (8064, 6048), (200, 40, 30))
    photo.save(tmp_path / "photos" / "phone.jpg", progressive=progressive)
    (tmp_path / "photos" / "large.jpg").write_bytes(as_bytes(Image.new("L", (16320, 12240))))
    with Index.create(tmp_path / "a.lex", model, tmp_path / "photos", engine="postings") as index:
        assert len(index) == 2 and not index.skipped


def test_bombs_are_refused_and_the_message_names_the_setting(monkeypatch):
    flat = as_bytes(Image.new("L", (9000, 8000)), "PNG")
    with pytest.raises(PictureTooLarge, match="9000 x 8000 .* 64,000,000.*LEXLIP_MAX_PIXELS"):
        read_image(flat, "a.png", at_least=64)
    monkeypatch.setenv("LEXLIP_MAX_PIXELS", "80_000_000")
    assert read_image(flat, at_least=64).size == (72, 64)
    monkeypatch.setenv("LEXLIP_MAX_PIXELS", "many")
    with pytest.raises(LexLIPError, match="LEXLIP_MAX_PIXELS is 'many': give a number"):
        read_image(flat)


@pytest.mark.parametrize("size, progressive", [((60_000, 60_000), False), ((20_000, 9_000), True)])
def test_a_jpeg_that_takes_too_much_at_any_scale_is_refused(size, progressive):
    data = bytearray(as_bytes(Image.new("L", (64, 64)), progressive=progressive))
    start = data.index(b"\xff\xc2" if progressive else b"\xff\xc0")
    data[start + 5 : start + 9] = size[1].to_bytes(2, "big") + size[0].to_bytes(2, "big")
    with pytest.raises(PictureTooLarge, match="LEXLIP_MAX_PIXELS"):
        read_image(bytes(data), at_least=64)


def test_a_small_jpeg_with_many_scans_is_refused_before_it_is_decoded():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = as_bytes(Image.fromarray(noise), progressive=True)
    assert 1 < count_scans(data) < 20 and read_image(data).size == (64, 64)
    assert count_scans(as_bytes(Image.fromarray(noise))) == 1
    slow = with_repeated_scans(data, MAX_SCANS)
    assert count_scans(slow) == MAX_SCANS + 1
    with pytest.raises(PictureTooLarge, match=r"a\.jpg: a JPEG of 101\+ scans"):
        read_image(slow, "a.jpg")


def test_a_film_behind_a_jpeg_has_no_scans():
    """Phones append a film to a photograph; its bytes look like any marker here and there."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for progressive in (False, True):
        data = as_bytes(Image.fromarray(noise), progressive=progressive)
        assert count_scans(data + b"\xff\xda\x00\x08" * 1000) == count_scans(data)
        assert read_image(data + b"\xff\xda\x00\x08" * 1000).size == (64, 64)

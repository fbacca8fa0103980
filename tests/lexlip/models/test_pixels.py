"""Pixels against transformers' own preprocessors, and against open_clip's documented rules."""

from __future__ import annotations

import math

import numpy as np
import pytest
import transformers
from PIL import Image

from lexlip.errors import LexLIPError
from lexlip.models.pixels import DEFAULTS, Pixels, side_of

SHAPES = {
    "portrait": (211, 333), "landscape": (640, 333), "tiny": (9, 7), "odd": (227, 225),
    "line": (300, 11), "exact": (224, 224),
}  # fmt: skip
KINDS = {
    "Blip": {},
    "CLIP": {},
    "ChineseCLIP": {},
    "DeiT": {},
    "EfficientNet": {},
    "Flava": {},
    "OwlViT": {},
    "Owlv2": {"size": {"height": 96, "width": 96}},
    "Siglip": {},
    "ViT": {},
}
"""By the stem of transformers' class; OWLv2 smooths in pure scipy, and is slow at 960 pixels."""
SETTINGS = [
    ("CLIP", {"size": 64, "crop_size": 56}),
    ("CLIP", {"size": {"shortest_edge": 37}, "crop_size": {"height": 31, "width": 45}}),
    ("CLIP", {"size": {"shortest_edge": 20}, "crop_size": 33}),
    ("CLIP", {"do_resize": False, "crop_size": 64}),
    ("CLIP", {"size": {"height": 30, "width": 50}, "do_center_crop": False, "resample": 0}),
    ("CLIP", {"size": {"shortest_edge": 40, "longest_edge": 60}, "crop_size": 64}),
    ("CLIP", {"do_normalize": False}),
    ("CLIP", {"do_rescale": False}),
    ("EfficientNet", {"rescale_offset": True, "rescale_factor": 1 / 127.5, "include_top": False}),
    ("EfficientNet", {"do_center_crop": True}),
    ("Siglip", {"size": {"height": 33, "width": 21}, "resample": 2}),
    ("Owlv2", {"size": {"height": 30, "width": 30}, "do_pad": True}),
]


def picture(shape, mode="RGB"):
    """Smooth colours under noise."""
    width, height = shape
    noise = np.random.default_rng(0).integers(0, 80, (height, width, 3))
    rows, columns = np.mgrid[:height, :width]
    smooth = np.stack([rows * 175 // height, columns * 175 // width, (rows + columns) % 175], -1)
    return Image.fromarray((noise + smooth).astype(np.uint8)).convert(mode)


def step(settings):
    """What one level of 255 is worth, of each channel."""
    std = np.asarray(settings["image_std"]).reshape(3, 1, 1)
    factor = settings.get("rescale_factor", 1 / 255) if settings.get("do_rescale", True) else 1
    one = factor / (std if settings.get("do_normalize", True) else 1)
    return one / std if settings.get("include_top") else one


def compare(kind, given, image):
    theirs = getattr(transformers, f"{kind}ImageProcessorPil")(**given)
    ours = Pixels.of_transformers(theirs.to_dict())
    expected = theirs([image.convert("RGB")], return_tensors="np")["pixel_values"][0]
    found = ours.normalise(ours.resize(image)[None])[0]
    assert found.dtype == np.float32 and found.shape == expected.shape
    # OWLv2 keeps fractions of a level.
    near = 0.51 if kind == "Owlv2" else 0.02
    assert np.abs((found - expected) / step(theirs.to_dict())).max() < near


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_those_of_transformers(kind, shape):
    compare(kind, KINDS[kind], picture(shape))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("kind, given", SETTINGS)
def test_settings_are_those_of_transformers(kind, given, shape):
    compare(kind, given, picture(shape))


@pytest.mark.parametrize("mode", ["L", "P", "CMYK"])
def test_pictures_in_other_modes_become_colours(mode):
    image = picture((50, 40), mode)
    compare("CLIP", {}, image)


def test_transparent_pictures_lie_on_white():
    image = Image.new("RGBA", (30, 30), (255, 0, 0, 0))
    assert Pixels.of_transformers({"image_processor_type": "CLIPImageProcessor"}).resize(
        image
    ).min() == 255  # fmt: skip


def test_every_kind_is_tested_and_has_transformers_own_defaults():
    assert KINDS.keys() == DEFAULTS.keys()
    for kind in KINDS:
        theirs = getattr(transformers, f"{kind}ImageProcessorPil")()
        ours = Pixels.of_transformers({"image_processor_type": f"{kind}ImageProcessor"})
        full = Pixels.of_transformers(theirs.to_dict())
        if kind == "Owlv2":
            continue
        image = picture((60, 40))
        np.testing.assert_array_equal(ours.resize(image), full.resize(image))
        numbers = np.arange(12, dtype=np.uint8).reshape(1, 3, 2, 2)
        np.testing.assert_allclose(ours.normalise(numbers), full.normalise(numbers), atol=1e-5)


def test_older_files_name_no_processor():
    old = {"feature_extractor_type": "CLIPFeatureExtractor", "size": 64, "crop_size": 64}
    assert Pixels.of_transformers(old).resize(picture((90, 70))).shape == (3, 64, 64)
    assert Pixels.of_transformers({}, "siglip").resize(picture((90, 70))).shape == (3, 224, 224)


@pytest.mark.parametrize(
    "given, expected",
    [
        ({"max_num_patches": 256, "patch_size": 16}, "NaFlex"),
        ({"image_processor_type": "Siglip2ImageProcessor"}, "NaFlex"),
        ({"image_processor_type": "SamImageProcessor"}, "SamImageProcessor.*torch"),
        ({"size": {"max_height": 8, "max_width": 8}}, "does not know"),
        ({"do_center_crop": False}, "own shape"),
        ({"do_resize": False, "do_center_crop": False}, "own shape"),
    ],
)
def test_what_is_not_of_one_size_is_refused_in_one_line(given, expected):
    with pytest.raises(LexLIPError, match=expected) as raised:
        Pixels.of_transformers(given)
    assert "\n" not in str(raised.value)


# torchvision rounds the longer side down and the corner of the crop to the nearest pixel, halves to
# the even one; a small picture is framed, the larger half of an odd rest behind it.
def open_clip(image, size, mode, filling, interpolation):
    width, height = image.size
    tall, wide = (size, size) if isinstance(size, int) else size
    by = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}[interpolation]
    if mode == "squash":
        return np.asarray(image.resize((wide, tall), by))
    if mode == "shortest" and tall == wide:
        long = math.floor(tall * max(image.size) / min(image.size))
        shape = (tall, long) if width <= height else (long, tall)
    else:
        pick = max if mode == "longest" else min
        ratio = pick(height / tall, width / wide)
        shape = (round(width / ratio), round(height / ratio))
        by = by if mode == "longest" else Image.Resampling.BICUBIC
    image = image.resize(shape, by)
    more = max(0, wide - image.width), max(0, tall - image.height)
    frame = Image.new("RGB", (image.width + more[0], image.height + more[1]), (filling,) * 3)
    frame.paste(image, (more[0] // 2, more[1] // 2))
    left = int(round((frame.width - wide) / 2.0))
    top = int(round((frame.height - tall) / 2.0))
    return np.asarray(frame.crop((left, top, left + wide, top + tall)))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(
    "mode, size", [("shortest", 65), ("shortest", [40, 61]), ("squash", 48), ("squash", [30, 50]),
                   ("longest", 65), ("longest", [40, 61])]
)  # fmt: skip
def test_pixels_are_those_of_open_clip(shape, mode, size, interpolation):
    mean, std = [0.5, 0.4, 0.3], [0.2, 0.3, 0.25]
    ours = Pixels.of_open_clip(
        {"size": size, "mode": "RGB", "mean": mean, "std": std, "interpolation": interpolation,
         "resize_mode": mode, "fill_color": 7 if mode == "longest" else 0}
    )  # fmt: skip
    image = picture(shape)
    expected = open_clip(image, size, mode, 7 if mode == "longest" else 0, interpolation)
    resized = ours.resize(image)
    np.testing.assert_array_equal(resized, expected.transpose(2, 0, 1))
    numbers = (expected.astype(np.float64) / 255 - mean) / std
    np.testing.assert_allclose(
        ours.normalise(resized[None])[0], numbers.transpose(2, 0, 1), atol=1e-5
    )


@pytest.mark.parametrize(
    "given", [{"resize_mode": "fold"}, {"interpolation": "random"}, {"mode": "L"}]
)
def test_unknown_settings_of_open_clip_are_refused(given):
    with pytest.raises(LexLIPError, match="does not know"):
        Pixels.of_open_clip(given)


def test_large_pictures_are_decoded_at_the_scale_that_is_needed():
    settings = transformers.CLIPImageProcessorPil().to_dict()
    assert Pixels.of_transformers(settings).image_side == side_of(settings) == 448
    assert side_of({"do_resize": False, "size": 3}) is None


def test_a_prepared_picture_is_taken_as_it_is():
    pixels = Pixels.of_transformers({})
    prepared = pixels.prepare(picture((50, 40)))
    assert prepared.pixels.dtype == np.uint8 and prepared.pixels.flags.c_contiguous
    assert pixels.prepare(prepared) is prepared and pixels.resize(prepared) is prepared.pixels

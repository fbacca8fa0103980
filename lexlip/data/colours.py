"""Colours of any mode and profile, turned into those of sRGB with 8 bits."""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from lexlip.errors import LexLIPError

_BLOCK = 2**20  # values converted at a time: wide numbers are never made of a whole picture
_CLOSE = 2  # of 255: profiles that change less are sRGB under another name


def eight_bits(picture: Image.Image, name: str) -> Image.Image:
    """Return a picture with 8 bits a channel, whose pixels can be averaged.

    Raises
    ------
    LexLIPError
        For floating-point numbers, which have no known white.
    """
    if picture.mode == "F":
        raise LexLIPError(
            f"{name}: its numbers are floating-point, without a known white: save it as PNG"
        )
    if picture.mode.startswith("I"):
        return _narrowed(picture)
    if picture.has_transparency_data and picture.mode != "RGBA":
        return picture.convert("RGBA")
    if picture.mode in ("P", "PA"):
        return picture.convert("RGB")
    return picture.convert("L") if picture.mode == "1" else picture


def _narrowed(picture: Image.Image) -> Image.Image:
    # 16 bits; mode I also carries 8-bit values.
    deep = picture.mode.startswith("I;16") or _brightest(picture) > 255
    narrow = np.empty((picture.height, picture.width), np.uint8)
    step = max(1, _BLOCK // picture.width)
    for top in range(0, picture.height, step):  # numpy's view of a whole picture is a copy of it
        bottom = min(top + step, picture.height)
        block = np.asarray(picture.crop((0, top, picture.width, bottom))).astype(np.int64)
        narrow[top:bottom] = np.clip((block + 128) // 257 if deep else block, 0, 255)
    return Image.fromarray(narrow)


def _brightest(picture: Image.Image) -> float:
    """Return the largest value of a picture of one channel."""
    highest = picture.getextrema()[1]
    return max(highest) if isinstance(highest, tuple) else highest


def to_rgb(picture: Image.Image) -> Image.Image:
    """Return a picture of 8 bits as RGB, in the colours of sRGB, on white where it is transparent.

    A profile that is damaged, or that belongs to another mode, is ignored.
    """
    profile: Any = picture.info.get("icc_profile")
    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        if profile:
            coloured = _to_srgb(rgba.convert("RGB"), profile)
            coloured.putalpha(rgba.getchannel("A"))
            rgba = coloured
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    if profile:
        picture = _to_srgb(picture, profile)
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _to_srgb(picture: Image.Image, profile: Any) -> Image.Image:
    transform = _transform(bytes(profile), picture.mode) if isinstance(profile, bytes) else None
    try:
        return picture if transform is None else transform.apply(picture)
    except Exception:
        return picture


@lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> Any:
    """Return the transform from a profile to sRGB; None where there is none, or no difference."""
    try:
        from PIL import ImageCms

        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        if mode != "RGB":
            return transform
        steps = np.linspace(0, 255, 6).astype(np.uint8)
        cube = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(6, -1, 3)
        seen = np.asarray(transform.apply(Image.fromarray(cube)))
        return transform if np.abs(seen.astype(int) - cube).max() > _CLOSE else None
    except Exception:  # ImageCms raises anything from OSError to TypeError
        return None

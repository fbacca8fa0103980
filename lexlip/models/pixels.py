"""Pictures to the pixels of a model, as its makers' libraries do it, in numpy and Pillow alone.

The settings are those that models are published with: a ``preprocessor_config.json`` of
transformers, or the preprocessing of open_clip. Importing this loads no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lexlip.data.images import read_image
from lexlip.errors import LexLIPError

Bytes = NDArray[np.uint8]

GAP = 2
"""Of the sides that a model reads, those that a picture is decoded to at least. Of ten photographs
of 12 megapixels and a ViT of 224 pixels, the cosine of its summary to that of the picture decoded
in full is 0.9996 with 1, 0.9998 with 2, 0.9999 with 4 (medians), of corners 0.9991, 0.9999, 0.9999.
"""

_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_BICUBIC, _BILINEAR = int(Image.Resampling.BICUBIC), int(Image.Resampling.BILINEAR)
_CLIP: dict[str, Any] = {
    "size": {"shortest_edge": 224}, "crop_size": 224, "do_center_crop": True,
    "resample": _BICUBIC, "image_mean": _CLIP_MEAN, "image_std": _CLIP_STD,
}  # fmt: skip
_SQUARE: dict[str, Any] = {
    "size": 224, "resample": _BILINEAR, "image_mean": (0.5,) * 3, "image_std": (0.5,) * 3,
}  # fmt: skip
DEFAULTS: dict[str, dict[str, Any]] = {
    "Blip": {**_CLIP, "size": 384, "crop_size": None, "do_center_crop": False},
    "CLIP": _CLIP,
    "ChineseCLIP": _CLIP,
    "DeiT": {**_SQUARE, "size": 256, "crop_size": 224, "do_center_crop": True,
             "resample": _BICUBIC},
    "EfficientNet": {**_SQUARE, "size": 346, "crop_size": 289, "resample": _BICUBIC,
                     "include_top": True},
    "Flava": {**_CLIP, "size": 224},
    "OwlViT": {**_CLIP, "size": 768, "crop_size": 768, "do_center_crop": False},
    "Owlv2": {**_CLIP, "size": 960, "crop_size": None, "do_center_crop": False, "do_pad": True},
    "Siglip": {**_SQUARE, "size": {"height": 224, "width": 224}, "resample": _BICUBIC},
    "ViT": _SQUARE,
}  # fmt: skip
"""Settings of transformers' preprocessors where a file leaves them out, by kind."""

SHORTEST = {"CLIP", "ChineseCLIP", "Siglip"}
"""Kinds for which a size of one number is that of the shorter side, and not of a square."""

_KINDS = {
    "align": "EfficientNet", "blip": "Blip", "chinese_clip": "ChineseCLIP", "clipseg": "ViT",
    "flava": "Flava", "owlv2": "Owlv2", "owlvit": "OwlViT", "siglip": "Siglip",
    "vision-text-dual-encoder": "ViT",
}  # fmt: skip


class Prepared(NamedTuple):
    """A picture as a model sees it: uint8 [3, H, W], a few kilobytes."""

    pixels: Bytes


class Pixels:
    """A picture preprocessor: to bytes in threads, one by one, and to numbers in batches.

    Parameters
    ----------
    resized : callable
        An RGB picture to its bytes as the model sees it, uint8 [H, W, 3].
    scale, shift : float32 [3]
        Of each channel: what bytes are multiplied with, and what is added then.
    image_side : int, optional
        Pixels that the shorter side of a picture is decoded to at least; None for all.
    settings : mapping
        What the preprocessor was made of, as JSON can hold it.

    Examples
    --------
    >>> pixels = Pixels.of_transformers({"image_processor_type": "CLIPImageProcessor"})
    >>> rows = pixels.resize(Image.new("RGB", (640, 480), "white"))
    >>> rows.shape, pixels.normalise(rows[None]).max().round(2)
    ((3, 224, 224), np.float32(2.15))
    """

    def __init__(
        self,
        resized: Callable[[Image.Image], Bytes],
        scale: NDArray[Any],
        shift: NDArray[Any],
        image_side: int | None,
        settings: Mapping[str, Any],
    ) -> None:
        self._resized, self.image_side, self.settings = resized, image_side, settings
        self._scale = np.asarray(scale, np.float32).reshape(3, 1, 1)
        self._shift = np.asarray(shift, np.float32).reshape(3, 1, 1)

    def resize(self, image: Any) -> Bytes:
        """Return a picture of any kind, resized and cropped, uint8 [3, H, W]."""
        if isinstance(image, Prepared):
            return image.pixels
        picture = read_image(image, at_least=self.image_side)
        return np.ascontiguousarray(self._resized(picture).transpose(2, 0, 1))

    def prepare(self, image: Any) -> Prepared:
        """Return one picture of any kind as the model sees it."""
        return image if isinstance(image, Prepared) else Prepared(self.resize(image))

    def normalise(self, pixels: Bytes) -> NDArray[np.float32]:
        """Bytes [B, 3, H, W] to the numbers that the model takes, float32 [B, 3, H, W]."""
        numbers = pixels.astype(np.float32)
        numbers *= self._scale
        numbers += self._shift
        return numbers

    @classmethod
    def of_transformers(cls, settings: Mapping[str, Any], model_type: str = "clip") -> Pixels:
        """Make one of a ``preprocessor_config.json``.

        Parameters
        ----------
        settings : mapping
            The file's content.
        model_type : str
            Of config.json: what the preprocessor is for, where the file does not say its kind.

        Raises
        ------
        LexLIPError
            When pictures keep their own shape (NaFlex), or the kind is unknown.
        """
        kind = _kind_of(settings, model_type)
        given = {name: value for name, value in settings.items() if value is not None}
        merged = {**DEFAULTS[kind], **given}
        short = kind in SHORTEST
        size, crop = _box(merged["size"], short), _box(merged.get("crop_size"))
        side = side_of({**merged, "size": size, "crop_size": crop})
        crop = crop if merged.get("do_center_crop") else {}
        size = size if merged.get("do_resize", True) else {}
        _check_shape(size, crop)
        resample = Image.Resampling(int(merged["resample"]))

        def resized(picture: Image.Image) -> Bytes:
            if kind == "Owlv2":
                return _padded_square(np.asarray(picture), size, bool(merged.get("do_pad")))
            if size:
                shape = _sides(picture.size, size)
                picture = picture.resize(shape, resample)
            rows = np.asarray(picture)
            return _cropped(rows, crop["height"], crop["width"]) if crop else rows

        return cls(resized, *_affine(merged), side, merged)

    @classmethod
    def of_open_clip(cls, settings: Mapping[str, Any]) -> Pixels:
        """Make one of open_clip's ``preprocess_cfg``.

        Raises
        ------
        LexLIPError
            For a setting that open_clip does not have.
        """
        size = settings.get("size", 224)
        height, width = (size, size) if isinstance(size, int) else (int(size[0]), int(size[-1]))
        mode = settings.get("resize_mode") or "shortest"
        kinds = {"bicubic": _BICUBIC, "bilinear": _BILINEAR}
        resample = kinds.get(settings.get("interpolation") or "bicubic", -1)
        known = mode in ("shortest", "squash", "longest") and resample >= 0
        if not known or settings.get("mode", "RGB") != "RGB":
            raise LexLIPError(
                f"pictures are prepared in a way that lexlip does not know: {settings}"
            )
        fill = settings.get("fill_color") or 0

        def resized(picture: Image.Image) -> Bytes:
            if mode == "squash":
                shape = width, height
            elif mode == "shortest" and height == width:
                shape = _shortest(picture.size, height)
            else:
                ratios = picture.width / width, picture.height / height
                ratio = max(ratios) if mode == "longest" else min(ratios)
                shape = round(picture.width / ratio), round(picture.height / ratio)
            by = _BICUBIC if mode == "shortest" and height != width else resample
            rows = np.asarray(picture.resize(shape, Image.Resampling(by)))
            return _middle(rows, height, width, fill if mode == "longest" else 0)

        mean = np.asarray(settings.get("mean") or _CLIP_MEAN, np.float64)
        std = np.asarray(settings.get("std") or _CLIP_STD, np.float64)
        return cls(resized, 1 / 255 / std, -mean / std, GAP * max(height, width), dict(settings))


def side_of(settings: Mapping[str, Any]) -> int | None:
    """Return the pixels that the shorter side of a picture is decoded to at least; None for all.

    Parameters
    ----------
    settings : mapping
        Of a transformers image processor.
    """
    if not settings.get("do_resize", True):
        return None
    sizes = [settings.get("size"), settings.get("crop_size")]
    if patches := settings.get("max_num_patches"):  # any shape, of so many patches
        sizes.append({"side": math.ceil(settings["patch_size"] * math.sqrt(patches))})
    sides = [side for size in sizes if isinstance(size, Mapping) for side in size.values() if side]
    return GAP * max(sides) if sides else None


def _kind_of(settings: Mapping[str, Any], model_type: str) -> str:
    named = settings.get("image_processor_type") or settings.get("feature_extractor_type")
    kind = str(named or _KINDS.get(model_type, "CLIP"))
    for suffix in ("Pil", "Fast", "ImageProcessor", "FeatureExtractor"):
        kind = kind.removesuffix(suffix)
    if "max_num_patches" in settings or kind == "Siglip2":
        raise LexLIPError(
            "a model of pictures in any shape (NaFlex) runs with torch only: give one of a fixed "
            "size, or a folder with its torch weights"
        )
    if kind not in DEFAULTS:
        raise LexLIPError(
            f"pictures are prepared by a {named}, which needs torch: give a model with one of "
            f"{', '.join(sorted(DEFAULTS))}"
        )
    return kind


def _box(size: Any, shortest: bool = False) -> dict[str, int]:
    """A size in any of its spellings to sides by name."""
    if isinstance(size, Mapping):
        return {str(name): int(side) for name, side in size.items() if side}
    if isinstance(size, Sequence):
        return {"height": int(size[0]), "width": int(size[-1])}
    if not size:
        return {}
    return {"shortest_edge": int(size)} if shortest else {"height": int(size), "width": int(size)}


def _check_shape(size: Mapping[str, int], crop: Mapping[str, int]) -> None:
    known = size.keys() in (
        {"height", "width"},
        {"shortest_edge"},
        {"shortest_edge", "longest_edge"},
    )
    if size and not known:
        raise LexLIPError(f"pictures are resized to {dict(size)}, which lexlip does not know")
    if not crop and "height" not in size:
        raise LexLIPError(
            "pictures keep their own shape: give a model whose pictures have one size"
        )


def _sides(shape: tuple[int, int], size: Mapping[str, int]) -> tuple[int, int]:
    """Width and height of a picture that is resized."""
    if "height" in size:
        return size["width"], size["height"]
    short = size["shortest_edge"]
    if longest := size.get("longest_edge"):
        raw = longest * min(shape) / max(shape)
        if max(shape) / min(shape) * short > longest:
            short = round(raw)
            long = int(raw * max(shape) / min(shape))
            return (short, long) if shape[0] < shape[1] else (long, short)
    return _shortest(shape, short)


def _shortest(shape: tuple[int, int], side: int) -> tuple[int, int]:
    """Width and height with a shorter side of so many pixels; the longer one is rounded down."""
    width, height = shape
    if width <= height:
        return side, int(side * height / width)
    return int(side * width / height), side


def _cropped(rows: Bytes, height: int, width: int) -> Bytes:
    """The middle, as transformers takes it: of an odd rest the smaller half is cut first."""
    top, left = (rows.shape[0] - height) // 2, (rows.shape[1] - width) // 2
    if top >= 0 and left >= 0:
        return rows[top : top + height, left : left + width]
    # Black around a small picture; what is cut begins at a place that is rounded the other way.
    high, wide = max(height, rows.shape[0]), max(width, rows.shape[1])
    up, before = -(-(high - rows.shape[0]) // 2), -(-(wide - rows.shape[1]) // 2)
    canvas = np.zeros((high, wide, 3), np.uint8)
    canvas[up : up + rows.shape[0], before : before + rows.shape[1]] = rows
    top, left = max(0, top + up), max(0, left + before)
    return canvas[top : top + height, left : left + width]


def _middle(rows: Bytes, height: int, width: int, fill: Any) -> Bytes:
    """The middle, as torchvision takes it: places are rounded, halves to the even one."""
    missing = [max(0, height - rows.shape[0]), max(0, width - rows.shape[1])]
    if any(missing):
        canvas = np.empty((rows.shape[0] + missing[0], rows.shape[1] + missing[1], 3), np.uint8)
        canvas[...] = fill
        up, before = missing[0] // 2, missing[1] // 2
        canvas[up : up + rows.shape[0], before : before + rows.shape[1]] = rows
        rows = canvas
    top, left = round((rows.shape[0] - height) / 2), round((rows.shape[1] - width) / 2)
    return rows[top : top + height, left : left + width]


def _padded_square(rows: Bytes, size: Mapping[str, int], pad: bool) -> Bytes:
    """OWLv2's own way: black below or beside, smoothed, and interpolated on straight lines."""
    from scipy import ndimage

    high, wide = rows.shape[:2]
    square = max(high, wide)
    numbers = rows.astype(np.float32)
    if pad:
        numbers = np.pad(numbers, ((0, square - high), (0, square - wide), (0, 0)))
    if not size:
        return rows
    factors = np.divide(numbers.shape, (size["height"], size["width"], 3))
    smooth = ndimage.gaussian_filter(numbers, np.maximum(0, (factors - 1) / 2), mode="mirror")
    found = ndimage.zoom(smooth, 1 / factors, order=1, mode="mirror", grid_mode=True)
    return np.clip(found, numbers.min(), numbers.max()).round().astype(np.uint8)


def _affine(settings: Mapping[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What bytes are multiplied with, and what is added, of each channel."""
    scale, shift = np.ones(3), np.zeros(3)
    if settings.get("do_rescale", True):
        scale *= settings.get("rescale_factor", 1 / 255)
        shift -= 1.0 if settings.get("rescale_offset") else 0.0
    std = np.asarray(settings["image_std"], np.float64)
    if settings.get("do_normalize", True):
        mean = np.asarray(settings["image_mean"], np.float64)
        scale, shift = scale / std, (shift - mean) / std
    if settings.get("include_top"):
        scale, shift = scale / std, shift / std
    return scale, shift

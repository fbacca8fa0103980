"""Reading pictures from anywhere, safely, in one function."""

from __future__ import annotations

import os
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from lexlip.errors import LexLIPError

MAX_PIXELS = 40_000_000  # 120 MB as RGB; more than any phone camera's ordinary pictures
MAX_BYTES = 64 * 1024 * 1024
# Only formats whose decoders are plain code: some others of Pillow start programs (EPS).
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif")
)
_HEIF = (b"ftypheic", b"ftypheix", b"ftyphevc", b"ftypmif1", b"ftypmsf1")

ImageSource = str | Path | bytes | Image.Image | np.ndarray


@cache
def formats() -> tuple[str, ...]:
    """Return the formats that are read: with pillow-heif installed, what phones write too."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return FORMATS
    register_heif_opener()
    return (*FORMATS, "HEIF")


def read_image(source: ImageSource, name: str | None = None) -> Image.Image:
    """Decode a picture fully and return it upright, as RGB.

    The size is judged by the header before anything is decoded; of an animation the first frame
    is taken; transparent parts become white; CMYK, palettes, grey and 16 bits are converted.

    Parameters
    ----------
    source : str, Path, bytes, PIL.Image.Image or numpy.ndarray
        A file, the bytes of one, a picture, or a uint8 array of shape [H, W], [H, W, 1],
        [H, W, 3] (RGB) or [H, W, 4] (RGBA).
    name : str, optional
        What errors call the picture; by default the path.

    Returns
    -------
    PIL.Image.Image
        A new RGB picture, independent of `source`.

    Raises
    ------
    LexLIPError
        If the file is missing, not a picture, corrupted, truncated or too large.

    Examples
    --------
    >>> read_image(Image.new("L", (3, 2), 255)).getpixel((0, 0))
    (255, 255, 255)
    """
    name = name or (os.fspath(source) if isinstance(source, str | Path) else "the picture")
    if isinstance(source, np.ndarray):
        picture = _from_array(source, name)
    elif isinstance(source, Image.Image):
        picture = source
    elif isinstance(source, bytes | bytearray | memoryview):
        picture = _open(bytes(source), name)
    elif isinstance(source, str | Path):
        picture = _open(_read_file(Path(source), name), name)
    else:
        raise LexLIPError(f"{name}: {type(source).__name__} is no picture: give a path or bytes")
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise LexLIPError(
            f"{name}: {width} x {height} pixels are over the limit of {MAX_PIXELS:,}: reduce it"
        )
    try:
        # load() and not verify(), which lets truncated files pass.
        picture.load()
        return _to_rgb(_upright(picture), name)
    except LexLIPError:
        raise
    except Exception as error:  # decoders raise anything from OSError to struct.error
        raise LexLIPError(f"{name}: damaged or truncated picture ({_reason(error)})") from error


def _upright(picture: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # broken metadata does not spoil good pixels
        return picture


def _reason(error: Exception) -> str:
    """Return an exception as one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _read_file(path: Path, name: str) -> bytes:
    if not path.is_file():  # also keeps away from pipes and devices, which may never end
        raise LexLIPError(f"{name}: no such file")
    try:
        with open(path, "rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise LexLIPError(f"{name}: cannot be read ({error.strerror})") from error


def _open(data: bytes, name: str) -> Image.Image:
    """Read the header only."""
    if len(data) > MAX_BYTES:
        raise LexLIPError(f"{name}: over the limit of {MAX_BYTES // 2**20} MiB: reduce it")
    try:
        return Image.open(BytesIO(data), formats=formats())
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise LexLIPError(f"{name}: over the limit of {MAX_PIXELS:,} pixels: reduce it") from None
    except Image.UnidentifiedImageError:
        if data[4:12] in _HEIF and "HEIF" not in formats():
            raise LexLIPError(f"{name}: HEIC needs a decoder: pip install pillow-heif") from None
        kinds = "JPEG, PNG, WebP, GIF, BMP or TIFF"
        raise LexLIPError(f"{name}: not a picture, or damaged: {kinds} are read") from None
    except Exception as error:
        raise LexLIPError(f"{name}: damaged picture ({_reason(error)})") from error


def _from_array(array: np.ndarray, name: str) -> Image.Image:
    shape = array.shape
    fits = array.ndim == 2 or (array.ndim == 3 and shape[2] in (1, 3, 4))
    if array.dtype != np.uint8 or not fits or array.size == 0:
        raise LexLIPError(
            f"{name}: an array of {array.dtype} {list(shape)} is no picture: "
            "give uint8 of shape [H, W], [H, W, 3] or [H, W, 4]"
        )
    return Image.fromarray(array[..., 0] if array.ndim == 3 and shape[2] == 1 else array)


def _to_rgb(picture: Image.Image, name: str) -> Image.Image:
    if picture.mode.startswith(("I", "F")):
        values = np.asarray(picture).astype(np.float64)
        if picture.mode == "F":
            raise LexLIPError(
                f"{name}: its numbers are floating-point, without a known white: save it as PNG"
            )
        # 16 bits; mode I also carries 8-bit values.
        scale = 257.0 if picture.mode.startswith("I;16") or values.max(initial=0) > 255 else 1.0
        picture = Image.fromarray(np.clip(np.rint(values / scale), 0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, rgba)
    return picture.convert("RGB") if picture.mode != "RGB" else picture.copy()

"""Reading pictures from anywhere, safely and at the scale that is needed, in one function."""

from __future__ import annotations

import os
import threading
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from lexlip.data import limits, raw
from lexlip.data.colours import eight_bits, to_rgb
from lexlip.data.exif import TURNS, orientation_of, photo_facts
from lexlip.data.formats import open_bytes, open_file
from lexlip.data.jpeg import check_jpeg
from lexlip.data.limits import check_pixels, reason
from lexlip.data.png import check_png
from lexlip.errors import LexLIPError
from lexlip.storage.stored import Stored

SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif")
    + (".avif", *raw.SUFFIXES)
)

SMALL = 1_000_000
"""Pixels up to which a picture is decoded in full, at whatever scale it is needed: that is fast."""

ENOUGH = 1024
"""Pixels of the shorter side that are enough for any model, where it is not known which one reads
the picture."""

_LARGE = 8_000_000  # pixels; those above are decoded one at a time, whatever the number of threads
_ALONE = threading.Lock()

ImageSource = str | Path | bytes | Stored | Image.Image | np.ndarray


class Photo(NamedTuple):
    """A decoded picture, and what is known of it.

    Attributes
    ----------
    image : PIL.Image.Image
        Upright, RGB, decoded at the scale that was asked for.
    size : (int, int)
        Width and height of the picture in full, upright.
    facts : dict
        `taken`, `camera`, `latitude` and `longitude`, as far as the file says so; see
        `lexlip.data.exif`.
    """

    image: Image.Image
    size: tuple[int, int]
    facts: dict[str, Any]


def read_image(
    source: ImageSource | Photo,
    name: str | None = None,
    at_least: int | None = None,
    max_pixels: int | None = None,
) -> Image.Image:
    """Decode a picture and return it upright, as RGB, in the colours of sRGB.

    The size is judged by the header before anything is decoded; of an animation the first frame
    is taken; transparent parts become white; CMYK, palettes, grey, 16 bits and colours of other
    profiles are converted. Of a camera's RAW file the picture inside is taken.

    Parameters
    ----------
    source : str, Path, bytes, Stored, PIL.Image.Image or numpy.ndarray
        A file, the bytes of one, a picture, or a uint8 array of shape [H, W], [H, W, 1],
        [H, W, 3] (RGB) or [H, W, 4] (RGBA).
    name : str, optional
        What errors call the picture; by default the path.
    at_least : int, optional
        Pixels of the shorter side that are needed. A picture of over a million pixels is then
        decoded at the smallest scale that has them: a JPEG at 1/2, 1/4 or 1/8. None decodes it in
        full.
    max_pixels : int, optional
        Limit of what is decoded, width times height at that scale; by default that of the
        environment variable LEXLIP_MAX_PIXELS, or 64 million.

    Returns
    -------
    PIL.Image.Image
        A new RGB picture, independent of `source`.

    Raises
    ------
    PictureTooLarge
        If it is over a limit.
    LexLIPError
        If the file is missing, not a picture, corrupted or truncated.

    Examples
    --------
    >>> read_image(Image.new("L", (3, 2), 255)).getpixel((0, 0))
    (255, 255, 255)
    >>> read_image(Image.new("RGB", (4000, 3000)), at_least=448).size
    (667, 500)
    """
    return read_photo(source, name, at_least, max_pixels).image


def read_photo(
    source: ImageSource | Photo,
    name: str | None = None,
    at_least: int | None = None,
    max_pixels: int | None = None,
) -> Photo:
    """Decode a picture as `read_image` does, and return what its file says about it as well."""
    if isinstance(source, Photo):
        return source
    name = name or (os.fspath(source) if isinstance(source, str | Path) else "the picture")
    picture, turn, facts = _opened(source, name, at_least)
    full = picture.size
    try:
        if at_least is not None and full[0] * full[1] > SMALL and picture is not source:
            picture.draft(None, (at_least, at_least))  # ignored by decoders that cannot
        work = check_pixels(picture, full, name, max_pixels)
        with _ALONE if work > _LARGE else nullcontext():
            # After the size was judged: what a PNG says behind its pixels is read by decoding it.
            facts, orientation = photo_facts(picture) | facts, orientation_of(picture)
            turn = turn if orientation == 1 else TURNS.get(orientation)
            picture.load()  # and not verify(), which lets truncated files pass
            check_png(picture, source, name)
            picture = _reduced(eight_bits(picture, name), at_least)
            shape = picture.size
            image = to_rgb(picture if turn is None else picture.transpose(turn))
    except LexLIPError:
        raise
    except Exception as error:  # decoders raise anything from OSError to struct.error
        raise LexLIPError(f"{name}: damaged or truncated picture ({reason(error)})") from error
    if image is source or type(image) is not Image.Image:  # a decoder's own class, with its file
        image = image.copy()
    image.info = {}  # what it says has been applied
    return Photo(image, full if image.size == shape else full[::-1], facts)


def format_of(source: Path | bytes, name: str) -> str:
    """Return the format of a picture file, as Pillow names it, or RAW; nothing is decoded.

    Raises
    ------
    LexLIPError
        When it is not a picture.
    OSError
        When it cannot be read.
    """
    with _file(source) as file:
        if raw.is_raw(file, _suffix(source)):
            return "RAW"
        return open_file(file, name).format or ""


def size_of(source: Path | bytes, name: str) -> tuple[int, int] | None:
    """Return width and height of a picture file, upright; nothing is decoded. None for RAW files.

    Raises
    ------
    LexLIPError
        When it is not a picture.
    OSError
        When it cannot be read.
    """
    with _file(source) as file:
        if raw.is_raw(file, _suffix(source)):
            return None
        picture = open_file(file, name)
        if picture.format == "PNG" and "exif" not in picture.info:  # else all of it is decoded
            return picture.size
        return picture.size[::-1] if orientation_of(picture) > 4 else picture.size


def _opened(
    source: ImageSource, name: str, at_least: int | None
) -> tuple[Image.Image, Image.Transpose | None, dict[str, Any]]:
    """Return a picture of which at most the header was read, how to turn it, and facts."""
    if isinstance(source, np.ndarray):
        return _from_array(source, name), None, {}
    if isinstance(source, Image.Image):
        return source, None, {}
    if isinstance(source, bytes | bytearray | memoryview):
        place: str | Path | bytes = bytes(source)
    elif isinstance(source, Stored):
        place = source.read()
    elif isinstance(source, str | Path):
        place = source
        if not os.path.isfile(place):  # also keeps away from pipes and devices, which may never end
            raise LexLIPError(f"{name}: no such file")
    else:
        raise LexLIPError(f"{name}: {type(source).__name__} is no picture: give a path or bytes")
    try:
        with _file(place) as file:
            if raw.is_raw(file, _suffix(place)):
                return raw.open_raw(file, name, at_least)
            file.seek(0)
            data = place if isinstance(place, bytes) else file.read(limits.MAX_BYTES + 1)
    except OSError as error:
        raise LexLIPError(f"{name}: cannot be read ({error.strerror or reason(error)})") from error
    return check_jpeg(open_bytes(data, name), data, name), None, {}


def _file(source: str | Path | bytes) -> BinaryIO:
    return BytesIO(source) if isinstance(source, bytes) else open(source, "rb")


def _suffix(source: str | Path | bytes) -> str:
    return "" if isinstance(source, bytes) else Path(source).suffix


def _reduced(picture: Image.Image, at_least: int | None) -> Image.Image:
    """Average squares of pixels of a picture that is larger than needed."""
    factor = 1 if at_least is None else min(picture.size) // at_least
    if factor < 2 or picture.width * picture.height <= SMALL:
        return picture
    return picture.reduce(factor)


def _from_array(array: np.ndarray, name: str) -> Image.Image:
    shape = array.shape
    fits = array.ndim == 2 or (array.ndim == 3 and shape[2] in (1, 3, 4))
    if array.dtype != np.uint8 or not fits or array.size == 0:
        raise LexLIPError(
            f"{name}: an array of {array.dtype} {list(shape)} is no picture: "
            "give uint8 of shape [H, W], [H, W, 3] or [H, W, 4]"
        )
    return Image.fromarray(array[..., 0] if array.ndim == 3 and shape[2] == 1 else array)

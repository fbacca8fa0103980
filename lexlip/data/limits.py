"""Limits of what is decoded: pixels, sides and bytes."""

from __future__ import annotations

import os

from PIL import Image

from lexlip.errors import LexLIPError
from lexlip.storage.stored import MAX_BYTES as MAX_BYTES

MAX_PIXELS = 64_000_000
"""Of a picture at the scale that it is decoded at: 192 MB as RGB. Phones write HEIC of 50 million,
which cannot be decoded smaller; a JPEG of 200 million is decoded at 1/8."""

VARIABLE = "LEXLIP_MAX_PIXELS"
"""Environment variable with another limit."""


MAX_SIDE = 100_000
"""Pixels. JPEG ends at 65,535. A picture of 1 x 40,000,000 is small by its pixels only: Pillow
keeps a pointer for each row, and no average of squares makes it smaller."""

# Of a JPEG in full, as multiples of the limit. Decoding it smaller still reads all of its data: 3 s
# for 320 million pixels on one core. A progressive one is kept in memory in full meanwhile, with 3
# to 6 bytes a pixel.
_BASELINE, _PROGRESSIVE = 8, 2


class PictureTooLarge(LexLIPError):
    """A picture over a limit: its header says so, and nothing was decoded."""


def max_pixels() -> int:
    """Return the limit of decoded pixels: of the environment, or `MAX_PIXELS`.

    Raises
    ------
    LexLIPError
        When the variable is not a whole number above 0.
    """
    wanted = os.environ.get(VARIABLE, "").replace("_", "").replace(",", "").strip()
    if not wanted:
        return MAX_PIXELS
    if not wanted.isdecimal() or not int(wanted):
        raise LexLIPError(f"{VARIABLE} is {os.environ[VARIABLE]!r}: give a number of pixels")
    return int(wanted)


def check_pixels(
    picture: Image.Image, full: tuple[int, int], name: str, limit: int | None = None
) -> int:
    """Judge the size of a picture that is about to be decoded.

    Parameters
    ----------
    picture : PIL.Image.Image
        Of which the header was read; its size is that of the scale it will be decoded at.
    full : (int, int)
        Width and height in the file.
    name : str
        What errors call it.
    limit : int, optional
        By default `max_pixels`.

    Returns
    -------
    int
        What decoding costs, as a number of pixels that are held in memory.

    Raises
    ------
    PictureTooLarge
    """
    if max(full) > MAX_SIDE:
        raise PictureTooLarge(
            f"{name}: {full[0]} x {full[1]} pixels: a side is over {MAX_SIDE:,}: cut it in pieces"
        )
    pixels, whole = picture.width * picture.height, full[0] * full[1]
    progressive = bool(picture.info.get("progressive"))
    check_size(picture.size, name, limit, shown=full)
    check_size(full, name, limit, _PROGRESSIVE if progressive else _BASELINE)
    if picture.format == "HEIF":  # held as YUV too
        return 2 * pixels
    return whole if progressive else pixels


def check_size(
    size: tuple[int, int],
    name: str,
    limit: int | None = None,
    times: int = 1,
    shown: tuple[int, int] | None = None,
) -> None:
    """Refuse a picture with over `times` as many pixels as the limit; errors tell `shown`.

    Raises
    ------
    PictureTooLarge
    """
    limit = max_pixels() if limit is None else limit
    if size[0] * size[1] > times * limit:
        width, height = shown or size
        raise PictureTooLarge(
            f"{name}: {width} x {height} pixels are over the limit of {limit:,}: reduce it, or "
            f"raise {VARIABLE}"
        )


def reason(error: BaseException) -> str:
    """Return an exception as one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__

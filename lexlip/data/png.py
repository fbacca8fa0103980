"""Pixels of a PNG: a stream that ends early, but cleanly, is black below, and no decoder minds."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from lexlip.errors import LexLIPError

_PASSES = ((0, 8, 0, 8), (4, 8, 0, 8), (0, 4, 4, 8), (2, 4, 0, 4), (0, 2, 2, 4), (1, 2, 0, 2),
           (0, 1, 1, 2))  # fmt: skip
"""Of an interlaced PNG: first column, step, first row, step."""

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PIECE = 2**20


def check_png(picture: Image.Image, source: object, name: str) -> None:
    """Refuse a PNG whose stream of pixels ends early.

    Only a picture whose last rows are black (or index 0) is looked at again: what is missing is so.

    Parameters
    ----------
    picture : PIL.Image.Image
        Decoded, not changed yet.
    source : str, Path or bytes
        Where it was read from; nothing is done for anything else.
    name : str

    Raises
    ------
    LexLIPError
    """
    if picture.format != "PNG" or not isinstance(source, str | Path | bytes):
        return
    rows = [picture.crop((0, y, picture.width, y + 1)) for y in _last_rows(picture.height)]
    if all(any(row.tobytes()) for row in rows):
        return
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    wanted, there = _wanted(data), 0
    for size in _inflated(data):
        there += size
        if there >= wanted:
            return
    raise LexLIPError(
        f"{name}: damaged or truncated picture (its pixels end at {there} of {wanted} bytes)"
    )


def _last_rows(height: int) -> range:
    """Return the last row, and the one before: that is the last of an interlaced stream."""
    return range(max(0, height - 2), height)


def _wanted(data: bytes) -> int:
    """Return the bytes of all rows, each with its filter byte."""
    width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
    bits = data[24] * _CHANNELS.get(data[25], 1)
    passes = _PASSES if data[28] else ((0, 1, 0, 1),)
    total = 0
    for left, across, top, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + -(-columns * bits // 8))
    return total


def _inflated(data: bytes) -> Iterator[int]:
    """Yield how many bytes come out of the stream of pixels, piece by piece."""
    stream, at = zlib.decompressobj(), 8
    while at + 8 <= len(data):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        rest = data[at + 8 : at + 8 + size] if kind == b"IDAT" else b""
        while rest:
            yield len(stream.decompress(rest, _PIECE))
            rest = stream.unconsumed_tail
        at += 12 + size

"""Scans of a JPEG: a small file can repeat them until a decoder is busy for hours."""

from __future__ import annotations

import re

from PIL import Image

from lexlip.data.limits import PictureTooLarge

MAX_SCANS = 100
"""Of one JPEG. Encoders write 1 to 12; all that the format has use for is about 190, in theory."""

MAX_SCANNED = 1_600_000_000
"""Scans times pixels: 12 of the largest progressive JPEG, 128 million pixels, and some 2 s."""

# In entropy-coded data 0xff is followed by 0, or is a restart marker; anything else ends it.
_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")
_SCAN, _END = 0xDA, 0xD9
_ALONE = (0x01, *range(0xD0, 0xD9))  # markers without a length


def count_scans(data: bytes) -> int:
    """Count the scans of the first picture in the bytes of a JPEG file.

    A JPEG that is not progressive and has all components in its first scan has no other. Beyond
    `MAX_SCANS` nothing more is counted.

    Examples
    --------
    >>> count_scans(b"not a JPEG")
    0
    """
    scans = components = place = 0
    progressive = False
    while (found := _MARKER.search(data, place)) is not None:
        marker, place = data[found.end() - 1], found.end()
        if marker == _END:
            break
        if marker in _ALONE:
            continue
        segment = data[place + 2 : place + 10]
        place += max(2, int.from_bytes(data[place : place + 2], "big"))
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and len(segment) > 5:
            progressive, components = marker in (0xC2, 0xC6, 0xCA, 0xCE), segment[5]
        if marker == _SCAN:
            scans += 1
            if scans > MAX_SCANS or (not progressive and segment and segment[0] == components):
                break
    return scans


def check_jpeg(picture: Image.Image, data: bytes, name: str) -> Image.Image:
    """Return a picture whose header was read; refuse a JPEG with far too many scans.

    Raises
    ------
    PictureTooLarge
    """
    if picture.format in ("JPEG", "MPO"):
        scans = count_scans(data)
        many = scans > 1 and scans * picture.width * picture.height > MAX_SCANNED
        if many or scans > MAX_SCANS:
            count = f"{scans}+" if scans > MAX_SCANS else scans
            raise PictureTooLarge(
                f"{name}: a JPEG of {count} scans would take too long to decode: save it again"
            )
    return picture

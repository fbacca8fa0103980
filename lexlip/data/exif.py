"""Facts that cameras write into pictures: date, camera, place and which way is up."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, BinaryIO

from PIL import Image

PHOTO_METADATA = ("taken", "camera", "latitude", "longitude")
"""Metadata of photographs: the date and time of the clock in the camera (ISO form), its name, and
the place in degrees, north and east positive."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture upright, by its orientation."""

_MAKE, _MODEL, _ORIENTATION, _SHOT, _PLACE = 0x010F, 0x0110, 0x0112, 0x8769, 0x8825
_TAKEN = (0x9003, 0x9004)  # original, digitised; the plain date is that of the last change


def orientation_of(picture: Image.Image) -> int:
    """Return the orientation of a picture, 1 (upright) to 8; damaged metadata say 1."""
    try:
        orientation = picture.getexif().get(_ORIENTATION, 1)
        return orientation if orientation in TURNS else 1
    except Exception:
        return 1


def photo_facts(picture: Image.Image) -> dict[str, Any]:
    """Return what a picture file says of how it was taken; see `PHOTO_METADATA`.

    What is missing or damaged is left out.

    Examples
    --------
    >>> picture, exif = Image.new("RGB", (1, 1)), Image.Exif()
    >>> exif[0x0110] = "Phone 3"
    >>> exif.get_ifd(0x8769)[0x9003] = "2024:06:30 17:05:00"
    >>> picture.info["exif"] = exif.tobytes()
    >>> photo_facts(picture)
    {'taken': '2024-06-30T17:05:00', 'camera': 'Phone 3'}
    """
    try:
        exif = picture.getexif()
        return facts_of(exif, _directory(exif, _SHOT), _directory(exif, _PLACE))
    except Exception:  # broken metadata does not spoil good pixels
        return {}


def facts_of(
    main: Mapping[int, Any], shot: Mapping[int, Any], place: Mapping[int, Any]
) -> dict[str, Any]:
    """Return the facts of EXIF by its directories: the main one, of the shot, of the place."""
    facts: dict[str, Any] = {}
    for tag in _TAKEN:
        if (taken := _date(shot.get(tag))) is not None:
            facts["taken"] = taken
            break
    if camera := _camera(_text(main.get(_MAKE)), _text(main.get(_MODEL))):
        facts["camera"] = camera
    latitude, longitude = _degrees(place, 2, "S", 90), _degrees(place, 4, "W", 180)
    if latitude is not None and longitude is not None and (latitude, longitude) != (0, 0):
        facts |= {"latitude": latitude, "longitude": longitude}
    return facts


def of_tiff(file: BinaryIO) -> dict[str, Any]:
    """Return the facts in a TIFF file.

    Raises
    ------
    Exception
        Of any kind, when they are damaged.
    """
    exif = Image.Exif()
    exif.load_from_fp(file)
    return facts_of(exif, _directory(exif, _SHOT), _directory(exif, _PLACE))


def _directory(exif: Image.Exif, tag: int) -> Mapping[int, Any]:
    try:
        return exif.get_ifd(tag)
    except Exception:
        return {}


def _text(value: Any) -> str:
    """Return a text as people read it: without the zeros and blanks that fill its field."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    text = " ".join(value.split("\0")[0].split()) if isinstance(value, str) else ""
    return text if text.isprintable() else ""


def _date(value: Any) -> str | None:
    try:
        return datetime.strptime(_text(value)[:19], "%Y:%m:%d %H:%M:%S").isoformat()
    except ValueError:  # "0000:00:00 00:00:00" of a clock that was never set
        return None


def _camera(make: str, model: str) -> str:
    """Return the name of a camera; most models begin with their maker.

    Examples
    --------
    >>> _camera("NIKON CORPORATION", "NIKON D850"), _camera("samsung", "SM-S918B")
    ('NIKON D850', 'samsung SM-S918B')
    """
    named = bool(make and model) and model.lower().startswith(make.lower().split()[0])
    return (model if named else f"{make} {model}".strip())[:100]


def _degrees(place: Mapping[int, Any], tag: int, negative: str, most: int) -> float | None:
    """Return degrees, minutes and seconds as one number, None where there are none."""
    try:
        parts = [float(part) for part in place[tag]]
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    value = sum(part / 60**power for power, part in enumerate(parts[:3]))
    if not parts or not math.isfinite(value) or not 0 <= value <= most:
        return None
    south_or_west = _text(place.get(tag - 1)).upper().startswith(negative)
    return round(-value if south_or_west else value, 6)

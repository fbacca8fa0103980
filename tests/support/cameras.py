"""Files as cameras write them, made on the spot: DNG, CR3, JPEG with EXIF and with many scans."""

from __future__ import annotations

import struct
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms


def as_bytes(picture: Image.Image, kind: str = "JPEG", **options) -> bytes:
    """Encode a picture."""
    buffer = BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def scene(width: int, height: int, seed: int = 0) -> Image.Image:
    """Coarse, soft colours."""
    colours = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize((width, height), Image.Resampling.BICUBIC)


def exif_of(
    taken: str = "2024:06:30 17:05:00", orientation: int = 1, place: bool = True
) -> Image.Exif:
    """EXIF of a phone in Sydney."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0112] = "ACME\0", "Phone 3", orientation
    exif.get_ifd(0x8769)[0x9003] = taken
    if place:
        exif.get_ifd(0x8825).update({1: "S", 2: (33.0, 51.0, 25.2), 3: "E", 4: (151.0, 12.0, 54.0)})
    return exif


def swapped_profile() -> bytes:
    """sRGB with red and blue exchanged: every viewer shows the other colour."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack(">I", data[128:132])[0]
    for place in range(132, 132 + 12 * count, 12):
        name = bytes(data[place : place + 4])
        data[place : place + 4] = {b"rXYZ": b"bXYZ", b"bXYZ": b"rXYZ"}.get(name, name)
    return bytes(data)


def tiff(entries: dict[int, tuple[int, object]], offset: int = 0, order: str = "<") -> bytes:
    """A directory of a TIFF file, with its values behind it; strings, bytes and numbers."""
    size = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 10: 8}
    letters = {1: "B", 3: "H", 4: "I"}
    packed, tail = [], b""
    behind = offset + 2 + 12 * len(entries) + 4
    for tag, (kind, value) in sorted(entries.items()):
        if isinstance(value, str | bytes):
            raw = value.encode() + b"\0" if isinstance(value, str) else value
            count = len(raw)
        elif kind in (5, 10):
            values = value if isinstance(value, list) else [value]
            raw = b"".join(struct.pack(order + "ii", *pair) for pair in values)
            count = len(values)
        else:
            values = value if isinstance(value, list | tuple) else [value]
            raw = struct.pack(f"{order}{len(values)}{letters[kind]}", *values)
            count = len(values)
        assert len(raw) == count * size[kind]
        if len(raw) > 4:
            field = struct.pack(order + "I", behind + len(tail))
            tail += raw + b"\0" * (len(raw) % 2)
        else:
            field = raw.ljust(4, b"\0")
        packed.append(struct.pack(order + "HHI", tag, kind, count) + field)
    head = struct.pack(order + "H", len(packed))
    return head + b"".join(packed) + struct.pack(order + "I", 0) + tail


def dng(
    preview: Image.Image | None, orientation: int = 1, side: int = 64, colour: int = 0
) -> bytes:
    """A DNG: a sensor of `side` x `side` with one bright colour, and a JPEG to look at."""
    shown = b"" if preview is None else as_bytes(preview, quality=95)
    cells = np.full((side, side), 200, np.uint16)
    cells[(colour >= 2) :: 2, (colour % 2) :: 2] = 60_000  # 0 red, 1 and 2 green, 3 blue
    sensor = cells.astype("<u2").tobytes()
    shot = {0x9003: (2, "2023:01:02 03:04:05")}
    start = 8
    places = {"shown": start, "sensor": start + len(shown) + len(shown) % 2}
    directory = places["sensor"] + len(sensor)
    raw_part = {
        0x00FE: (4, 0), 0x0100: (4, side), 0x0101: (4, side), 0x0102: (3, 16), 0x0103: (3, 1),
        0x0106: (3, 32803), 0x0111: (4, places["sensor"]), 0x0115: (3, 1), 0x0116: (4, side),
        0x0117: (4, len(sensor)), 0x828D: (3, [2, 2]), 0x828E: (1, bytes([0, 1, 1, 2])),
    }  # fmt: skip
    camera = {
        0x010F: (2, "ACME"), 0x0110: (2, "ACME R1"), 0x0112: (3, orientation),
        0xC612: (1, bytes([1, 4, 0, 0])), 0xC614: (2, "ACME R1"),
        0xC621: (10, [(1, 1), (0, 1), (0, 1), (0, 1), (1, 1), (0, 1), (0, 1), (0, 1), (1, 1)]),
        0xC628: (5, [(1, 1), (1, 1), (1, 1)]), 0xC65A: (3, 21),
    }  # fmt: skip
    if preview is None:
        main = camera | raw_part | {0x8769: (4, 0)}
    else:
        main = camera | {
            0x00FE: (4, 1), 0x0100: (4, preview.width), 0x0101: (4, preview.height),
            0x0102: (3, [8, 8, 8]), 0x0103: (3, 7), 0x0106: (3, 6), 0x0111: (4, places["shown"]),
            0x0115: (3, 3), 0x0116: (4, preview.height), 0x0117: (4, len(shown)),
            0x014A: (4, 0), 0x8769: (4, 0),
        }  # fmt: skip
    length = len(tiff(main, directory))
    sub = directory + length
    if preview is not None:
        main[0x014A] = (4, sub)
        main[0x8769] = (4, sub + len(tiff(raw_part, sub)))
    else:
        main[0x8769] = (4, sub)
    data = struct.pack("<2sHI", b"II", 42, directory) + shown + b"\0" * (len(shown) % 2) + sensor
    data += tiff(main, directory)
    if preview is not None:
        data += tiff(raw_part, sub)
    return data + tiff(shot, main[0x8769][1])


def with_repeated_scans(jpeg: bytes, times: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again: 61 bytes cost a whole pass."""
    last = jpeg.rindex(b"\xff\xda")
    return jpeg[:-2] + jpeg[last:-2] * times + jpeg[-2:]

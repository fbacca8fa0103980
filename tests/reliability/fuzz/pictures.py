"""Pictures of every format that is decoded: bytes change, or markers, chunks and boxes do."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from tests.reliability.fuzz.harness import Harness, refused
from tests.reliability.fuzz.mutations import mutated, number, shuffled

_PNG = b"\x89PNG\r\n\x1a\n"
_KINDS = (b"IHDR", b"PLTE", b"tRNS", b"iCCP", b"eXIf", b"gAMA", b"cHRM", b"sRGB", b"tEXt", b"zTXt",
          b"iTXt", b"acTL", b"fcTL", b"fdAT", b"bKGD", b"pHYs", b"IDAT", b"IEND")  # fmt: skip


def segments_of(data: bytes) -> list[bytes]:
    """Split a JPEG at its markers; each piece begins with one."""
    pieces, start = [], 0
    for at in range(2, len(data) - 1):
        if data[at] == 0xFF and data[at + 1] not in (0, 0xFF) and not 0xD0 <= data[at + 1] <= 0xD7:
            pieces.append(data[start:at])
            start = at
    return [*pieces, data[start:]]


def jpeg(data: bytes, dice: random.Random) -> bytes:
    """Change segments of a JPEG; their lengths stay right."""
    pieces = segments_of(data)
    at = dice.randrange(len(pieces))
    piece = bytearray(pieces[at])
    match dice.randrange(4):
        case 0 | 1 if len(piece) > 5 and piece[1] not in (0xD8, 0xD9):
            piece[4:] = mutated(bytes(piece[4:]), dice)
            if piece[1] != 0xDA:
                piece[2:4] = (len(piece) - 2 & 0xFFFF).to_bytes(2, "big")
            pieces[at] = bytes(piece)
        case 2:
            piece[1:2] = dice.choice((b"\xc0", b"\xc1", b"\xc2", b"\xc4", b"\xc9", b"\xda", b"\xdb",
                                      b"\xdd", b"\xe0", b"\xe1", b"\xe2", b"\xee",
                                      b"\xfe"))  # fmt: skip
            pieces[at] = bytes(piece)
        case _:
            pieces = shuffled(pieces, dice)
    return b"".join(pieces)


def chunks_of(data: bytes) -> list[tuple[bytes, bytes]]:
    """Split a PNG into (kind, content), without checking sums."""
    chunks, at = [], len(_PNG)
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    return chunks


def png_of(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """Join chunks, with right sums."""
    return _PNG + b"".join(
        struct.pack(">I", len(content)) + kind + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )  # fmt: skip


def png(data: bytes, dice: random.Random) -> bytes:
    """Change chunks of a PNG; sums stay right, and pixels are compressed anew."""
    chunks = chunks_of(data)
    if not chunks:
        return mutated(data, dice)
    at = dice.randrange(len(chunks))
    kind, content = chunks[at]
    match dice.randrange(5):
        case 0 if kind in (b"IDAT", b"fdAT"):
            try:
                chunks[at] = kind, zlib.compress(mutated(zlib.decompress(content), dice), 1)
            except zlib.error:
                chunks[at] = kind, content[:-1]
        case 0 | 1:
            chunks[at] = kind, mutated(content, dice)
        case 2 if len(chunks[0][1]) == 13:
            header = bytearray(chunks[0][1])
            number(header, dice) if dice.random() < 0.5 else None
            header[8:13] = bytes(dice.choice((0, 1, 2, 3, 4, 6, 8, 16)) for _ in range(5))
            chunks[0] = b"IHDR", bytes(header[:13])
        case 3:
            chunks.insert(at, (dice.choice(_KINDS), mutated(content[:200], dice)))
        case _:
            order = shuffled([bytes([n]) for n in range(min(len(chunks), 255))], dice)
            chunks = [chunks[n[0]] for n in order]
    return png_of(chunks)


def tiff(data: bytes, dice: random.Random) -> bytes:
    """Change entries of a TIFF's directory: tag, type, count, value."""
    raw = bytearray(data)
    order = "<" if raw[:2] == b"II" else ">"
    try:
        start = struct.unpack_from(order + "I", raw, 4)[0]
        count = struct.unpack_from(order + "H", raw, start)[0]
        for _ in range(dice.choice((1, 1, 2, 3))):
            entry = start + 2 + 12 * dice.randrange(max(1, min(count, 100)))
            field, code, values = dice.choice(
                ((0, "H", (256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 320, 330, 338,
                339, 34675)),
                 (2, "H", (1, 2, 3, 4, 5, 7, 11, 12, 13, 16)),
                 (4, "I", (0, 1, 2, 65535, 2**31, 2**32 - 1)),
                 (8, "I", (0, 1, 2, 3, 5, 6, 7, 8, 16, 32, 32773, 32946, 34712, 50000, 65535,
                 2**32 - 1)))
            )  # fmt: skip
            struct.pack_into(order + code, raw, entry + field, dice.choice(values))
    except struct.error:
        return mutated(data, dice)
    return bytes(raw)


def boxes(data: bytes, dice: random.Random) -> bytes:
    """Change RIFF chunks, or boxes of HEIC and AVIF; lengths stay right where they were."""
    little = data[:4] == b"RIFF"
    pieces, at = [data[:12]] if little else [], 12 if little else 0
    while at + 8 <= len(data):
        size = struct.unpack_from("<I" if little else ">I", data, at + 4 * little)[0]
        end = at + (8 + size + size % 2 if little else max(8, size))
        pieces.append(data[at:end])
        at = end
    pieces.append(data[at:])
    place = dice.randrange(len(pieces))
    piece = bytearray(pieces[place])
    if dice.random() < 0.7 and len(piece) > 8:
        body = mutated(bytes(piece[8:]), dice)
        size = len(body) if little else len(body) + 8
        head = bytes(piece[:8])
        if dice.random() < 0.8:
            told = struct.pack("<I" if little else ">I", size)
            head = head[:4] + told if little else told + head[4:]
        pieces[place] = head + body
    else:
        pieces = shuffled(pieces, dice)
    return b"".join(pieces)


def _saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def seeds() -> list[bytes]:
    """Return small pictures of every format, mode and way to store it."""
    from lexlip.data.formats import formats

    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 4), dtype=np.uint8)
    noise[:12] //= 64
    rgba = Image.fromarray(noise)
    rgb = rgba.convert("RGB")
    deep = Image.fromarray(np.arange(24 * 32, dtype=np.uint16).reshape(24, 32) * 80)
    exif = Image.Exif()
    exif[0x0112], exif[0x0110] = 6, "Phone 3"
    exif.get_ifd(0x8825).update({1: "N", 2: (1.0, 2.0, 3.0), 3: "E", 4: (4.0, 5.0, 6.0)})
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    frames = {"save_all": True, "append_images": [rgb.rotate(90 * n) for n in range(1, 4)]}
    made = [
        _saved(rgb, "JPEG"), _saved(rgb, "JPEG", progressive=True, exif=exif),
        _saved(rgb.convert("CMYK"), "JPEG"), _saved(rgb.convert("L"), "JPEG", icc_profile=profile),
        _saved(rgb, "JPEG", subsampling=2, restart_marker_blocks=1),
        _saved(rgb, "PNG"), _saved(rgba, "PNG", exif=exif), _saved(deep, "PNG"),
        _saved(rgb.convert("P"), "PNG", transparency=3), _saved(rgb.convert("1"), "PNG"),
        _saved(rgb, "PNG", icc_profile=profile), _saved(rgba.convert("LA"), "PNG"),
        _saved(rgb, "PNG", **frames), _saved(rgb.convert("P"), "GIF"),
        _saved(rgb, "GIF", duration=9, loop=0, transparency=1, **frames),
        _saved(rgb, "TIFF"), _saved(deep, "TIFF"), _saved(rgba, "TIFF", compression="tiff_lzw"),
        _saved(rgb, "TIFF", compression="jpeg"), _saved(rgb, "TIFF", compression="tiff_deflate"),
        _saved(rgb.convert("1"), "TIFF", compression="group4"), _saved(rgb, "TIFF", **frames),
        _saved(rgb.convert("CMYK"), "TIFF", compression="packbits"),
        _saved(rgb, "WEBP"), _saved(rgba, "WEBP", lossless=True, exif=exif),
        _saved(rgb, "WEBP", **frames),
        _saved(rgb, "BMP"), _saved(rgba, "BMP"), _saved(rgb.convert("P"), "BMP"),
        _saved(rgb.convert("1"), "BMP"), _saved(rgb.convert("L"), "BMP"),
    ]  # fmt: skip
    if "AVIF" in formats():
        made += [_saved(rgb, "AVIF", speed=10), _saved(rgba, "AVIF", speed=10, exif=exif)]
    if "HEIF" in formats():
        made += [_saved(rgb, "HEIF"), _saved(rgba, "HEIF", exif=exif)]
    return made


class Pictures(Harness):
    """Decoding: a picture, or one line, within bounds of time and memory."""

    name = "pictures"
    megabytes = 2000
    packages = ("lexlip.data", "PIL")

    def open(self) -> None:
        from lexlip.data.formats import formats
        from lexlip.data.images import read_photo

        formats()
        read_photo(np.zeros((2, 2), np.uint8))

    def seeds(self) -> list[bytes]:
        return seeds()

    def mutate(self, raw: bytes, dice: random.Random) -> bytes:
        """Change what the format is made of, three times of four."""
        if dice.random() < 0.25 or len(raw) < 16:
            return mutated(raw, dice)
        way: Callable[[bytes, random.Random], bytes] = mutated
        if raw[:2] == b"\xff\xd8":
            way = jpeg
        elif raw[:8] == _PNG:
            way = png
        elif raw[:4] in (b"II*\0", b"MM\0*"):
            way = tiff
        elif raw[:4] == b"RIFF" or raw[4:8] == b"ftyp":
            way = boxes
        for _ in range(dice.choice((1, 1, 2))):
            raw = way(raw, dice) if len(raw) > 16 else mutated(raw, dice)
        return raw

    def attempt(self, data: bytes) -> None:
        from lexlip import LexLIPError
        from lexlip.data.images import format_of, read_photo, size_of

        at_least = (None, 64, 1024)[len(data) % 3]
        try:
            format_of(data, "a")
            size = size_of(data, "a")
        except LexLIPError as error:
            refused(error)
        try:
            photo = read_photo(data, "a", at_least)
        except LexLIPError as error:
            refused(error)
            return
        assert photo.image.mode == "RGB" and photo.size[0] > 0 and photo.size[1] > 0
        # A PNG may say behind its pixels that it lies on its side.
        assert size is None or sorted(photo.size) == sorted(size), f"{photo.size}, before: {size}"
        photo.image.getpixel((0, 0))

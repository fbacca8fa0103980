"""Cameras' RAW files: the picture that the camera put inside, for people to look at."""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from pathlib import PurePath
from typing import Any, BinaryIO

from PIL import Image

from lexlip.data.exif import facts_of, of_tiff
from lexlip.data.formats import open_bytes
from lexlip.data.jpeg import check_jpeg
from lexlip.data.limits import check_size, reason
from lexlip.errors import LexLIPError

SUFFIXES = (
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".iiq", ".kdc",
    ".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl",
    ".sr2", ".srf", ".srw", ".x3f",
)  # fmt: skip
"""Of Hasselblad, Sony, Canon, Kodak, Adobe and phones, Epson, Phase One, Mamiya, Leaf, Minolta,
Nikon, Olympus, Pentax, Fujifilm, Panasonic, Leica, Samsung and Sigma."""

_DEVELOPED = frozenset((".jpg", ".jpeg", ".jfif", ".heic", ".heif"))
_MAGIC = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"\0MRM", b"FOVb")
_TIFF = (b"II*\0", b"MM\0*")
_REDUCED, _SUB_PICTURES, _DNG = 0x00FE, 0x014A, 0xC612
_TURNS = {
    3: Image.Transpose.ROTATE_180,
    5: Image.Transpose.ROTATE_90,
    6: Image.Transpose.ROTATE_270,
}
_HEAD = 2**20  # bytes in which metadata are looked for
_LEAST = 320  # pixels of the shorter side of a preview that is good enough, if none are asked for


def without_twins(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Split file names: those to index, and RAW files beside a JPEG or HEIC of the same stem.

    A camera that is set to "RAW + JPEG" writes each photograph twice.

    Examples
    --------
    >>> without_twins(["a.jpg", "a.NEF", "b.nef", "trip/a.nef"])
    (['a.jpg', 'b.nef', 'trip/a.nef'], ['a.NEF'])
    """
    names = list(names)
    if not any(name.lower().endswith(SUFFIXES) for name in names):
        return names, []
    developed = {
        str(path.with_suffix("")) for path in map(PurePath, names) if _ends(path) in _DEVELOPED
    }
    kept: list[str] = []
    twins: list[str] = []
    for name in names:
        path = PurePath(name)
        twin = _ends(path) in SUFFIXES and str(path.with_suffix("")) in developed
        (twins if twin else kept).append(name)
    return kept, twins


def _ends(path: PurePath) -> str:
    return path.suffix.lower()


def is_raw(file: BinaryIO, suffix: str = "") -> bool:
    """Return whether a file is RAW, by its first bytes.

    Many are TIFF files whose first picture is a small copy of the one that counts; DNG says so.
    """
    file.seek(0)
    head = file.read(16)
    if head.startswith(_MAGIC) or head[4:12] == b"ftypcrx " or head[6:14] == b"HEAPCCDR":
        return True
    if not head.startswith(_TIFF):
        return False
    if head[8:10] == b"CR":
        return True
    first = _directory(file)
    likely = suffix.lower() in SUFFIXES or (not suffix and _SUB_PICTURES in first)
    return _DNG in first or (likely and first.get(_REDUCED) == 1)


def open_raw(
    file: BinaryIO, name: str, at_least: int | None = None
) -> tuple[Image.Image, Image.Transpose | None, dict[str, Any]]:
    """Open the picture inside a RAW file.

    Where there is none, or one with less than half of the pixels that are needed, the data of the
    sensor are developed at half their size.

    Returns
    -------
    PIL.Image.Image
        Of which the header was read, or which was developed.
    PIL.Image.Transpose or None
        What makes it upright, if its own metadata say nothing.
    dict
        See `lexlip.data.exif.photo_facts`.

    Raises
    ------
    LexLIPError
        When rawpy is missing, or the file is damaged.
    """
    try:
        import rawpy
    except ImportError:
        raise LexLIPError(
            f"{name}: a camera's RAW needs a decoder: pip install 'lexlip[raw]'"
        ) from None
    facts = _facts(file)
    file.seek(0)
    try:
        with rawpy.RawPy() as raw:
            raw.open_buffer(file)
            inside = _preview(raw, name)
            if inside is not None and min(inside.size) >= (at_least // 2 if at_least else _LEAST):
                return inside, _TURNS.get(raw.sizes.flip), facts
            return _developed(raw, name), None, facts
    except LexLIPError:
        raise
    except Exception as error:  # rawpy has its own exceptions, and raises others too
        raise LexLIPError(
            f"{name}: damaged RAW, or of an unknown camera ({reason(error)})"
        ) from error


def _preview(raw: Any, name: str) -> Image.Image | None:
    import rawpy

    try:
        found = raw.extract_thumb()
    except rawpy.LibRawError:
        return None
    if found.format == rawpy.ThumbFormat.BITMAP:
        return Image.fromarray(found.data)
    try:
        return check_jpeg(open_bytes(found.data, name), found.data, name)
    except LexLIPError:
        return None


def _developed(raw: Any, name: str) -> Image.Image:
    """Develop the data of the sensor: four of its pixels become one; turned as the camera says."""
    check_size((raw.sizes.width, raw.sizes.height), name)
    return Image.fromarray(raw.postprocess(half_size=True, use_camera_wb=True))


def _directory(file: BinaryIO) -> Any:
    """Return the first directory of a TIFF file; empty where it is damaged."""
    try:
        file.seek(0)
        exif = Image.Exif()
        exif.load_from_fp(file)
        return dict(exif)
    except Exception:
        return {}


def _facts(file: BinaryIO) -> dict[str, Any]:
    """Return what a RAW file says of how it was taken; nothing where it is written in other ways.

    Most are a TIFF file, some with a first word of their own; in CR3 three of them are in boxes.
    """
    file.seek(0)
    head = file.read(_HEAD)
    try:
        if head[4:12] == b"ftypcrx ":
            boxes = (_box(head, kind) for kind in (b"CMT1", b"CMT2", b"CMT4"))
            return facts_of(*(_directory(BytesIO(box)) for box in boxes))
        if head.startswith(_TIFF):
            file.seek(0)
            return of_tiff(file)
        return of_tiff(BytesIO((b"MM\0*" if head.startswith(b"MM") else b"II*\0") + head[4:]))
    except Exception:
        return {}


def _box(head: bytes, kind: bytes) -> bytes:
    """Return the content of a box of an ISO file; empty without it."""
    place = head.find(kind)
    if place < 4:
        return b""
    return head[place + 4 : place - 4 + int.from_bytes(head[place - 4 : place], "big")]

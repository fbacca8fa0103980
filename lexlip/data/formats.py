"""Formats of picture files that are read, and the opening of their headers."""

from __future__ import annotations

import logging
import os
import struct
import warnings
from functools import cache
from importlib import import_module
from io import BytesIO
from typing import BinaryIO

from PIL import Image, features

from lexlip.data import limits
from lexlip.data.limits import PictureTooLarge, reason
from lexlip.errors import LexLIPError

# Only formats whose decoders are plain code: some others of Pillow start programs (EPS).
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
READ = "JPEG, PNG, WebP, GIF, BMP, TIFF and AVIF are read"

_PLUGINS = {"JPEG": "Jpeg", "PNG": "Png", "WEBP": "WebP", "GIF": "Gif", "BMP": "Bmp"}
_PLUGINS |= {"TIFF": "Tiff", "AVIF": "Avif"}
_HEIF = (b"ftypheic", b"ftypheix", b"ftyphevc", b"ftypmif1", b"ftypmsf1")
_AVIF = (b"ftypavif", b"ftypavis")


@cache
def formats() -> tuple[str, ...]:
    """Return the formats that are read; AVIF and HEIC, which phones write, if there is a decoder.

    AVIF needs a Pillow that was built with it, HEIC needs pillow-heif.
    """
    found = (*FORMATS, "AVIF") if features.check("avif") else FORMATS
    for name in found:
        import_module(f"PIL.{_PLUGINS[name]}ImagePlugin")
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return found
    register_heif_opener()
    return (*FORMATS, "HEIF", *found[len(FORMATS) :])


def _silence() -> None:
    """Let Pillow warn of nothing: one TIFF of 786 KB wrote 13 MB of warnings into a log.

    A picture that cannot be read is an error with a line of its own.
    """
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    logger = logging.getLogger("PIL")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.CRITICAL)


_silence()
# Scans of a JPEG in a TIFF, which are to have one: libtiff takes 100 by default, 12 s for 64
# million pixels. It reads the variable with each picture.
os.environ.setdefault("LIBTIFF_JPEG_MAX_ALLOWED_SCAN_NUMBER", "20")


def open_bytes(data: bytes, name: str) -> Image.Image:
    """Read the header of a picture from the bytes of its file; see `open_file`."""
    if len(data) > limits.MAX_BYTES:
        raise PictureTooLarge(
            f"{name}: over the limit of {limits.MAX_BYTES // 2**20} MiB: reduce it"
        )
    return open_file(BytesIO(data), name)


def open_file(file: BinaryIO, name: str) -> Image.Image:
    """Read the header of a picture.

    Pillow's own `open` judges a size before it is scaled down, warns on stderr, and has one limit
    for all; the caller judges it here.

    Raises
    ------
    LexLIPError
        For what is not a picture, or damaged; nothing is decoded.
    """
    file.seek(0)
    head = file.read(16)
    for kind in formats():
        factory, accept = Image.OPEN[kind]
        verdict = accept is None or accept(head)
        if not verdict or isinstance(verdict, str):  # a text says why not
            continue
        try:
            file.seek(0)
            return factory(file, "")
        except (SyntaxError, IndexError, TypeError, struct.error):
            continue  # not of this format, says Pillow's convention
        except Exception as error:
            raise LexLIPError(f"{name}: damaged picture ({reason(error)})") from error
    if head[4:12] in _HEIF and "HEIF" not in formats():
        raise LexLIPError(f"{name}: HEIC needs a decoder: pip install pillow-heif")
    if head[4:12] in _AVIF and "AVIF" not in formats():
        raise LexLIPError(f"{name}: AVIF needs a Pillow that was built with it: convert it to JPEG")
    raise LexLIPError(f"{name}: not a picture, or damaged: {READ}")

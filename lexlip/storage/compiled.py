"""Compilation of inner loops by numba, where it is installed.

Importing a module of such loops compiles them (seconds; later imports read numba's cache), so it is
imported when they are first needed. Each has its like in numpy, for installs without numba.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

from lexlip.storage.one_off import is_once, prefers_numpy


def loops(module: str, entries: Callable[[], int] | None = None) -> ModuleType | None:
    """Import a module of compiled loops; None where numpy is to do their work.

    So it is where numba is not installed, and for small work of a process that searches once
    (`lexlip.storage.one_off`).

    Parameters
    ----------
    module : str
        Its full name.
    entries : callable, optional
        Counts the numbers that are added up, where numpy does as well.
    """
    if entries is not None and is_once() and prefers_numpy(entries()):
        return None
    return _imported(module)


@cache
def _imported(module: str) -> ModuleType | None:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "numba":
            raise
        return None


def compiled(
    signature: Any = None, **options: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile without the GIL; cached beside the source, else in the user's cache, else not.

    Parameters
    ----------
    signature
        Of numba; None compiles for what the function is called with.
    **options
        As for `numba.njit`.

    Examples
    --------
    >>> @compiled()
    ... def twice(number):
    ...     return 2 * number
    >>> twice(3)
    6
    """

    from numba import njit

    def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            return njit(signature, nogil=True, cache=True, **options)(function)
        except (RuntimeError, OSError):  # no folder to cache in, or its disk is full
            return njit(signature, nogil=True, **options)(function)

    return wrapped


def array(kind: Any, dimensions: int = 1, readonly: bool = True) -> Any:
    """Return the type of a contiguous array, for a signature."""
    from numba import types

    return types.Array(kind, dimensions, "C", readonly=readonly)

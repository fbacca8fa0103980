"""Compilation of inner loops by numba.

Importing a module of such loops compiles them (seconds; later imports read numba's cache), so it is
imported when they are first needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit, types


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

    def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            return njit(signature, nogil=True, cache=True, **options)(function)
        except (RuntimeError, OSError):  # no folder to cache in, or its disk is full
            return njit(signature, nogil=True, **options)(function)

    return wrapped


def array(kind: Any, dimensions: int = 1, readonly: bool = True) -> types.Array:
    """Return the type of a contiguous array, for a signature."""
    return types.Array(kind, dimensions, "C", readonly=readonly)

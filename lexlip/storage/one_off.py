"""One-off processes, which search once: what is compiled would take longer to load than to do.

Loading numba takes half a second and 100 MB. The command line says that it searches once; small
work is then done by numpy. Servers and programs use compiled loops alone.
"""

from __future__ import annotations

import sys

_ENTRIES = 10_000_000
"""Entries that numpy adds up in the time that numba takes to load."""

_once = False


def search_once(once: bool = True) -> None:
    """Say that this process will search once, and end."""
    global _once
    _once = once


def is_once() -> bool:
    """Return whether this process searches once."""
    return _once


def prefers_numpy(entries: int) -> bool:
    """Return whether numpy should do work of a size that a compiled loop does, too."""
    return _once and entries <= _ENTRIES and "numba" not in sys.modules

"""Memory of decoded pictures: returned to the system when they are, whichever thread decoded."""

from __future__ import annotations

import ctypes
import sys

_THRESHOLD = -3  # M_MMAP_THRESHOLD of <malloc.h>
_BLOCK = 8 * 2**20
"""Bytes. Pillow keeps pictures in blocks of 16 MiB."""


def return_blocks() -> bool:
    """Let the C library return large blocks at once, and say whether it does.

    glibc raises its own threshold to 32 MiB with the first block that is freed. From then on each
    thread keeps what it once had: eight that decoded one picture after the other, 62 megapixels
    each with grey and alpha, left 1.6 GB; so they leave 0.14 GB.
    """
    if sys.platform != "linux":
        return False
    try:
        return bool(ctypes.CDLL(None).mallopt(_THRESHOLD, _BLOCK))
    except (OSError, AttributeError):  # another C library
        return False

"""Folders as people have them: pictures, odd names, links; and a process without root's powers."""

from __future__ import annotations

import ctypes
import os
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

_OVERRIDES = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
_VERSION = 0x20080522


def picture(path, seed, size=24):
    """Save a picture of coarse random colours; no two seeds alike."""
    path = Path(os.fsdecode(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    colours = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    drawn = Image.fromarray(colours).resize((size, size), Image.Resampling.NEAREST)
    with open(path, "wb") as file:
        drawn.save(file, "PNG")
    return path


def pictures(folder, *names, seed=0):
    """Save a picture of each name into a folder, all different."""
    for number, name in enumerate(names):
        picture(Path(folder) / name, seed * 1000 + number)
    return Path(folder)


@contextmanager
def no_powers():
    """Let the mode of files count for this thread, also where tests are run by root."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_VERSION, 0)
    data = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable, twice
    assert libc.capget(header, data) == 0
    had = data[0]
    data[0] = had & ~_OVERRIDES
    assert libc.capset(header, data) == 0
    try:
        yield
    finally:
        data[0] = had
        assert libc.capset(header, data) == 0


@contextmanager
def mode(path, bits):
    """Give a file or folder a mode for a while."""
    had = os.stat(path).st_mode
    os.chmod(path, bits)
    try:
        with no_powers():
            yield
    finally:
        os.chmod(path, had)

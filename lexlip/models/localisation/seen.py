"""The part of a picture that a model sees, and checks of what is asked of it; no torch.

A preprocessor squeezes, crops or does both. It is shown a picture whose colours are its
coordinates, so what is kept can be read from what comes out.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from lexlip.errors import LexLIPError
from lexlip.models.localisation.results import Box

_LONGEST = 512
"""Longest side of the picture of coordinates, in pixels."""


def coordinates(size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return a picture of some proportions whose red is its column and whose green is its row.

    Parameters
    ----------
    size : (int, int)
        Width and height of the picture that it stands for.

    Returns
    -------
    uint8 [height, width, 3]
    """
    shrink = _LONGEST / max(size)
    width, height = (max(1, round(side * shrink)) for side in size)
    ramp = np.zeros((height, width, 3), np.uint8)
    ramp[..., 0] = np.rint((np.arange(width) + 0.5) / width * 255)
    ramp[..., 1] = np.rint((np.arange(height) + 0.5) / height * 255)[:, None]
    return ramp


def box_of(seen: NDArray[np.float64]) -> Box:
    """Return the part of the picture that a preprocessor kept of `coordinates`.

    Parameters
    ----------
    seen : float [3, H, W]
        What came out, as shares 0..1 of the largest colour.
    """
    (left, right), (top, bottom) = ends(seen[0].mean(0)), ends(seen[1].mean(1))
    return left, top, right, bottom


def ends(places: NDArray[np.float64]) -> tuple[float, float]:
    """Return the ends of a row of pixels, from the place that each pixel comes from.

    Resizing blurs the border, so a line is fitted to the middle half.

    Examples
    --------
    >>> [round(end, 3) for end in ends(np.array([0.275, 0.425, 0.575, 0.725]))]
    [0.2, 0.8]
    """
    middle = np.arange(len(places))[len(places) // 4 : max(2, 3 * len(places) // 4)]
    if len(middle) < 2:
        return 0.0, 1.0
    slope, start = np.polyfit(middle + 0.5, places[middle], 1)
    found = np.clip([start, start + slope * len(places)], 0, 1)
    # Colours have 8 bits: within 1/128 of the border is the border.
    first, last = np.where(np.abs(found - np.rint(found)) < 1 / 128, np.rint(found), found)
    return (float(first), float(last)) if first < last else (0.0, 1.0)


def checked_terms(terms: Iterable[int], size: int) -> list[int]:
    """Return term ids of a vocabulary of `size` words as plain ints.

    Raises
    ------
    LexLIPError
        For anything else.
    """
    wanted = list(terms)
    for term in wanted:
        if not isinstance(term, int | np.integer) or not 0 <= term < size:
            raise LexLIPError(f"{term!r} is not a term id: give whole numbers 0 to {size - 1}")
    return [int(term) for term in wanted]

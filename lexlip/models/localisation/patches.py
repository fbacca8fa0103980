"""Patches of a picture that won its words.

A weight is a maximum over positions, so the arg-max of the pooling is exactly the position that
made it: one patch per word, and a map of what all other patches give the word.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from lexlip.data.crops import CORNERS, SIDE, check_crops, crop
from lexlip.data.images import read_image
from lexlip.errors import LexLIPError
from lexlip.models.localisation.results import Box, Provenance
from lexlip.models.pooling import log_saturate

if TYPE_CHECKING:
    from PIL import Image

    from lexlip.models.lexlip import LexLIP

_RAMP = 512
"""Longest side of the test picture that shows what a preprocessor keeps, in pixels."""


@torch.no_grad()
def provenance(model: LexLIP, picture: Any, terms: Iterable[int], crops: int = 0) -> Provenance:
    """Find the patch that won each word of a picture, and the weights of the other patches.

    The winners are those of the model's own pooling; only the logits of `terms` are computed
    again, for the map.

    Parameters
    ----------
    model : LexLIP
    picture : path, bytes, PIL image or array
    terms : iterable of int
        Term ids, as `Index.query` gives them.
    crops : int
        Corners that were encoded with the whole (`lexlip.data.crops`): their patches are laid over
        those of the whole picture.

    Raises
    ------
    LexLIPError
        For a picture that cannot be read, and a number that is not a term id.
    """
    upright, wanted = read_image(picture, None, model.image_side), checked_terms(model, terms)
    found = _of_crop(model, upright, wanted)
    for corner in CORNERS[: check_crops(crops)]:
        found = _lay_over(found, _of_crop(model, crop(upright, corner), wanted), corner)
    return found


def _of_crop(model: LexLIP, upright: Image.Image, wanted: list[int]) -> Provenance:
    hidden = model.vision(model.vision.features(model.pixels([upright])))
    head = model.image_head
    pooled, winner = head.pool(hidden)
    weights = log_saturate(pooled)[0].cpu().numpy()
    grid, box = layout(model, upright.size, hidden.shape[1])
    known = {t: int(c) for t in wanted if (c := model.lexicon.compact[t]) >= 0}
    columns = torch.tensor(list(known.values()), dtype=torch.int64, device=hidden.device)
    logits = head.transformed(hidden)[0] @ head.words[columns].T + head.bias[columns]
    maps = log_saturate(logits).T.reshape(-1, *grid).float().cpu().numpy()
    heat = dict(zip(known, maps, strict=True))
    won = {t: int(winner[0, column]) for t, column in known.items() if weights[column] > 0}
    nothing = np.zeros(grid, np.float32)
    return Provenance(
        grid, {t: won.get(t, -1) for t in wanted}, {t: heat.get(t, nothing) for t in wanted}, box
    )


def _lay_over(whole: Provenance, corner: Provenance, place: tuple[int, int]) -> Provenance:
    """Lay the heat of a corner over the whole: each patch goes to the cell that has its middle."""
    (height, width), (high, wide), (across, down) = whole.grid, corner.grid, place
    rows = _cells(whole.box[1::2], height, corner.box[1::2], high, down)
    columns = _cells(whole.box[::2], width, corner.box[::2], wide, across)
    cells = (rows[:, None] * width + columns).ravel()
    heat = {term: seen.copy() for term, seen in whole.heat.items()}
    for term, seen in corner.heat.items():
        np.maximum.at(heat[term].reshape(-1), cells, seen.ravel())
    patches = {term: int(seen.argmax()) if seen.max() > 0 else -1 for term, seen in heat.items()}
    return Provenance(whole.grid, patches, heat, whole.box)


def _cells(
    whole: Sequence[float], count: int, corner: Sequence[float], own: int, far: int
) -> NDArray[np.int64]:
    """Return the cells of the whole, of `count`, that have the middles of a corner's `own` cells.

    Along one axis; `whole` and `corner` are the ends of the cells, as shares of the picture and of
    the part that was cut out of it; `far` is 1 for a corner at the far end.

    Examples
    --------
    >>> _cells((0, 1), 7, (0, 1), 7, 1).tolist()
    [1, 2, 3, 4, 5, 5, 6]
    """
    middle = corner[0] + (np.arange(own) + 0.5) / own * (corner[1] - corner[0])
    share = (far * (1 - SIDE) + SIDE * middle - whole[0]) / (whole[1] - whole[0])
    return np.clip(np.floor(share * count).astype(np.int64), 0, count - 1)


def layout(model: LexLIP, size: tuple[int, int], patches: int) -> tuple[tuple[int, int], Box]:
    """Return the grid of a picture's patches, and the part of the picture that it covers.

    The preprocessor gets a picture whose colours are its coordinates. So this holds for any
    preprocessor, whether it squeezes, crops or does both.

    Parameters
    ----------
    model : LexLIP
    size : (int, int)
        Width and height of the upright picture in pixels.
    patches : int

    Returns
    -------
    (int, int)
        Rows and columns.
    Box
        See `Provenance.box`.
    """
    assert model.processor is not None
    shrink = _RAMP / max(size)
    width, height = (max(1, round(side * shrink)) for side in size)
    ramp = np.zeros((height, width, 3), np.uint8)
    ramp[..., 0] = np.rint((np.arange(width) + 0.5) / width * 255)
    ramp[..., 1] = np.rint((np.arange(height) + 0.5) / height * 255)[:, None]
    seen = model.processor.resize([ramp])[0] / 255
    left, right = _ends(seen[0].mean(0))
    top, bottom = _ends(seen[1].mean(1))
    if model.vision.grid:
        rows = columns = model.vision.grid
    else:
        rows = max(1, round(math.sqrt(patches * seen.shape[1] / seen.shape[2])))
        columns = patches // rows
    if rows * columns != patches:  # order unknown: one row
        rows, columns = 1, patches
    return (rows, columns), (left, top, right, bottom)


def _ends(places: NDArray[np.float64]) -> tuple[float, float]:
    """Return the ends of a row of pixels, from the place that each pixel comes from.

    Resizing blurs the border, so a line is fitted to the middle half.
    """
    middle = np.arange(len(places))[len(places) // 4 : max(2, 3 * len(places) // 4)]
    if len(middle) < 2:
        return 0.0, 1.0
    slope, start = np.polyfit(middle + 0.5, places[middle], 1)
    ends = np.clip([start, start + slope * len(places)], 0, 1)
    # Colours have 8 bits: within 1/128 of the border is the border.
    first, last = np.where(np.abs(ends - np.rint(ends)) < 1 / 128, np.rint(ends), ends)
    return (float(first), float(last)) if first < last else (0.0, 1.0)


def checked_terms(model: LexLIP, terms: Iterable[int]) -> list[int]:
    """Return term ids as plain ints; an error for anything else."""
    wanted, size = list(terms), len(model.lexicon.tokens)
    for term in wanted:
        if not isinstance(term, int | np.integer) or not 0 <= term < size:
            raise LexLIPError(f"{term!r} is not a term id: give whole numbers 0 to {size - 1}")
    return [int(term) for term in wanted]

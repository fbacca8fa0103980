"""Patches of a picture that won its words.

A weight is a maximum over positions, so the arg-max of the pooling is exactly the position that
made it: one patch per word, and a map of what all other patches give the word.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lexlip.data.crops import CORNERS, SIDE, check_crops, crop
from lexlip.data.images import read_image
from lexlip.models.localisation.base import Pools, saturated
from lexlip.models.localisation.results import Box, Provenance
from lexlip.models.localisation.seen import box_of, checked_terms, coordinates

if TYPE_CHECKING:
    from PIL import Image


def provenance(model: Pools, picture: Any, terms: Iterable[int], crops: int = 0) -> Provenance:
    """Find the patch that won each word of a picture, and the weights of the other patches.

    The winners are those of the model's own pooling.

    Parameters
    ----------
    model : Pools
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
    upright = read_image(picture, None, model.image_side)
    wanted = checked_terms(terms, len(model.lexicon.tokens))
    found = _of_crop(model, upright, wanted)
    for corner in CORNERS[: check_crops(crops)]:
        found = _lay_over(found, _of_crop(model, crop(upright, corner), wanted), corner)
    return found


def _of_crop(model: Pools, upright: Image.Image, wanted: list[int]) -> Provenance:
    pooled, winner, logits = model.pool_picture(upright)
    grid, box = layout(model, upright.size, len(logits))
    known = {t: int(c) for t in wanted if (c := model.lexicon.compact[t]) >= 0}
    maps = saturated(logits[:, list(known.values())]).T.reshape(-1, *grid)
    heat = dict(zip(known, maps, strict=True))
    won = {t: int(winner[column]) for t, column in known.items() if pooled[column] > 0}
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


def layout(model: Pools, size: tuple[int, int], patches: int) -> tuple[tuple[int, int], Box]:
    """Return the grid of a picture's patches, and the part of the picture that it covers.

    Parameters
    ----------
    model : Pools
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
    seen = model.seen(coordinates(size)) / 255
    if model.patch_grid:
        rows = columns = model.patch_grid
    else:
        rows = max(1, round(math.sqrt(patches * seen.shape[1] / seen.shape[2])))
        columns = patches // rows
    if rows * columns != patches:  # order unknown: one row
        rows, columns = 1, patches
    return (rows, columns), box_of(seen)

"""Occlusion: the pixels that a word needs, found by hiding one patch after another.

The patch that won a word (`lexlip.models.localisation.patches`) is the position that made its
weight. That position has seen more than its own pixels: a convolutional trunk as far as its kernels
reach, a transformer everything. Occlusion finds the pixels that it needed (Zeiler and Fergus,
Visualizing and Understanding Convolutional Networks, 2014), at one pass of the model per patch.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexlip.data.images import read_image
from lexlip.models.localisation.base import Pools, saturated
from lexlip.models.localisation.patches import layout
from lexlip.models.localisation.results import cell
from lexlip.models.localisation.seen import checked_terms


def occlusion(
    model: Pools, picture: Any, terms: Iterable[int], batch_size: int = 32
) -> dict[int, NDArray[np.float32]]:
    """Measure how much of a word's weight is lost when a patch is hidden.

    A hidden patch has the median colour of the picture.

    Parameters
    ----------
    model : Pools
    picture : path, bytes, PIL image or array
    terms : iterable of int
        Term ids.
    batch_size : int
        Pictures per pass of the model.

    Returns
    -------
    dict of int to float32 [rows, columns]
        Term id -> weight that is lost, 0 or more; on the grid of `Provenance`.

    Raises
    ------
    LexLIPError
        For a picture that cannot be read, and a number that is not a term id.
    """
    upright = read_image(picture, None, model.image_side)
    wanted = checked_terms(terms, len(model.lexicon.tokens))
    pixels = model.pixel_values([upright])
    pooled, _, logits = model.pool_picture(upright)
    grid = layout(model, upright.size, len(logits))[0]
    middle = (pixels[0, 0].size - 1) // 2
    median = np.partition(pixels[0].reshape(3, -1), middle, axis=1)[:, middle, None, None]
    lost = []
    for start in range(0, len(logits), batch_size):
        patches = range(start, min(start + batch_size, len(logits)))
        hidden = np.repeat(pixels, len(patches), axis=0)
        for row, patch in enumerate(patches):
            left, top, right, bottom = cell((pixels.shape[3], pixels.shape[2]), grid, patch)
            hidden[row, :, top:bottom, left:right] = median
        lost.append(np.maximum(saturated(pooled) - model.weights_of_pixels(hidden), 0))
    maps = np.concatenate(lost).T.reshape(-1, *grid)
    column, nothing = model.lexicon.compact, np.zeros(grid, np.float32)
    return {t: maps[column[t]] if column[t] >= 0 else nothing for t in wanted}

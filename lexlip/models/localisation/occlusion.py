"""Occlusion: the pixels that a word needs, found by hiding one patch after another.

The patch that won a word (`lexlip.models.localisation.patches`) is the position that made its
weight. That position has seen more than its own pixels: a convolutional trunk as far as its kernels
reach, a transformer everything. Occlusion finds the pixels that it needed (Zeiler and Fergus,
Visualizing and Understanding Convolutional Networks, 2014), at one pass of the model per patch.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from lexlip.data.images import read_image
from lexlip.models.localisation.patches import layout
from lexlip.models.localisation.results import cell
from lexlip.models.localisation.seen import checked_terms
from lexlip.models.pooling import log_saturate

if TYPE_CHECKING:
    from lexlip.models.lexlip import LexLIP


@torch.no_grad()
def occlusion(
    model: LexLIP, picture: Any, terms: Iterable[int], batch_size: int = 32
) -> dict[int, NDArray[np.float32]]:
    """Measure how much of a word's weight is lost when a patch is hidden.

    A hidden patch has the median colour of the picture.

    Parameters
    ----------
    model : LexLIP
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
    pixels = model.pixels([upright])
    features = model.vision.features(pixels)
    count = features.shape[1] - 1
    grid = layout(model, upright.size, count)[0]
    whole = log_saturate(model.pool_image(features)[0])[0]
    median = pixels[0].flatten(1).median(1).values[:, None, None]
    lost = []
    for start in range(0, count, batch_size):
        patches = range(start, min(start + batch_size, count))
        hidden = pixels.repeat(len(patches), 1, 1, 1)
        for row, patch in enumerate(patches):
            left, top, right, bottom = cell((pixels.shape[3], pixels.shape[2]), grid, patch)
            hidden[row, :, top:bottom, left:right] = median
        weights = log_saturate(model.pool_image(model.vision.features(hidden))[0])
        lost.append(torch.relu(whole - weights))
    maps = torch.cat(lost).T.reshape(-1, *grid).float().cpu().numpy()
    column, nothing = model.lexicon.compact, np.zeros(grid, np.float32)
    return {t: maps[column[t]] if column[t] >= 0 else nothing for t in wanted}

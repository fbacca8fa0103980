"""Alignment of a picture with a text: late interaction, patch by patch (FILIP)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lexlip.data.images import read_image
from lexlip.errors import LexLIPError
from lexlip.models.localisation.patches import layout
from lexlip.models.localisation.results import WordPatches

if TYPE_CHECKING:
    from lexlip.models.lexlip import LexLIP


def align(model: LexLIP, picture: Any, text: str) -> WordPatches:
    """Match each patch of a picture with a word of a text.

    Parameters
    ----------
    model : LexLIP
        With a token for each patch.
    picture : path, bytes, PIL image or array
    text : str

    Raises
    ------
    LexLIPError
        When the model has no such tokens, or the picture cannot be read.
    """
    if not model.aligns:
        raise LexLIPError(
            "this model has no token for each patch: train heads with token_size, and without "
            "token_count (training needs a clone of lexlip)"
        )
    upright = read_image(picture, None, model.image_side)
    seen, said = model.represent_image([upright])[1], model.represent_text([text])[1]
    patches, words = seen.tokens[0, : seen.counts[0]], said.tokens[0, : said.counts[0]]
    numbers, cosines = best_words(patches, words)
    grid, box = layout(model, upright.size, len(patches))
    return WordPatches(_pieces(model, text), numbers.reshape(grid), cosines.reshape(grid), box)


def best_words(
    patches: NDArray[np.float32], words: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Find the word that each patch matches best.

    Parameters
    ----------
    patches : float32 [P, d]
        Unit vectors.
    words : float32 [m, d]
        Unit vectors.

    Returns
    -------
    int64 [P]
        Numbers of the words; -1 where there is no word.
    float32 [P]
        Cosines; -1 where there is no word.

    Examples
    --------
    >>> words = np.eye(3, dtype=np.float32)
    >>> best_words(words[[2, 2, 0]], words)[0].tolist()
    [2, 2, 0]
    """
    if not len(words):
        return np.full(len(patches), -1, np.int64), np.full(len(patches), -1, np.float32)
    cosines = patches @ words.T
    return cosines.argmax(1), cosines.max(1)


def _pieces(model: LexLIP, text: str) -> tuple[str, ...]:
    """The word pieces of a text that take part, in the order of its tokens."""
    ids: list[int] = []
    for part in model.windows(text).parts:
        tokens = model.tokens([part])
        ids += tokens["input_ids"][model.text.positions(**tokens)].tolist()
    return tuple(model.tokenizer.convert_ids_to_tokens(ids))

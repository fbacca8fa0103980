"""Late interaction: every word meets every patch, and the best meeting counts.

FILIP (Yao et al., ICLR 2022). Means are over tokens, not sums as in ColBERT, so that
pictures and texts of any length can be compared. Padding takes no part: neither in a mean, nor,
at cosine 0, as the best match of a token whose own cosines are negative.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lexlip.errors import LexLIPError
from lexlip.rerank.pairs import both, mean_of, pairwise, penalty, tokens_of

NOTHING = -1.0
"""Score of a pair in which a side has no token: the lowest that a mean of cosines can be."""


def late_interaction(
    image: Tensor, image_mask: Tensor, text: Tensor, text_mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Compare all pictures with all texts, token by token.

    Parameters
    ----------
    image : Tensor [Bi, P, d]
        Unit vectors of patches.
    image_mask : bool Tensor [Bi, P]
        True at the patches that take part.
    text : Tensor [Bt, m, d]
        Unit vectors of words.
    text_mask : bool Tensor [Bt, m]
        True at the words that take part.

    Returns
    -------
    i2t : Tensor [Bi, Bt]
        Mean over patches of each one's cosine with its best word.
    t2i : Tensor [Bi, Bt]
        Mean over words of each one's cosine with its best patch.

    Notes
    -----
    -1..1, and at least float32. A pair in which a side has no token scores -1 and gives no
    gradient. Of a maximum the gradient reaches one token. The cosines of all pairs are never held
    at once.

    Examples
    --------
    >>> image = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]])
    >>> text = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    >>> i2t, t2i = late_interaction(
    ...     image, torch.tensor([[True, True]]), text, torch.tensor([[True, False]])
    ... )
    >>> i2t.item(), t2i.item()
    (0.0, 1.0)
    """
    left, right = tokens_of(image, image_mask), tokens_of(text, text_mask)
    size = left[0].shape[1] * right[0].shape[1]
    i2t, t2i = pairwise(_late, left, right, size)
    return i2t, t2i


def _late(image: Tensor, image_mask: Tensor, text: Tensor, text_mask: Tensor) -> Tensor:
    """Both similarities [2, i, j] of a tile."""
    cosines = image.flatten(0, 1) @ text.flatten(0, 1).T
    cosines = cosines.view(*image_mask.shape, *text_mask.shape)  # [i, P, j, m]
    of_words, of_patches = (penalty(mask, cosines.dtype) for mask in (text_mask, image_mask))
    patches = (cosines + of_words).max(3).values
    words = (cosines + of_patches[:, :, None, None]).max(1).values
    i2t = mean_of(patches, image_mask.unsqueeze(-1), 1)
    t2i = mean_of(words, text_mask, 2)
    return torch.where(both(image_mask, text_mask), torch.stack([i2t, t2i]), NOTHING)


def template_ensemble(
    image: Tensor, image_mask: Tensor, text: Tensor, text_mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Compare pictures with labels that are said in T ways ("a photo of a {}", "a small {}").

    The similarities are averaged over the templates: tokens of different sentences do not stand
    at the same places, so their vectors must not be averaged.

    Parameters
    ----------
    image, image_mask
        As in `late_interaction`.
    text : Tensor [T, Bt, m, d]
        Unit vectors of the words of each label in each template.
    text_mask : bool Tensor [T, Bt, m]

    Returns
    -------
    i2t, t2i : Tensor [Bi, Bt]

    Raises
    ------
    LexLIPError
        When there is no template.
    """
    if not len(text):
        raise LexLIPError("no prompt template: give at least one")
    scores = late_interaction(image, image_mask, text.flatten(0, 1), text_mask.flatten(0, 1))
    i2t, t2i = (score.unflatten(1, text.shape[:2]).mean(1) for score in scores)
    return i2t, t2i


class Alignment(NamedTuple):
    """What each of P patches matches best."""

    words: Tensor
    """int64 [P]: the word's number, -1 where there is no word."""

    cosines: Tensor
    """[P]: the cosine with it, -1 where there is no word."""


def alignment(image: Tensor, text: Tensor) -> Alignment:
    """Match each patch of a picture with a word: FILIP's word-patch picture.

    A patch shows a label when its word is one of the label's tokens. Patch k lies in row k // W
    and column k % W of a grid W patches wide.

    Parameters
    ----------
    image : Tensor [P, d]
        Unit vectors of patches.
    text : Tensor [m, d]
        Unit vectors of all words of the text.

    Examples
    --------
    >>> words = torch.eye(3)
    >>> alignment(words[[2, 2, 0]], words).words.tolist()
    [2, 2, 0]
    """
    if not len(text):
        nothing = image.new_full((len(image),), NOTHING)
        return Alignment(torch.full_like(nothing, -1, dtype=torch.int64), nothing)
    best = (image @ text.T).max(1)
    return Alignment(best.indices, best.values)

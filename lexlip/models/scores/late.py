"""Late interaction: every word meets every patch, and the best meeting counts.

FILIP (Yao et al., ICLR 2022). Means are over tokens, not sums as in ColBERT, so that
pictures and texts of any length can be compared. Padding takes no part: neither in a mean, nor,
at cosine 0, as the best match of a token whose own cosines are negative.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lexlip.models.scores.pairs import both, mean_of, pairwise, penalty, tokens_of

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

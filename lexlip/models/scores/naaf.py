"""Words that a picture lacks count against it: NAAF, and SCAN, on whose attention it builds.

NAAF: Zhang et al., CVPR 2022. SCAN: Lee et al., ECCV 2018. Both look at the cosines of all words
and regions (here: patches), n of them a picture. Words are a text's own, without begin and end
marks.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr
from torch import Tensor
from torch.nn.functional import leaky_relu

from lexlip.errors import LexLIPError
from lexlip.models.scores.pairs import both, mean_of, pairwise, penalty, tokens_of

_EPSILON = 1e-8  # norms below it are not divided by
_NOTHING = -1.0  # SCAN's score of a pair in which a side has no token, as in `late`


def threshold_cost(
    t: ArrayLike,
    mu_pos: ArrayLike,
    sigma_pos: ArrayLike,
    mu_neg: ArrayLike,
    sigma_neg: ArrayLike,
    alpha: ArrayLike = 2.0,
) -> NDArray[np.float64]:
    """Cost of calling words with a best cosine below `t` absent.

    ``F(t) = alpha * P(absent word > t) + P(present word < t)``, where the best cosines of present
    and absent words are normal, with `mu_pos`, `sigma_pos` and `mu_neg`, `sigma_neg`.

    Examples
    --------
    >>> round(float(threshold_cost(0.425, 0.6, 0.1, 0.25, 0.1, alpha=1)), 6)
    0.080118
    """
    t, mu_pos, sigma_pos, mu_neg, sigma_neg = map(
        np.asarray, (t, mu_pos, sigma_pos, mu_neg, sigma_neg)
    )
    missed = ndtr((t - mu_pos) / sigma_pos)
    return np.asarray(alpha) * ndtr((mu_neg - t) / sigma_neg) + missed


def optimal_threshold(
    mu_pos: ArrayLike,
    sigma_pos: ArrayLike,
    mu_neg: ArrayLike,
    sigma_neg: ArrayLike,
    alpha: ArrayLike = 2.0,
) -> NDArray[np.float64]:
    """Find the threshold t >= 0 of least `threshold_cost`.

    The cost has one local minimum at most, where ``density_pos = alpha * density_neg``: a root of
    a quadratic. The NAAF paper takes it wherever it exists. Here its cost is compared
    with those of t = 0 and of t = inf, one of which can be better when the deviations differ.

    Parameters
    ----------
    mu_pos, sigma_pos : float or array
        Mean and standard deviation (> 0) of the best cosines of words that the picture shows.
    mu_neg, sigma_neg : float or array
        The same of words that it does not show.
    alpha : float or array
        How much worse it is to take an absent word for present than the reverse.

    Returns
    -------
    float64 array, of the broadcast shape
        inf where no threshold is better than calling every word absent: keep the one you had.

    Raises
    ------
    LexLIPError
        When a standard deviation or `alpha` is not positive.

    Examples
    --------
    >>> round(float(optimal_threshold(0.6, 0.12, 0.25, 0.08)), 6)
    0.419124
    >>> round(float(optimal_threshold(0.6, 0.1, 0.25, 0.1, alpha=1)), 6)  # the middle
    0.425
    """
    given = np.broadcast_arrays(mu_pos, sigma_pos, mu_neg, sigma_neg, alpha)
    mp, sp, mn, sn, alpha = (np.asarray(array, np.float64) for array in given)
    if not (np.all(sp > 0) and np.all(sn > 0) and np.all(alpha > 0)):
        raise LexLIPError("standard deviations and alpha must be positive: is there enough data?")
    # The sign of a t^2 + b t + c is that of the cost's slope.
    a = sp**2 - sn**2
    b = 2 * (mp * sn**2 - mn * sp**2)
    c = (sp * mn) ** 2 - (sn * mp) ** 2 + 2 * (sp * sn) ** 2 * np.log(sn / (alpha * sp))
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.sqrt(b**2 - 4 * a * c)
        # The root with a rising slope, in the form that adds numbers of one sign; a may be 0.
        inner = np.where(b >= 0, -2 * c / (b + root), (root - b) / (2 * a))
    inner = np.where(np.isfinite(inner), np.maximum(inner, 0), 0)
    candidates = np.stack([inner, np.zeros_like(inner), np.full_like(inner, np.inf)])
    costs = threshold_cost(candidates, mp, sp, mn, sn, alpha)
    return np.take_along_axis(candidates, costs.argmin(0)[None], 0)[0]


def _cosines(image: Tensor, text: Tensor) -> Tensor:
    """Cosines of all words with all regions, [i, j, m, n]."""
    return torch.einsum("ind,jmd->ijmn", image, text)


def _attention(cosines: Tensor, regions: Tensor, sharpness: float) -> Tensor:
    """SCAN's attention of each word to the regions, [i, j, m, n]."""
    heard = leaky_relu(cosines, 0.1)  # of masked words zero, so they add nothing to the norms
    norms = torch.linalg.vector_norm(heard, dim=2, keepdim=True).clamp(min=_EPSILON)
    low = penalty(regions, cosines.dtype)[:, None, None]
    return torch.softmax(sharpness * heard / norms + low, dim=-1)


def _attended(weights: Tensor, cosines: Tensor, image: Tensor) -> Tensor:
    """Cosine of each word with its weighted mean of regions, [i, j, m]; 0 where that is zero.

    The mean itself, d numbers a word, is not needed: its product with the word is a weighted mean
    of cosines, its squared norm a sum over the regions' products with each other.
    """
    products = image @ image.transpose(1, 2)
    squares = ((weights @ products[:, None]) * weights).sum(-1)
    norms = squares.clamp(min=_EPSILON**2).sqrt()
    return ((weights * cosines).sum(-1) / norms).clamp(-1, 1)


def scan(
    image: Tensor,
    image_mask: Tensor,
    text: Tensor,
    text_mask: Tensor,
    direction: Literal["t2i", "i2t"] = "t2i",
    pool: Literal["avg", "lse"] = "avg",
    sharpness: float | None = None,
    lse: float | None = None,
) -> Tensor:
    """Compare all pictures with all texts by stacked cross attention.

    Each word is compared with the mean of the regions that it attends to ("t2i"), or each region
    with the mean of the words that it attends to ("i2t").

    Parameters
    ----------
    image, text : Tensor [Bi, n, d], [Bt, m, d]
        Unit vectors of regions and words.
    image_mask, text_mask : bool Tensor [Bi, n], [Bt, m]
        True at tokens that take part.
    direction : "t2i" or "i2t"
        Who attends.
    pool : "avg" or "lse"
        The mean of the cosines, or ``log(sum(exp(lse * cosine))) / lse``.
    sharpness : float
        Inverse temperature of the attention; 9 for "t2i", 4 for "i2t" unless given.
    lse : float
        Of the pooling; 6 for "t2i", 5 for "i2t" unless given (20 on COCO).

    Returns
    -------
    Tensor [Bi, Bt]
        A pair in which a side has no token scores -1 and gives no gradient.

    Raises
    ------
    LexLIPError
        Another direction or pooling.

    Examples
    --------
    >>> seen, mask = torch.eye(3)[None, :2], torch.ones(1, 2, dtype=torch.bool)
    >>> said = torch.eye(3)[None, [0, 2]]
    >>> scan(seen, mask, seen, mask).item() > scan(seen, mask, said, mask).item()
    True
    """
    if direction not in ("t2i", "i2t") or pool not in ("avg", "lse"):
        raise LexLIPError(f"no scan {direction!r}, {pool!r}: use t2i or i2t, and avg or lse")
    if direction == "i2t":
        others = (sharpness or 4.0, lse or 5.0)
        return scan(text, text_mask, image, image_mask, "t2i", pool, *others).T
    sharpness, lse = sharpness or 9.0, lse or 6.0
    left, right = tokens_of(image, image_mask), tokens_of(text, text_mask)

    def tile(image: Tensor, regions: Tensor, text: Tensor, words: Tensor) -> Tensor:
        cosines = _cosines(image, text)
        attended = _attended(_attention(cosines, regions, sharpness), cosines, image)
        if pool == "avg":
            scores = mean_of(attended, words, -1)
        else:
            low = penalty(words, attended.dtype)
            scores = torch.logsumexp(lse * attended + low, -1) / lse
        return torch.where(both(regions, words), scores, _NOTHING)

    return pairwise(tile, left, right, left[0].shape[1] * right[0].shape[1])


def naaf(
    image: Tensor,
    image_mask: Tensor,
    text: Tensor,
    text_mask: Tensor,
    threshold: float,
    propagate: bool = False,
    sharpness: float = 20.0,
    intra: float = 5.0,
) -> Tensor:
    """Compare all pictures with all texts; words that are absent lower the score.

    The mean over words of three parts: the best cosine minus the threshold
    where that is negative; the cosine with the mean of the regions above the threshold; and the
    mean cosine under SCAN's attention.

    Parameters
    ----------
    image, text : Tensor [Bi, n, d], [Bt, m, d]
        Unit vectors of regions and words.
    image_mask, text_mask : bool Tensor [Bi, n], [Bt, m]
        True at tokens that take part.
    threshold : float
        Best cosine below which a word is absent: `optimal_threshold` for training;
        ``mu_pos - 3 * sigma_pos``, which is surer, for search.
    propagate : bool
        False in training: a word is judged by itself. True for search: it is absent when the mean
        over the words, weighted by how similar they are to it, is below the threshold.
    sharpness : float
        Inverse temperature of the attention to regions.
    intra : float
        Inverse temperature of the similarities between words.

    Returns
    -------
    Tensor [Bi, Bt]
        A pair in which a side has no token scores ``-2 - threshold``, what words opposite to all
        regions would get, so nothing scores less; it gives no gradient.

    Raises
    ------
    LexLIPError
        When the threshold is not finite.

    Examples
    --------
    >>> seen, mask = torch.eye(3)[None, :2], torch.ones(1, 2, dtype=torch.bool)
    >>> said = torch.eye(3)[None, [0, 2]]
    >>> naaf(seen, mask, said, mask, 0.3) < naaf(seen, mask, seen, mask, 0.3)
    tensor([[True]])
    """
    if not math.isfinite(threshold):
        raise LexLIPError(f"the threshold is {threshold}: give a cosine, such as 0.3")
    left, right = tokens_of(image, image_mask), tokens_of(text, text_mask)

    def tile(image: Tensor, regions: Tensor, text: Tensor, words: Tensor) -> Tensor:
        cosines = _cosines(image, text)
        low = penalty(regions, cosines.dtype)[:, None, None]
        best = (cosines + low).max(-1).values - threshold  # [i, j, m]
        judged = _propagated(best, text, words, intra) if propagate else best
        negative = torch.where(judged < 0, best, 0)
        above = (cosines > threshold) & regions[:, None, None]
        shares = torch.softmax(sharpness * cosines + penalty(above, cosines.dtype), -1)
        positive = _attended(shares * above, cosines, image)
        relevance = (_attention(cosines, regions, sharpness) * cosines).sum(-1)
        scores = mean_of(negative + positive + relevance, words, -1)
        return torch.where(both(regions, words), scores, -2.0 - threshold)

    return pairwise(tile, left, right, left[0].shape[1] * right[0].shape[1])


def _propagated(best: Tensor, text: Tensor, words: Tensor, intra: float) -> Tensor:
    """Mean of `best` [i, j, m] over the words of each text, by their likeness to each word."""
    likeness = intra * (text @ text.transpose(1, 2)) + penalty(words, text.dtype)[:, None]
    return torch.einsum("jml,ijl->ijm", torch.softmax(likeness, -1), best)

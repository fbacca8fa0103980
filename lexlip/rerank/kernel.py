"""Late interaction with codes, and half precision: by compiled loops, or by numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lexlip.storage.compiled import loops

_NOTHING = np.float32(-1)  # score of a pair in which a side has no token
_LOOPS = "lexlip.rerank.loops"


def late_scores(
    codes: NDArray[np.int8], scales: ArrayLike, counts: ArrayLike, query: ArrayLike
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Score K candidates against one query: `lexlip.models.scores.late` on ``code * scale``.

    Parameters
    ----------
    codes : int8 [K, P, d]
        Codes of the candidates' patches, a candidate's own ones first.
    scales : float32 [K] or [K, P]
        What one step of a code is worth, per candidate or per patch.
    counts : int32 [K]
        How many patches each candidate has, 0..P.
    query : float32 [m, d]
        Unit vectors of the query's words.

    Returns
    -------
    t2i : float32 [K]
        Mean over words of each one's cosine with its best patch.
    i2t : float32 [K]
        Mean over patches of each one's cosine with its best word.

    Both are -1 for a candidate without patches, and for a query without words.

    Raises
    ------
    ValueError
        When shapes or counts do not fit.

    Notes
    -----
    With a picture as the query and captions as candidates the roles change: the first result is
    then the mean over the picture's patches, the second that over a caption's words.

    Examples
    --------
    >>> codes = np.array([[[100, 0], [-100, 0]], [[0, 100], [7, 7]]], np.int8)
    >>> t2i, i2t = late_scores(codes, [0.01, 0.01], [2, 1], [[1.0, 0.0]])
    >>> t2i.tolist(), i2t.tolist()
    ([1.0, 0.0], [0.0, 0.0])
    """
    count, positions, d = codes.shape
    scales = np.ascontiguousarray(scales, np.float32)
    scales = scales[:, None] if scales.ndim == 1 else scales
    counts = np.ascontiguousarray(counts, np.int32)
    words = np.ascontiguousarray(query, np.float32)
    t2i, i2t = (np.full(count, _NOTHING) for _ in range(2))
    if scales.shape not in ((count, 1), (count, positions)):
        raise ValueError(f"scales need shape [K] or [K, {positions}]")
    if counts.shape != (count,) or (count and not 0 <= counts.min() <= counts.max() <= positions):
        raise ValueError(f"counts need {count} numbers 0..{positions}")
    if words.ndim != 2 or words.shape[1] != d or codes.dtype != np.int8:
        raise ValueError(f"int8 codes [K, P, d] and a query [m, {d}] are needed")
    m = len(words)
    compiled = loops(_LOOPS)
    if m and count and compiled is not None:
        words = words[np.minimum(np.arange(-(-m // compiled.WORDS) * compiled.WORDS), m - 1)]
        compiled.score(np.ascontiguousarray(codes), scales, counts, words, m, t2i, i2t)
    elif m:
        for k in np.flatnonzero(counts):
            n = counts[k]
            cosines = (codes[k, :n].astype(np.float32) @ words.T) * scales[k, :n, None]
            t2i[k], i2t[k] = cosines.max(axis=0).mean(), cosines.max(axis=1).mean()
    return t2i, i2t


def widened(halves: NDArray[np.float16]) -> NDArray[np.float32]:
    """Half precision to float32, exactly; numpy's own conversion takes ten times as long.

    Examples
    --------
    >>> widened(np.array([[0.5, -2.0]], np.float16)).tolist()
    [[0.5, -2.0]]
    """
    halves = np.ascontiguousarray(halves)
    floats = np.empty(halves.shape, np.float32)
    compiled = loops(_LOOPS)
    if compiled is None or not compiled.shift(
        halves.reshape(-1).view(np.uint16), floats.reshape(-1).view(np.uint32)
    ):
        return halves.astype(np.float32)
    floats *= np.float32(2.0**112)  # the exponents' biases differ by 112
    return floats

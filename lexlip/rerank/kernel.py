"""Loops over K candidates, compiled by numba: late interaction with codes, and half precision.

Importing this module compiles it (seconds; later imports read numba's cache). All run in one
thread. `late_scores` turns codes into float32 two patches at a time and multiplies them with four
words at once: eight sums stay in registers, and no cosine is written to memory. For a dozen words
that takes a third of the time of converting all codes, a BLAS product and two maxima; for 32 it is
still a little faster. An int16 query with integer sums was slower: LLVM does not find the
instruction that adds two products.
"""

from __future__ import annotations

import numpy as np
from numba import types
from numpy.typing import ArrayLike, NDArray

from lexlip.storage.compiled import array, compiled

_NOTHING = np.float32(-1)  # score of a pair in which a side has no token
_WORDS = 4
"""Words that meet a pair of patches at once."""


_SIGNATURE = types.void(
    array(types.int8, 3), array(types.float32, 2), array(types.int32, 1),
    array(types.float32, 2), types.int64,
    *(array(types.float32, 1, readonly=False) for _ in range(2)),
)  # fmt: skip


# Sums may be taken in any order, which is what lets them run in vectors.
@compiled(_SIGNATURE, fastmath={"reassoc", "contract", "nsz"})
def _score(codes, scales, counts, query, m, t2i, i2t):
    """Fill `t2i` and `i2t`.

    `query` has a multiple of four rows, the last of `m` words repeated; `scales` has one column
    or P. Where patches or words run out the last one is repeated: it changes no maximum.
    """
    d = codes.shape[2]
    step = 1 if scales.shape[1] > 1 else 0
    x, y = np.empty(d, np.float32), np.empty(d, np.float32)
    best = np.empty(query.shape[0], np.float32)
    for k in range(codes.shape[0]):
        n = counts[k]
        best[:] = -np.inf
        total = np.float32(0)
        for p in range(0, n, 2):
            o = min(p + 1, n - 1)
            first, second = codes[k, p], codes[k, o]
            for t in range(d):
                x[t] = first[t]
                y[t] = second[t]
            s, z = scales[k, p * step], scales[k, o * step]
            top, peak = np.float32(-np.inf), np.float32(-np.inf)
            for r in range(0, query.shape[0], 4):
                a, b, c, e = query[r], query[r + 1], query[r + 2], query[r + 3]
                xa = xb = xc = xe = ya = yb = yc = ye = np.float32(0)
                for t in range(d):
                    xa += x[t] * a[t]
                    xb += x[t] * b[t]
                    xc += x[t] * c[t]
                    xe += x[t] * e[t]
                    ya += y[t] * a[t]
                    yb += y[t] * b[t]
                    yc += y[t] * c[t]
                    ye += y[t] * e[t]
                xa, xb, xc, xe = xa * s, xb * s, xc * s, xe * s
                ya, yb, yc, ye = ya * z, yb * z, yc * z, ye * z
                top = max(top, max(max(xa, xb), max(xc, xe)))
                peak = max(peak, max(max(ya, yb), max(yc, ye)))
                best[r] = max(best[r], max(xa, ya))
                best[r + 1] = max(best[r + 1], max(xb, yb))
                best[r + 2] = max(best[r + 2], max(xc, yc))
                best[r + 3] = max(best[r + 3], max(xe, ye))
            total += top + (peak if o > p else np.float32(0))
        if n > 0:
            words = np.float32(0)
            for r in range(m):
                words += best[r]
            t2i[k] = words / np.float32(m)
            i2t[k] = total / np.float32(n)


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
    if m and count:
        words = words[np.minimum(np.arange(-(-m // _WORDS) * _WORDS), m - 1)]
        _score(np.ascontiguousarray(codes), scales, counts, words, m, t2i, i2t)
    return t2i, i2t


@compiled(types.boolean(array(types.uint16, 1), array(types.uint32, 1, readonly=False)))
def _shift(halves, words):
    """Move sign, exponent and fraction to their places in float32; False with an inf or NaN."""
    top = np.uint16(0)
    for i in range(halves.size):
        size = np.uint16(halves[i] & np.uint16(0x7FFF))
        top = max(top, size)
        sign = np.uint32(halves[i] & np.uint16(0x8000)) << np.uint32(16)
        words[i] = sign | (np.uint32(size) << np.uint32(13))
    return top < 0x7C00


def widened(halves: NDArray[np.float16]) -> NDArray[np.float32]:
    """Half precision to float32, exactly; numpy's own conversion takes ten times as long.

    Examples
    --------
    >>> widened(np.array([[0.5, -2.0]], np.float16)).tolist()
    [[0.5, -2.0]]
    """
    halves = np.ascontiguousarray(halves)
    floats = np.empty(halves.shape, np.float32)
    if not _shift(halves.reshape(-1).view(np.uint16), floats.reshape(-1).view(np.uint32)):
        return halves.astype(np.float32)
    floats *= np.float32(2.0**112)  # the exponents' biases differ by 112
    return floats

"""Loops over K candidates, compiled by numba: late interaction with codes, and half precision.

All run in one thread. `score` turns codes into float32 two patches at a time and multiplies them
with four words at once: eight sums stay in registers, and no cosine is written to memory. For a
dozen words that takes a third of the time of converting all codes, a BLAS product and two maxima;
for 32 it is still a little faster. An int16 query with integer sums was slower: LLVM does not find
the instruction that adds two products.
"""

from __future__ import annotations

import numpy as np
from numba import types

from lexlip.storage.compiled import array, compiled

WORDS = 4
"""Words that meet a pair of patches at once."""

_SIGNATURE = types.void(
    array(types.int8, 3), array(types.float32, 2), array(types.int32, 1),
    array(types.float32, 2), types.int64,
    *(array(types.float32, 1, readonly=False) for _ in range(2)),
)  # fmt: skip


# Sums may be taken in any order, which is what lets them run in vectors.
@compiled(_SIGNATURE, fastmath={"reassoc", "contract", "nsz"})
def score(codes, scales, counts, query, m, t2i, i2t):
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


@compiled(types.boolean(array(types.uint16, 1), array(types.uint32, 1, readonly=False)))
def shift(halves, words):
    """Move sign, exponent and fraction to their places in float32; False with an inf or NaN."""
    top = np.uint16(0)
    for i in range(halves.size):
        size = np.uint16(halves[i] & np.uint16(0x7FFF))
        top = max(top, size)
        sign = np.uint32(halves[i] & np.uint16(0x8000)) << np.uint32(16)
        words[i] = sign | (np.uint32(size) << np.uint32(13))
    return top < 0x7C00

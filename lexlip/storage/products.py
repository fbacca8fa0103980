"""Products of a query with document vectors in one byte a number, compiled by numba.

Importing this module compiles it (seconds; later imports read numba's cache). Four documents meet
the query at once: their rows lie far apart, so four are waited for together.
"""

from __future__ import annotations

import numpy as np
from numba import types
from numpy.typing import NDArray

from lexlip.storage.compiled import array, compiled

_SIGNATURE = types.void(
    array(types.int8, 2), array(types.int64, 1), array(types.float32, 1),
    array(types.float32, 1, readonly=False),
)  # fmt: skip


# Sums may be taken in any order, which is what lets them run in vectors.
@compiled(_SIGNATURE, fastmath={"reassoc", "contract", "nsz"})
def _multiply(codes, rows, query, out):
    """Fill `out`. The last row is repeated up to a multiple of four: a product depends on its row
    alone, so equal vectors have equal scores, in any engine.
    """
    last = rows.size - 1
    for i in range(0, rows.size, 4):
        a = codes[rows[i]]
        b = codes[rows[min(i + 1, last)]]
        c = codes[rows[min(i + 2, last)]]
        d = codes[rows[min(i + 3, last)]]
        x = y = z = w = np.float32(0)
        for t in range(query.size):
            q = query[t]
            x += np.float32(a[t]) * q
            y += np.float32(b[t]) * q
            z += np.float32(c[t]) * q
            w += np.float32(d[t]) * q
        out[i] = x
        if i + 1 <= last:
            out[i + 1] = y
        if i + 2 <= last:
            out[i + 2] = z
        if i + 3 <= last:
            out[i + 3] = w


def products(
    codes: NDArray[np.int8], rows: NDArray[np.integer], query: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the inner product of a query with some rows of codes.

    Parameters
    ----------
    codes : int8 [N, d]
    rows : integers [n], 0..N-1
    query : float32 [d]

    Returns
    -------
    float32 [n]

    Raises
    ------
    ValueError
        When widths or rows do not fit.

    Examples
    --------
    >>> codes = np.array([[100, 0], [0, 100], [3, 4]], np.int8)
    >>> products(codes, np.array([2, 0]), np.array([0.5, 0.25], np.float32)).tolist()
    [2.5, 50.0]
    """
    places = np.ascontiguousarray(rows, np.int64)
    if query.shape != codes.shape[1:] or codes.dtype != np.int8:
        raise ValueError(f"int8 codes [N, d] and a query [d] are needed, not {query.shape}")
    if places.size and not 0 <= places.min() <= places.max() < len(codes):
        raise ValueError(f"rows must be 0..{len(codes) - 1}")
    out = np.empty(places.size, np.float32)
    _multiply(codes, places, np.ascontiguousarray(query, np.float32), out)
    return out

"""Products of a query with document vectors in one byte a number: compiled loops, or numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lexlip.storage.compiled import loops


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
    query = np.ascontiguousarray(query, np.float32)
    compiled = loops("lexlip.storage.product_loops", lambda: places.size * query.size)
    if compiled is None:
        # Not a matrix product: BLAS may give equal rows different last bits.
        return (codes[places].astype(np.float64) * query).sum(axis=1).astype(np.float32)
    compiled.multiply(codes, places, query, out)
    return out

"""A search in numpy: the same hits in the same order, without numba."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lexlip.engines.postings.layout import DENSE, Table
from lexlip.engines.postings.restore import Arrays, read_terms

_LOW = np.int64(0xFFFFFFFF)


def entries(table: Table, ids: NDArray[np.int32]) -> int:
    """Return how many numbers a search adds up: the postings of its terms, and a sum a document."""
    places = np.searchsorted(table.terms, ids)
    places = places[places < table.terms.size]
    sizes = np.where(table.kinds[places] == DENSE, table.count, table.sizes[places])
    return int(sizes.sum()) + table.count


def search(
    arrays: Arrays,
    table: Table,
    ids: NDArray[np.int32],
    weights: NDArray[np.int32],
    alive: NDArray[np.uint8],
    found: NDArray[np.int32],
    scores: NDArray[np.int32],
) -> int:
    """Fill `found` and `scores` with the best documents and return how many there are.

    Parameters
    ----------
    arrays, table
        Of `lexlip.engines.postings.segment.Segment`.
    ids, weights : int32 [Q]
        The query.
    alive : uint8 [N] or [0]
        Zero for documents not to be found; all are when it is empty.
    found, scores : int32 [k]

    Raises
    ------
    ValueError
        When postings are damaged.
    """
    sums = np.zeros(table.count, np.int32)
    places = np.searchsorted(table.terms, ids)
    for term, place, weight in zip(ids.tolist(), places.tolist(), weights, strict=True):
        if place < table.terms.size and table.terms[place] == term:
            documents, impacts, _ = read_terms(arrays, table, slice(place, place + 1))
            sums[documents] += weight * impacts  # a document once: plain indexing adds it once
    if alive.size:
        sums[alive == 0] = 0
    hits = np.flatnonzero(sums)
    # A key orders by score, then by the smaller document.
    keys = (sums[hits].astype(np.int64) << 32) | (_LOW - hits)
    if keys.size > found.size:
        keys = np.partition(keys, keys.size - found.size)[keys.size - found.size :]
    keys = np.sort(keys)[::-1]
    found[: keys.size] = _LOW - (keys & _LOW)
    scores[: keys.size] = keys >> 32
    return int(keys.size)

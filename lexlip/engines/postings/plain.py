"""Exact search of a segment by numpy: for processes that search once (`lexlip.storage.one_off`)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lexlip.engines.postings.layout import DENSE, Table
from lexlip.engines.postings.restore import Arrays, read_terms


def entries(table: Table, terms: Mapping[int, int]) -> int:
    """Return how many postings a query reads."""
    places, _ = _places(table, terms)
    sizes = np.where(table.kinds[places] == DENSE, table.count, table.sizes[places])
    return int(sizes.sum()) + table.count


def search(
    arrays: Arrays, table: Table, terms: Mapping[int, int], k: int, alive: NDArray[np.uint8]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Find the best `k` documents, as the kernel does.

    Parameters
    ----------
    arrays, table
        Of a segment.
    terms : mapping of int to int
    k : int
    alive : uint8 [N] or [0]
        Documents that may be found; all where it is empty.

    Returns
    -------
    documents, scores : int32 [n]
        By score (largest first), then by number.

    Raises
    ------
    ValueError
        When the arrays contradict each other.
    """
    sums = np.zeros(table.count, np.int32)
    places, weights = _places(table, terms)
    for place, weight in zip(places.tolist(), weights.tolist(), strict=True):
        numbers, impacts, _ = read_terms(arrays, table, slice(place, place + 1))
        sums[numbers] += weight * impacts.astype(np.int32)
    if alive.size:
        sums[alive == 0] = 0
    found = np.flatnonzero(sums > 0)
    if found.size > k:
        least = np.partition(sums[found], found.size - k)[found.size - k]
        found = found[sums[found] >= least]
    order = np.lexsort((found, -sums[found]))[:k]
    chosen = found[order].astype(np.int32)
    return chosen, sums[chosen]


def _places(table: Table, terms: Mapping[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return the places of the terms that a segment has, and their weights."""
    ids = np.fromiter(terms, np.int32, len(terms))
    weights = np.fromiter(terms.values(), np.int32, len(terms))
    at = np.searchsorted(table.terms, ids)
    known = at < table.terms.size
    known[known] = table.terms[at[known]] == ids[known]
    return at[known], weights[known]

"""Postings on disk back to impacts, in vectorised passes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array

from lexlip.engines.postings.layout import BLOCK, BLOCK_BITS, DENSE, LONGEST, RARE, Table

_PIECE = 1 << 22
"""Entries that are worked on at once: a bound on the memory of `restore`."""

Arrays = dict[str, NDArray]


def restore(arrays: Arrays, table: Table, width: int, postings: int) -> csr_array:
    """Return the impacts that a segment was made of, [N, V] int32.

    Raises
    ------
    ValueError
        When the arrays contradict each other.
    """
    numbers, values = np.empty(postings, np.int32), np.empty(postings, np.uint8)
    pointers = np.zeros(width + 1, dtype=np.int64)
    at = 0
    for places in _pieces(table):
        found, impacts, frequency = read_terms(arrays, table, places)
        numbers[at : at + found.size], values[at : at + found.size] = found, impacts
        pointers[table.terms[places] + 1] = frequency
        at += found.size
    if at != postings:
        raise ValueError("postings are missing")
    np.cumsum(pointers, out=pointers)
    matrix = csc_array((values, numbers, pointers), shape=(table.count, width)).tocsr()
    del numbers, values
    return csr_array((matrix.data.astype(np.int32), matrix.indices, matrix.indptr), matrix.shape)


def restore_some(arrays: Arrays, table: Table, width: int, documents: Sequence[int]) -> csr_array:
    """Return the impacts of some documents, all different, in their order: [M, V] int32.

    Raises
    ------
    ValueError
        When the arrays contradict each other.
    """
    row_of = np.full(table.count, -1, dtype=np.int32)
    row_of[documents] = np.arange(len(documents), dtype=np.int32)
    rows, terms, values = [], [], []
    for places in _pieces(table):
        found, impacts, frequency = read_terms(arrays, table, places)
        wanted = row_of[found] >= 0
        rows.append(row_of[found[wanted]])
        terms.append(np.repeat(table.terms[places], frequency)[wanted])
        values.append(impacts[wanted].astype(np.int32))
    if not rows:
        return csr_array((len(documents), width), dtype=np.int32)
    places_of = np.concatenate(rows), np.concatenate(terms)
    shape = (len(documents), width)
    return csr_array((np.concatenate(values), places_of), shape=shape, dtype=np.int32)


def _pieces(table: Table) -> Iterator[slice]:
    """Yield places of terms whose entries are worked on at once."""
    bounds = np.zeros(table.sizes.size + 1, dtype=np.int64)
    np.cumsum(np.where(table.kinds == DENSE, table.count, table.sizes), out=bounds[1:])
    first = 0
    while first < table.terms.size:
        last = int(np.searchsorted(bounds, bounds[first] + _PIECE, "right")) - 1
        yield slice(first, last := max(first + 1, last))
        first = last


def read_terms(
    arrays: Arrays, table: Table, places: slice
) -> tuple[NDArray[np.int32], NDArray[np.uint8], NDArray[np.int64]]:
    """Read the postings of the terms at some places of the table.

    Returns
    -------
    numbers : int32 [n]
        Documents, by term, then ascending.
    impacts : uint8 [n]
    frequency : int64 [terms]
        How many of them each term has.

    Raises
    ------
    ValueError
        When the arrays contradict each other.
    """
    kinds, sizes, starts = table.kinds[places], table.sizes[places], table.starts[places]
    row = slice(table.rows[places.start], table.rows[places.stop])
    term = np.repeat(np.arange(sizes.size, dtype=np.int32), sizes)
    block = _blocks(arrays["directory"][row], sizes, table.blocks)
    frequency = np.zeros(sizes.size, dtype=np.int64)
    found = {}
    for kind in np.unique(kinds).tolist():
        own = np.flatnonzero(kinds == kind)
        span = slice(starts[own[0]], starts[own[-1]] + max(1, sizes[own[-1]]))
        if kind == DENSE:
            rows = arrays["dense"][span]
            place, number = np.nonzero(rows)
            place, impact = own[place], rows[rows > 0]
        else:
            entries = kinds[term] == kind
            if kind == RARE:
                within, impact = arrays["documents"][span], arrays["impacts"][span]
            else:
                steps = arrays["steps"][span]
                within = _within(steps & LONGEST, term[entries], block[entries])
                impact = (steps >> 8).astype(np.uint8)
            there = impact > 0  # bridges are not postings
            place, impact = term[entries][there], impact[there]
            number = ((block[entries] << BLOCK_BITS) + within)[there]
        frequency += np.bincount(place, minlength=sizes.size)
        found[kind] = number, impact
    of_kind = np.repeat(kinds, frequency)
    numbers, impacts = np.empty(of_kind.size, np.int32), np.empty(of_kind.size, np.uint8)
    for kind, (number, impact) in found.items():
        numbers[of_kind == kind], impacts[of_kind == kind] = number, impact
    if numbers.size and numbers.max() >= table.count:  # scipy's conversion trusts its numbers
        raise ValueError("postings beyond the last document")
    return numbers, impacts, frequency


def _within(
    steps: NDArray[np.integer], term: NDArray[np.int32], block: NDArray[np.int32]
) -> NDArray[np.int64]:
    """Add up the steps of each block of each term."""
    new = np.ones(steps.size, dtype=np.bool_)
    new[1:] = (np.diff(term) != 0) | (np.diff(block) != 0)
    total, first = np.cumsum(steps, dtype=np.int64), np.flatnonzero(new)
    within = total - np.repeat((total - steps)[first], np.diff(np.append(first, steps.size)))
    if within.size and within.max() >= BLOCK:
        raise ValueError("steps beyond their block")
    return within


def _blocks(
    directory: NDArray[np.uint16], sizes: NDArray[np.int64], blocks: int
) -> NDArray[np.int32]:
    """Return the block of each entry, given the directory rows of their terms."""
    counted = sizes >= blocks
    of_counted = np.repeat(counted, sizes)
    in_counted = np.repeat(counted, np.where(counted, blocks - 1, sizes))
    counts = np.zeros((int(counted.sum()), blocks), dtype=np.int64)
    counts[:, :-1] = directory[in_counted].reshape(len(counts), blocks - 1)
    counts[:, -1] = sizes[counted] - counts.sum(axis=1)
    found = np.empty(of_counted.size, dtype=np.int32)
    every = np.tile(np.arange(blocks, dtype=np.int32), len(counts))
    found[of_counted] = np.repeat(every, counts.ravel())
    found[~of_counted] = directory[~in_counted]
    return found

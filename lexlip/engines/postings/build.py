"""Impacts to postings on disk, in vectorised passes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array

from lexlip.engines.postings.layout import (
    BLOCK,
    BLOCK_BITS,
    COMMON,
    COMMON_SHARE,
    DENSE,
    DENSE_SHARE,
    DTYPES,
    FORMAT,
    HEADER,
    LONGEST,
    MAX_DOCUMENTS,
    MAX_WIDTH,
    RARE,
    Table,
)
from lexlip.errors import LexLIPError
from lexlip.impacts import MAX_IMPACT
from lexlip.storage.files import reserve, write_json

_PIECE = 1 << 22
"""Postings that are worked on at once: a bound on the memory of `write`."""


def _checked(impacts: csr_array) -> csr_array:
    """Return the impacts as canonical CSR with one byte a posting."""
    matrix = csr_array(impacts)
    if not matrix.has_canonical_format or (matrix.nnz and not matrix.data.all()):
        matrix = matrix.copy()
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
    if matrix.ndim != 2 or not np.issubdtype(matrix.dtype, np.integer):
        raise LexLIPError(
            f"impacts of shape {matrix.shape} and type {matrix.dtype}: a segment needs integers "
            "[N, V], see lexlip.impacts.quantise"
        )
    if matrix.nnz and not (1 <= matrix.data.min() and matrix.data.max() <= MAX_IMPACT):
        raise LexLIPError(
            f"impacts range from {matrix.data.min()} to {matrix.data.max()}: "
            f"they must be 1 to {MAX_IMPACT}"
        )
    if matrix.shape[0] > MAX_DOCUMENTS or matrix.shape[1] > MAX_WIDTH:
        raise LexLIPError(
            f"impacts of shape {matrix.shape}: a segment holds at most {MAX_DOCUMENTS} documents "
            f"over {MAX_WIDTH} terms"
        )
    return csr_array(
        (matrix.data.astype(np.uint8), matrix.indices, matrix.indptr), shape=matrix.shape
    )


@dataclass(frozen=True)
class _Postings:
    """Postings of some terms, by term, then by document."""

    place: NDArray[np.int32]
    """The place of each one's term in the table."""
    number: NDArray[np.integer]
    """Its document."""
    impact: NDArray[np.uint8]

    @property
    def block(self) -> NDArray[np.integer]:
        """The block of each one's document."""
        return self.number >> BLOCK_BITS

    def only(self, chosen: NDArray[np.bool_]) -> _Postings:
        """Return the postings of chosen terms, one truth value for each of the table."""
        kept = chosen[self.place]
        return _Postings(self.place[kept], self.number[kept], self.impact[kept])

    def distances(self) -> NDArray[np.integer]:
        """Return how far each is from the one before it, or from the beginning of its block."""
        distances = self.number & (BLOCK - 1)
        follows = (np.diff(self.place) == 0) & (np.diff(self.block) == 0)
        distances[1:] -= np.where(follows, distances[:-1], 0)
        return distances


def _pieces(columns: csc_array, bounds: NDArray[np.integer]) -> Iterator[tuple[slice, _Postings]]:
    """Yield the postings of all terms, a bounded number at once, and the places of these terms.

    Those of the term at place p lie between `bounds[p]` and `bounds[p + 1]`.
    """
    first = 0
    while first < bounds.size - 1:
        last = int(np.searchsorted(bounds, bounds[first] + _PIECE, "right")) - 1
        last = max(first + 1, last)
        place = np.arange(first, last, dtype=np.int32).repeat(np.diff(bounds[first : last + 1]))
        span = slice(bounds[first], bounds[last])
        yield slice(first, last), _Postings(place, columns.indices[span], columns.data[span])
        first = last


def _bridges(distances: NDArray[np.integer]) -> NDArray[np.integer]:
    """Return how many entries with impact 0 bridge each distance."""
    return np.maximum(distances - 1, 0) // LONGEST


def _table(columns: csc_array, terms: NDArray[np.int64], bounds: NDArray[np.integer]) -> Table:
    """Count the entries that each term will have."""
    count = columns.shape[0]
    sizes = np.diff(bounds).astype(np.int64)
    sizes[sizes * DENSE_SHARE > count] = 0
    common = sizes * COMMON_SHARE > count
    for places, postings in _pieces(columns, bounds):
        if common[places].any():
            postings = postings.only(common)
            bridges = _bridges(postings.distances())
            sizes += np.bincount(postings.place, bridges, sizes.size).astype(np.int64)
    return Table.of(terms, sizes, count)


def _create(folder: Path, name: str, shape: tuple[int, ...], largest: int | None = None) -> NDArray:
    """Make an array file of zeros, of a type that holds `largest`, and return it, memory-mapped."""
    path = folder / f"{name}.npy"
    dtype = next(d for d in DTYPES[name] if largest is None or largest <= np.iinfo(d).max)
    array: NDArray = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    reserve(path)
    return array


def write(folder: Path, impacts: csr_array) -> None:
    """Write the arrays and the header of a segment; see `Segment.write`."""
    matrix = _checked(impacts)
    count, width = matrix.shape
    columns = matrix.tocsc()
    terms = np.flatnonzero(np.diff(columns.indptr))
    bounds = np.append(columns.indptr[terms], columns.indptr[-1])
    table = _table(columns, terms, bounds)
    folder.mkdir(parents=True, exist_ok=True)
    _create(folder, "terms", terms.shape, width)[:] = terms
    _create(folder, "sizes", terms.shape, count)[:] = table.sizes
    dense = _create(folder, "dense", (table.entries(DENSE), count))
    documents = _create(folder, "documents", (table.entries(RARE),))
    values = _create(folder, "impacts", documents.shape)
    steps = _create(folder, "steps", (table.entries(COMMON),))
    directory = _create(folder, "directory", (int(table.rows[-1]),))
    rare = common = 0
    for places, postings in _pieces(columns, bounds):
        rows = postings.only(table.kinds == DENSE)
        dense[table.starts[rows.place], rows.number] = rows.impact
        own = postings.only(table.kinds != DENSE)
        stepped = table.kinds[own.place] == COMMON
        distances = own.distances()
        bridges = np.where(stepped, _bridges(distances), 0)
        directory[table.rows[places.start] : table.rows[places.stop]] = _directory(
            np.repeat(own.block, bridges + 1), table.sizes[places], table.blocks
        )
        number, impact = own.number[~stepped], own.impact[~stepped]
        documents[rare : rare + number.size] = number & (BLOCK - 1)
        values[rare : rare + number.size] = impact
        rare += number.size
        found = _steps(distances[stepped], bridges[stepped], own.impact[stepped])
        steps[common : common + found.size] = found
        common += found.size
    header = {"format": FORMAT, "documents": count, "width": width, "postings": matrix.nnz}
    write_json(folder / HEADER, header)


def _steps(
    distances: NDArray[np.integer], bridges: NDArray[np.integer], impacts: NDArray[np.uint8]
) -> NDArray[np.uint16]:
    """Return the entries of common terms: each posting, and the bridges before it."""
    at = np.cumsum(bridges + 1) - 1
    steps = np.full(int(bridges.sum()) + bridges.size, LONGEST, dtype=np.uint16)
    steps[at] = distances - LONGEST * bridges + (impacts.astype(np.uint16) << 8)
    return steps


def _directory(
    block: NDArray[np.integer], sizes: NDArray[np.int64], blocks: int
) -> NDArray[np.uint16]:
    """Return the directory rows of terms, given the block of each of their entries."""
    counted = sizes >= blocks
    of_counted = np.repeat(counted, sizes)
    number = np.repeat(np.cumsum(counted) - 1, sizes)[of_counted]
    shape = int(counted.sum()), blocks
    counts = np.bincount(number * blocks + block[of_counted], minlength=shape[0] * shape[1])
    in_counted = np.repeat(counted, np.where(counted, blocks - 1, sizes))
    directory = np.empty(in_counted.size, dtype=np.uint16)
    directory[in_counted] = counts.reshape(shape)[:, :-1].ravel()
    directory[~in_counted] = block[~of_counted]
    return directory

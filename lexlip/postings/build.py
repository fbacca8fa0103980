"""Impacts to postings and back, in vectorised passes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array

from lexlip.errors import LexLIPError
from lexlip.files import write_json
from lexlip.impacts import MAX_IMPACT
from lexlip.postings.layout import (
    BLOCK,
    BLOCK_BITS,
    DENSE_SHARE,
    DTYPES,
    FORMAT,
    HEADER,
    MAX_DOCUMENTS,
    MAX_WIDTH,
    directory_rows,
)

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


def _create(folder: Path, name: str, shape: tuple[int, ...]) -> NDArray:
    """Make an array file of zeros and return it, memory-mapped."""
    path = folder / f"{name}.npy"
    array: NDArray = np.lib.format.open_memmap(path, mode="w+", dtype=DTYPES[name], shape=shape)
    if hasattr(os, "posix_fallocate"):
        # A full disk is an error here; through the map it would be a signal that kills.
        with open(path, "rb+") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def write(folder: Path, impacts: csr_array) -> None:
    """Write the arrays and the header of a segment; see `Segment.write`."""
    matrix = _checked(impacts)
    count, width = matrix.shape
    columns = matrix.tocsc()
    frequency = np.diff(columns.indptr).astype(np.int64)
    terms = np.flatnonzero(frequency)
    is_dense = frequency[terms] * DENSE_SHARE > count
    starts = np.zeros(terms.size + 1, dtype=np.int64)
    np.cumsum(np.where(is_dense, 0, frequency[terms]), out=starts[1:])
    blocks = -(-count // BLOCK)
    rows = directory_rows(starts, blocks)
    folder.mkdir(parents=True, exist_ok=True)
    _create(folder, "terms", (terms.size,))[:] = terms
    _create(folder, "starts", starts.shape)[:] = starts
    dense = _create(folder, "dense", (int(is_dense.sum()), count))
    for row, term in enumerate(terms[is_dense].tolist()):
        span = slice(columns.indptr[term], columns.indptr[term + 1])
        dense[row, columns.indices[span]] = columns.data[span]
    documents = _create(folder, "documents", (int(starts[-1]),))
    values = _create(folder, "impacts", (int(starts[-1]),))
    directory = _create(folder, "directory", (int(rows[-1]),))
    bounds = np.append(columns.indptr[terms], columns.indptr[-1])
    first = 0
    while first < terms.size:
        last = max(first + 1, int(np.searchsorted(bounds, bounds[first] + _PIECE, "right")) - 1)
        kept = np.repeat(~is_dense[first:last], frequency[terms[first:last]])
        numbers = columns.indices[bounds[first] : bounds[last]][kept]
        documents[starts[first] : starts[last]] = numbers & (BLOCK - 1)
        values[starts[first] : starts[last]] = columns.data[bounds[first] : bounds[last]][kept]
        directory[rows[first] : rows[last]] = _directory(
            numbers >> BLOCK_BITS, np.diff(starts[first : last + 1]), blocks
        )
        first = last
    header = {"format": FORMAT, "documents": count, "width": width, "postings": matrix.nnz}
    write_json(folder / HEADER, header)


def _directory(
    block: NDArray[np.integer], frequency: NDArray[np.int64], blocks: int
) -> NDArray[np.uint16]:
    """Return the directory rows of terms, given the block of each of their postings."""
    common = frequency >= blocks
    of_common = np.repeat(common, frequency)
    number = np.repeat(np.cumsum(common) - 1, frequency)[of_common]
    counts = np.bincount(number * blocks + block[of_common], minlength=int(common.sum()) * blocks)
    in_common = np.repeat(common, np.minimum(frequency, blocks))
    directory = np.empty(in_common.size, dtype=np.uint16)
    directory[in_common] = counts
    directory[~in_common] = block[~of_common]
    return directory


def _blocks_of(arrays: dict[str, NDArray], blocks: int) -> NDArray[np.uint16]:
    """Return the block of each sparse posting: what `_directory` was given."""
    frequency = np.diff(arrays["starts"])
    common = frequency >= blocks
    of_common = np.repeat(common, frequency)
    in_common = np.repeat(common, np.minimum(frequency, blocks))
    found = np.empty(of_common.size, dtype=np.uint16)
    every = np.tile(np.arange(blocks, dtype=np.uint16), int(common.sum()))
    found[of_common] = np.repeat(every, arrays["directory"][in_common])
    found[~of_common] = arrays["directory"][~in_common]
    return found


def restore(arrays: dict[str, NDArray], count: int, width: int) -> csr_array:
    """Return the impacts that a segment was made of, [N, V] int32.

    Raises
    ------
    ValueError
        When the arrays contradict each other.
    """
    terms, starts, dense = arrays["terms"], arrays["starts"], arrays["dense"]
    frequency = np.diff(starts)
    frequency[frequency == 0] = np.count_nonzero(dense, axis=1)
    pointers = np.zeros(width + 1, dtype=np.int64)
    pointers[terms + 1] = frequency
    np.cumsum(pointers, out=pointers)
    total = int(pointers[-1])
    numbers = np.empty(total, dtype=np.int32)
    values = np.empty(total, dtype=np.uint8)
    is_sparse = np.repeat(np.diff(starts) > 0, frequency)
    blocks = _blocks_of(arrays, -(-count // BLOCK)).astype(np.int32)
    numbers[is_sparse] = (blocks << BLOCK_BITS) + arrays["documents"]
    values[is_sparse] = arrays["impacts"]
    for row, term in enumerate(terms[np.diff(starts) == 0].tolist()):
        span = slice(pointers[term], pointers[term + 1])
        numbers[span] = np.flatnonzero(dense[row])
        values[span] = dense[row, numbers[span]]
    columns = csc_array((values, numbers, pointers), shape=(count, width))
    columns.check_format(full_check=True)  # the conversion itself trusts its numbers
    matrix = columns.tocsr().astype(np.int32)
    matrix.has_canonical_format = True
    return matrix

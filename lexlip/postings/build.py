"""Impacts to postings and back, in vectorised passes."""

from __future__ import annotations

import os
from collections.abc import Iterator
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


def _pieces(bounds: NDArray[np.integer]) -> Iterator[tuple[int, int]]:
    """Cut terms, whose postings lie between `bounds`, into ranges that are handled at once."""
    first = 0
    while first < bounds.size - 1:
        last = int(np.searchsorted(bounds, bounds[first] + _PIECE, "right")) - 1
        yield first, max(first + 1, last)
        first = max(first + 1, last)


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
    for first, last in _pieces(bounds):
        kept = np.repeat(~is_dense[first:last], frequency[terms[first:last]])
        numbers = columns.indices[bounds[first] : bounds[last]][kept]
        documents[starts[first] : starts[last]] = numbers & (BLOCK - 1)
        values[starts[first] : starts[last]] = columns.data[bounds[first] : bounds[last]][kept]
        directory[rows[first] : rows[last]] = _directory(
            numbers >> BLOCK_BITS, np.diff(starts[first : last + 1]), blocks
        )
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


def _blocks(
    directory: NDArray[np.uint16], frequency: NDArray[np.int64], blocks: int
) -> NDArray[np.int32]:
    """Return the block of each posting: what `_directory` was given."""
    common = frequency >= blocks
    of_common = np.repeat(common, frequency)
    in_common = np.repeat(common, np.minimum(frequency, blocks))
    found = np.empty(of_common.size, dtype=np.int32)
    every = np.tile(np.arange(blocks, dtype=np.int32), int(common.sum()))
    found[of_common] = np.repeat(every, directory[in_common])
    found[~of_common] = directory[~in_common]
    return found


def restore(arrays: dict[str, NDArray], count: int, width: int) -> csr_array:
    """Return the impacts that a segment was made of, [N, V] int32.

    Raises
    ------
    ValueError
        When the arrays contradict each other.
    """
    terms, starts, dense = arrays["terms"], arrays["starts"], arrays["dense"]
    blocks = -(-count // BLOCK)
    rows = directory_rows(starts, blocks)
    is_dense = np.diff(starts) == 0
    frequency = np.diff(starts)
    frequency[is_dense] = [np.count_nonzero(row) for row in dense]
    bounds = np.zeros(terms.size + 1, dtype=np.int64)
    np.cumsum(frequency, out=bounds[1:])
    numbers = np.empty(bounds[-1], dtype=np.int32)
    values = np.empty(bounds[-1], dtype=np.uint8)
    for first, last in _pieces(bounds):
        block = _blocks(
            arrays["directory"][rows[first] : rows[last]],
            np.diff(starts[first : last + 1]),
            blocks,
        )
        postings = slice(starts[first], starts[last])
        piece = slice(bounds[first], bounds[last])
        kept = np.repeat(~is_dense[first:last], frequency[first:last])
        numbers[piece][kept] = (block << BLOCK_BITS) + arrays["documents"][postings]
        values[piece][kept] = arrays["impacts"][postings]
    for row, at in enumerate(np.flatnonzero(is_dense).tolist()):
        span = slice(bounds[at], bounds[at + 1])
        numbers[span] = np.flatnonzero(dense[row])
        values[span] = dense[row, numbers[span]]
    if numbers.size and numbers.max() >= count:  # scipy's conversion trusts its numbers
        raise ValueError("postings beyond the last document")
    pointers = np.zeros(width + 1, dtype=bounds.dtype)
    pointers[terms + 1] = frequency
    np.cumsum(pointers, out=pointers)
    matrix = csc_array((values, numbers, pointers), shape=(count, width)).tocsr()
    del numbers, values
    return csr_array((matrix.data.astype(np.int32), matrix.indices, matrix.indptr), matrix.shape)

"""The inner loops of a search, compiled by numba: exact integer sums, a block at a time.

Importing this module compiles it (seconds; later imports read numba's cache), so
`lexlip.engines.postings.segment` imports it at the first search only. Loops are written for the
vectoriser: trip counts that it does not know, no branches inside. Ranges over postings are
unsigned, because numba asks a signed index each time whether it counts from the end. All of it
stands in one file, and the block size is an argument, because numba's cache is renewed when this
file changes.
"""

from __future__ import annotations

import numpy as np
from numba import types

from lexlip.engines.postings.layout import COMMON, DENSE
from lexlip.impacts import MAX_IMPACT
from lexlip.storage.compiled import array, compiled

_LOW = np.int64(0xFFFFFFFF)

_STEP = np.uint32(0xFF)
_IMPACT_BITS = np.uint32(8)
"""The low byte of a common term's entry is its step, the high byte its impact."""

_TILE = 1024
"""Documents whose sums are finished together: their dense rows are added in the L1 cache."""

_WEIGHT_ROOM = 65535 // MAX_IMPACT
"""Dense rows are added in 16 bits while their weights sum to at most this: nothing overflows."""

_FEW = 8
"""With more documents than this per posting, visiting postings beats scanning a block."""


@compiled()
def _sink(heap, size, key):
    """Replace the smallest of `size` keys of a min-heap by `key`."""
    at = 0
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= key:
            break
        heap[at] = heap[child]
        at = child
    heap[at] = key


@compiled()
def _offer(heap, size, score, document):
    """Offer a hit to the heap of the best; return its size.

    A key orders by score, then by the smaller document.
    """
    key = (np.int64(score) << 32) | (_LOW - document)
    if size < heap.size:
        at = size
        while at > 0 and heap[(at - 1) >> 1] > key:
            heap[at] = heap[(at - 1) >> 1]
            at = (at - 1) >> 1
        heap[at] = key
        return size + 1
    if key > heap[0]:
        _sink(heap, size, key)
    return size


@compiled()
def _cut(heap, size):
    """Return the k-th best score so far, 0 while there are fewer than k."""
    return np.int32(heap[0] >> 32) if size == heap.size else np.int32(0)


@compiled()
def _slices(directory, start, first, last, ends):
    """Fill `ends[b + 1]` with the end of block b's entries; `ends[0]` is the first's start.

    `directory[start:]` is a row of `lexlip.engines.postings.layout`. All ends stay within
    first..last, even for a corrupted row.
    """
    blocks = ends.size - 1
    ends[0] = first
    if last - first >= blocks:
        for b in range(blocks - 1):
            ends[b + 1] = min(ends[b] + directory[start + b], last)
        ends[blocks] = last
    else:
        at = first
        for b in range(blocks):
            while at < last and directory[start + at - first] <= b:
                at += 1
            ends[b + 1] = at


@compiled()
def _add_rare(sums, mask, documents, impacts, first, last, weight):
    """Add the postings first..last of a rare term."""
    for p in range(np.uint64(first), np.uint64(last)):
        sums[documents[p] & mask] += weight * np.int32(impacts[p])


@compiled()
def _add_common(sums, mask, steps, first, last, weight):
    """Add the entries first..last of a common term: those of one block."""
    at = np.uint32(0)
    for p in range(np.uint64(first), np.uint64(last)):
        step = np.uint32(steps[p])
        at += step & _STEP
        sums[at & mask] += weight * np.int32(step >> _IMPACT_BITS)


@compiled()
def _keep(heap, size, score, document, count, alive):
    """Offer a document to the heap if it is there and alive; return the heap's size."""
    if document < count and (alive.size == 0 or alive[document]):
        return _offer(heap, size, score, document)
    return size


@compiled()
def _visit_rare(sums, mask, documents, first, last, low, count, alive, heap, size):
    """Collect the hits among postings first..last and clear their sums; return the heap's size."""
    cut = _cut(heap, size)
    for p in range(np.uint64(first), np.uint64(last)):
        at = documents[p] & mask
        score = sums[at]
        sums[at] = 0
        if score != 0 and score >= cut:
            size = _keep(heap, size, score, low + np.int64(at), count, alive)
            cut = _cut(heap, size)
    return size


@compiled()
def _visit_common(sums, mask, steps, first, last, low, count, alive, heap, size):
    """Do the same for entries first..last of a common term."""
    cut = _cut(heap, size)
    place = np.uint32(0)
    for p in range(np.uint64(first), np.uint64(last)):
        place += np.uint32(steps[p]) & _STEP
        at = place & mask
        score = sums[at]
        sums[at] = 0
        if score != 0 and score >= cut:
            size = _keep(heap, size, score, low + np.int64(at), count, alive)
            cut = _cut(heap, size)
    return size


@compiled()
def _add_dense(sums, part, dense, rows, weights, low):
    """Add dense rows to the sums of documents `low`...; `part` is room for as many uint16."""
    i = 0
    while i < rows.size:
        part[:] = 0
        room = _WEIGHT_ROOM
        while i < rows.size and weights[i] <= room:
            room -= weights[i]
            weight = np.uint16(weights[i])
            row = dense[rows[i], low : low + sums.size]
            for d in range(sums.size):
                part[d] += weight * np.uint16(row[d])
            i += 1
        for d in range(sums.size):
            sums[d] += np.int32(part[d])


@compiled()
def _largest(numbers):
    """Return the largest of some numbers >= 0."""
    best = np.int32(0)
    for d in range(numbers.size):
        best = max(best, np.int32(numbers[d]))
    return best


@compiled()
def _scan(sums, low, alive, heap, size):
    """Collect the hits among the sums of documents `low`..., which follow all collected ones."""
    cut = _cut(heap, size)
    if _largest(sums) <= cut:
        return size
    if alive.size:
        for d in range(sums.size):
            sums[d] = sums[d] if alive[low + d] else np.int32(0)
        if _largest(sums) <= cut:
            return size
    for d in range(sums.size):
        if sums[d] > cut:
            size = _offer(heap, size, sums[d], low + d)
            cut = _cut(heap, size)
    return size


@compiled()
def _unload(heap, size, found, scores):
    """Empty the heap into `found` and `scores`, best first."""
    for at in range(size - 1, -1, -1):
        key = heap[0]
        found[at] = _LOW - (key & _LOW)
        scores[at] = key >> 32
        _sink(heap, at, heap[at])
    return size


_SIGNATURE = types.int64(
    *(array(kind) for kind in (types.int32, types.int8, types.int64, types.int64, types.int64)),
    *(array(kind) for kind in (types.uint16, types.uint16, types.uint8, types.uint16)),
    array(types.uint8, dimensions=2), types.int64, types.int64,
    *(array(types.int32, readonly=False) for _ in range(2)),
    array(types.uint8),
    *(array(types.int32, readonly=False) for _ in range(2)),
)  # fmt: skip


@compiled(_SIGNATURE)
def search(
    terms, kinds, starts, sizes, rows, directory, documents, impacts, steps, dense, count, block,
    ids, weights, alive, found, scores,
):  # fmt: skip
    """Fill `found` and `scores` with the best documents and return how many there are.

    The arrays are those of `lexlip.engines.postings.segment.Segment`; `block` is its number
    of documents a block, `ids` and `weights` are the query, `alive` has one byte a document or
    none at all.
    """
    blocks = (count + block - 1) // block
    room = 1  # for sums: a power of two, so that a mask keeps damaged numbers within
    while room < min(block, count):
        room *= 2
    mask = np.uint32(room - 1)
    ends = np.empty((ids.size, blocks + 1), np.int64)
    is_common = np.empty(ids.size, np.bool_)
    sparse_weights = np.empty(ids.size, np.int32)
    dense_weights = np.empty(ids.size, np.int32)
    frequent = np.empty(ids.size, np.int64)
    sparse = 0
    rich = 0
    for i in range(ids.size):
        at = np.searchsorted(terms, ids[i])
        if at == terms.size or terms[at] != ids[i]:
            continue
        if kinds[at] == DENSE:
            frequent[rich] = starts[at]
            dense_weights[rich] = weights[i]
            rich += 1
        else:
            _slices(directory, rows[at], starts[at], starts[at] + sizes[at], ends[sparse])
            is_common[sparse] = kinds[at] == COMMON
            sparse_weights[sparse] = weights[i]
            sparse += 1
    sums = np.zeros(room, np.int32)  # zero again before every block
    part = np.empty(_TILE, np.uint16)
    heap = np.empty(found.size, np.int64)
    size = 0
    for b in range(blocks):
        low = b * block
        length = min(block, count - low)
        if alive.size and not _largest(alive[low : low + length]):
            continue
        postings = 0
        for i in range(sparse):
            first, last = ends[i, b], ends[i, b + 1]
            weight = sparse_weights[i]
            if is_common[i]:
                _add_common(sums, mask, steps, first, last, weight)
            else:
                _add_rare(sums, mask, documents, impacts, first, last, weight)
            postings += last - first
        if rich == 0 and postings * _FEW < length:
            for i in range(sparse):
                first, last = ends[i, b], ends[i, b + 1]
                if is_common[i]:
                    size = _visit_common(
                        sums, mask, steps, first, last, low, count, alive, heap, size
                    )
                else:
                    size = _visit_rare(
                        sums, mask, documents, first, last, low, count, alive, heap, size
                    )
            continue
        for first in range(0, length, _TILE):
            tile = sums[first : min(first + _TILE, length)]
            at = low + first
            if rich:
                _add_dense(
                    tile, part[: tile.size], dense, frequent[:rich], dense_weights[:rich], at
                )
            size = _scan(tile, at, alive, heap, size)
        if b + 1 < blocks:
            sums[:] = 0
    return _unload(heap, size, found, scores)

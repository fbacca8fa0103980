"""One immutable segment of postings, memory-mapped and searched exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lexlip.errors import LexLIPError
from lexlip.postings import build, layout
from lexlip.postings.layout import BLOCK


def _frozen(array: NDArray) -> NDArray:
    """Return a read-only view: the kernel is compiled for these."""
    view = array.view()
    view.flags.writeable = False
    return view


@cache
def _kernel() -> Callable[..., int]:
    """Return the compiled search; asking Python's import machinery each time would take longer."""
    from lexlip.postings import kernel

    return kernel.search


_NO_MASK = _frozen(np.empty(0, dtype=np.uint8))


class Segment:
    """Documents 0..N-1 with integer impacts 1..255, read where they lie on disk.

    Scores are exact integers. Equal scores are ordered by document number. Searching needs a
    kernel that numba compiles at the first search; it runs without the GIL, so threads search
    at the same time.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "segment"
    >>> Segment.write(folder, csr_array([[0, 200], [100, 0], [0, 0]]))
    >>> segment = Segment.open(folder)
    >>> documents, scores = segment.search({0: 2, 1: 1}, k=5)
    >>> documents.tolist(), scores.tolist()
    ([0, 1], [200, 200])
    """

    def __init__(self, header: dict[str, Any], arrays: dict[str, NDArray]) -> None:
        """Take what `layout.read` returned; use `Segment.open`."""
        self.width: int = header["width"]
        """V, the number of columns that `write` was given."""
        self.postings: int = header["postings"]
        """Number of impacts."""
        self.bytes: int = sum(array.nbytes for array in arrays.values())
        """Bytes of the arrays, on disk and, as far as they were read, in memory."""
        self._count: int = header["documents"]
        self._blocks = -(-self._count // BLOCK)
        self._arrays = arrays
        self._terms, self._starts = arrays["terms"], arrays["starts"]
        self._directory = arrays["directory"]
        self._documents, self._impacts = arrays["documents"], arrays["impacts"]
        self._dense = arrays["dense"]
        self._rows = _frozen(layout.directory_rows(self._starts, self._blocks))
        is_dense = np.diff(self._starts) == 0
        self._dense_rows = _frozen(np.where(is_dense, np.cumsum(is_dense) - 1, -1))
        self._postings = (
            self._terms, self._starts, self._rows, self._dense_rows, self._directory,
            self._documents, self._impacts, self._dense, self._count, BLOCK,
        )  # fmt: skip

    @staticmethod
    def write(folder: Path, impacts: csr_array) -> None:
        """Write a segment.

        Parameters
        ----------
        folder
            Made if missing. The header is written last: a folder without one is no segment.
        impacts
            [N, V] integers 1..255; row d is document d. Rows may be empty.

        Raises
        ------
        LexLIPError
            For impacts that are no integers 1..255, before anything is written.
        """
        build.write(folder, impacts)

    @classmethod
    def open(cls, folder: Path) -> Segment:
        """Map a segment that `write` wrote: milliseconds, whatever its size.

        Raises
        ------
        LexLIPError
            When it is missing, of another format, or its arrays do not fit together. Contents of
            postings are not checked: damage there gives wrong scores but stays within the arrays.
        """
        return cls(*layout.read(folder))

    def __len__(self) -> int:
        """Return N, the number of documents, those with an empty row included."""
        return self._count

    def search(
        self, terms: Mapping[int, int], k: int, alive: NDArray[np.uint8] | None = None
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Find the best `k` documents.

        Parameters
        ----------
        terms
            {term: weight}, at most 1,024 with weights 1..64 (`lexlip.engines.base.check_query`).
            Terms that the segment lacks match nothing.
        k
            1 or more.
        alive
            [N], zero for documents not to be found. All are when left out.

        Returns
        -------
        documents : int32 [n]
            n <= k documents that share a term with the query, by score (largest first), then by
            number.
        scores : int32 [n]
            Sums of weight times impact, exact.
        """
        mask = _NO_MASK if alive is None else self._mask(alive)
        if terms and max(terms) >= self.width:
            terms = {term: weight for term, weight in terms.items() if term < self.width}
        found = np.empty(min(k, self._count), dtype=np.int32)
        scores = np.empty(found.size, dtype=np.int32)
        if not terms or not found.size:
            return found[:0], scores[:0]
        ids = np.fromiter(terms, np.int32, len(terms))
        weights = np.fromiter(terms.values(), np.int32, len(terms))
        size = _kernel()(*self._postings, ids, weights, mask, found, scores)
        return found[:size], scores[:size]

    def _mask(self, alive: NDArray) -> NDArray[np.uint8]:
        """Return the mask as the kernel takes it."""
        if alive.shape != (self._count,):
            raise LexLIPError(
                f"the mask of living documents has shape {alive.shape}: it must be {(self._count,)}"
            )
        if alive.dtype not in (np.uint8, np.bool_):
            alive = alive != 0
        return _frozen(np.ascontiguousarray(alive).view(np.uint8))

    def contributions(self, document: int, terms: Iterable[int]) -> dict[int, int]:
        """Return {term: impact} for those of `terms` that document `document` has.

        Raises
        ------
        IndexError
            For a document that is not 0..N-1.
        """
        if not 0 <= document < self._count:
            raise IndexError(f"document {document} of {self._count}")
        block, within = divmod(document, BLOCK)
        found = {}
        for term in terms:
            at = int(np.searchsorted(self._terms, term)) if 0 <= term < self.width else -1
            if not 0 <= at < self._terms.size or self._terms[at] != term:
                continue
            if self._dense_rows[at] >= 0:
                impact = int(self._dense[self._dense_rows[at], document])
            else:
                impact = self._impact(at, block, within)
            if impact:
                found[int(term)] = impact
        return found

    def _impact(self, at: int, block: int, within: int) -> int:
        """Return the impact of sparse term number `at` in one document, 0 if it has none."""
        first, last = int(self._starts[at]), int(self._starts[at + 1])
        row = self._directory[self._rows[at] : self._rows[at + 1]]
        if last - first >= self._blocks:
            begin = first + int(row[:block].sum(dtype=np.int64))
            end = min(begin + int(row[block]), last)
        else:
            begin = first + int(np.searchsorted(row, block, "left"))
            end = first + int(np.searchsorted(row, block, "right"))
        place = begin + int(np.searchsorted(self._documents[begin:end], within))
        return int(self._impacts[place]) if place < end and self._documents[place] == within else 0

    def impacts(self) -> csr_array:
        """Return the impacts that `write` was given, [N, V] int32: what a merge reads."""
        try:
            return build.restore(self._arrays, self._count, self.width)
        except ValueError as error:
            raise LexLIPError(f"a segment is damaged ({error}): build the index anew") from None

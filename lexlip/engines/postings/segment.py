"""One immutable segment of postings, memory-mapped and searched exactly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lexlip.engines.postings import build, layout, plain
from lexlip.engines.postings.layout import BLOCK, COMMON, DENSE, LONGEST, Table
from lexlip.engines.postings.restore import read_terms, restore, restore_some
from lexlip.errors import LexLIPError
from lexlip.storage.compiled import loops


def _frozen(array: NDArray) -> NDArray:
    """Return a read-only view: the kernel is compiled for these."""
    view = array.view()
    view.flags.writeable = False
    return view


@contextmanager
def _damage_named() -> Iterator[None]:
    """Turn arrays that contradict each other into one line."""
    try:
        yield
    except ValueError as error:
        raise LexLIPError(f"a segment is damaged ({error}): build the index anew") from None


_NO_MASK = _frozen(np.empty(0, dtype=np.uint8))


class Segment:
    """Documents 0..N-1 with integer impacts 1..255, read where they lie on disk.

    Scores are exact integers. Equal scores are ordered by document number. Where numba
    is installed, it compiles the loops of a search at the first one; they run without the GIL, so
    threads search at the same time.

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

    def __init__(self, header: dict[str, Any], arrays: dict[str, NDArray], table: Table) -> None:
        """Take what `layout.read` returned; use `Segment.open`."""
        self.width: int = header["width"]
        """V, the number of columns that `write` was given."""
        self.postings: int = header["postings"]
        """Number of impacts."""
        self.bytes: int = sum(array.nbytes for array in arrays.values())
        """Bytes of the arrays, on disk and, as far as they were read, in memory."""
        self._count: int = header["documents"]
        self._arrays, self._table = arrays, table
        self._postings = (
            _frozen(table.terms), _frozen(table.kinds), _frozen(table.starts),
            _frozen(table.sizes), _frozen(table.rows),
            *(arrays[name] for name in ("directory", "documents", "impacts", "steps", "dense")),
            self._count, BLOCK,
        )  # fmt: skip

    @staticmethod
    def write(folder: Path, impacts: csr_array) -> None:
        """Write a segment.

        Parameters
        ----------
        folder
            Created if missing. The header is written last: a folder without one is not a segment.
        impacts
            [N, V] integers 1..255; row d is document d. Rows may be empty.

        Raises
        ------
        LexLIPError
            For impacts other than integers 1..255, before anything is written.
        """
        build.write(folder, impacts)

    @classmethod
    def open(cls, folder: Path) -> Segment:
        """Map a segment that `write` wrote: milliseconds for any size.

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
        kernel = loops("lexlip.engines.postings.kernel", lambda: plain.entries(self._table, ids))
        if kernel is not None:
            size = kernel.search(*self._postings, ids, weights, mask, found, scores)
        else:
            with _damage_named():
                size = plain.search(self._arrays, self._table, ids, weights, mask, found, scores)
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
        found = {}
        for term in terms:
            at = self._place(term)
            impact = 0 if at is None else self._impact(at, document)
            if impact:
                found[int(term)] = impact
        return found

    def _place(self, term: int) -> int | None:
        """Return the place of a term in the table, None if no document has it."""
        terms = self._table.terms
        at = int(np.searchsorted(terms, term)) if 0 <= term < self.width else terms.size
        return at if at < terms.size and terms[at] == term else None

    def _impact(self, at: int, document: int) -> int:
        """Return the impact of the term at a place in one document, 0 if it has none."""
        table, arrays = self._table, self._arrays
        first, size = int(table.starts[at]), int(table.sizes[at])
        if table.kinds[at] == DENSE:
            return int(arrays["dense"][first, document])
        block, within = divmod(document, BLOCK)
        last, row = first + size, arrays["directory"][table.rows[at] : table.rows[at + 1]]
        if size >= table.blocks:
            begin = first + int(row[:block].sum(dtype=np.int64))
            end = min(begin + int(row[block]), last) if block < row.size else last
        else:
            begin = first + int(np.searchsorted(row, block, "left"))
            end = first + int(np.searchsorted(row, block, "right"))
        if table.kinds[at] == COMMON:
            steps = arrays["steps"][begin:end]
            numbers, impacts = np.cumsum(steps & LONGEST), steps >> 8
        else:
            numbers, impacts = arrays["documents"][begin:end], arrays["impacts"][begin:end]
        place = int(np.searchsorted(numbers, within))
        return int(impacts[place]) if place < numbers.size and numbers[place] == within else 0

    def frequency(self, term: int) -> int:
        """Return how many documents have a term."""
        at, table, arrays = self._place(term), self._table, self._arrays
        if at is None:
            return 0
        first, size = int(table.starts[at]), int(table.sizes[at])
        if table.kinds[at] == DENSE:
            return int(np.count_nonzero(arrays["dense"][first]))
        if table.kinds[at] == COMMON:  # entries without an impact are bridges
            return int(np.count_nonzero(arrays["steps"][first : first + size] > LONGEST))
        return size

    def frequencies(self, terms: Sequence[int]) -> NDArray[np.int64]:
        """Return how many documents have each of many terms, [len(terms)]."""
        table = self._table
        numbers = np.array([term if term < self.width else -1 for term in terms], np.int64)
        if not table.terms.size:
            return np.zeros(numbers.size, np.int64)
        at = np.minimum(np.searchsorted(table.terms, numbers), table.terms.size - 1)
        found, kinds = table.terms[at] == numbers, table.kinds[at]
        counts = np.where(found, table.sizes[at], 0).astype(np.int64)
        for place in np.flatnonzero(found & ((kinds == DENSE) | (kinds == COMMON))).tolist():
            counts[place] = self.frequency(terms[place])
        return counts

    def having(self, term: int, at_least: int = 1) -> NDArray[np.bool_]:
        """Return which documents have a term with an impact of at least so much, [N].

        Raises
        ------
        LexLIPError
            When the postings of the term are damaged.
        """
        having, at = np.zeros(self._count, dtype=np.bool_), self._place(term)
        if at is not None:
            with _damage_named():
                numbers, impacts, _ = read_terms(self._arrays, self._table, slice(at, at + 1))
                having[numbers[impacts >= at_least]] = True
        return having

    def impacts(self) -> csr_array:
        """Return the impacts that `write` was given, [N, V] int32: what a merge reads."""
        with _damage_named():
            return restore(self._arrays, self._table, self.width, self.postings)

    def some_impacts(self, documents: Sequence[int]) -> csr_array:
        """Return the impacts of some documents, [M, V] int32: all postings are read, few kept."""
        with _damage_named():
            return restore_some(self._arrays, self._table, self.width, documents)

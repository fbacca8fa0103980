"""Spools: sparse matrices on disk, row by row, of any size, and turned in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lexlip.storage.files import reserve

_PIECE = 1 << 21
"""Entries that are worked on at once: a bound on memory."""


class Spool:
    """A sparse matrix in a folder: rows are appended, then read in order, or as columns.

    Parameters
    ----------
    folder : Path
        Made if missing; it is the caller's to remove.
    dtype
        Of the values.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> spool = Spool(folder / "rows", np.uint8)
    >>> spool.append(csr_array([[0, 200], [100, 7]]))
    >>> spool.turned(folder / "columns", 2).rows(0, 2).toarray().tolist()
    [[0, 100], [200, 7]]
    """

    def __init__(self, folder: Path, dtype: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.dtype = folder, np.dtype(dtype)
        self._ends: list[NDArray[np.int64]] = [np.zeros(1, np.int64)]
        self._entries = 0
        self._files = [open(self._path(name), "ab") for name in ("indices", "values")]
        self._maps: list[NDArray[Any]] | None = None

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.bin"

    @property
    def entries(self) -> int:
        """Number of values."""
        return self._entries

    @property
    def ends(self) -> NDArray[np.int64]:
        """The first entry of each row, and the end of the last one, int64 [N + 1]."""
        if len(self._ends) > 1:
            self._ends = [np.concatenate(self._ends)]
        return self._ends[0]

    def __len__(self) -> int:
        return len(self.ends) - 1

    def append(self, rows: csr_array) -> None:
        """Append rows, [M, any width]."""
        self._files[0].write(rows.indices.astype(np.int32).tobytes())
        self._files[1].write(rows.data.astype(self.dtype).tobytes())
        self._ends.append(self._entries + rows.indptr[1:].astype(np.int64))
        self._entries += int(rows.indptr[-1])
        self._maps = None

    def append_row(self, indices: NDArray[Any], values: NDArray[Any]) -> None:
        """Append one row."""
        ends = np.array([0, len(indices)])
        shape = (1, int(indices.max(initial=-1)) + 1)
        self.append(csr_array((values, indices, ends), shape=shape))

    def entry(self, start: int, stop: int) -> tuple[NDArray[np.int32], NDArray[Any]]:
        """Return columns and values of a range of entries, from the disk."""
        if self._maps is None:
            for file in self._files:
                file.flush()
            kinds = (np.dtype(np.int32), self.dtype)
            self._maps = [
                np.memmap(self._path(name), kind, "r") if self._entries else np.empty(0, kind)
                for name, kind in zip(("indices", "values"), kinds, strict=True)
            ]
        columns, values = (np.array(whole[start:stop]) for whole in self._maps)
        return columns, values

    def rows(self, start: int, stop: int, width: int | None = None) -> csr_array:
        """Return some rows, [stop - start, width]."""
        ends = self.ends[start : stop + 1]
        columns, values = self.entry(int(ends[0]), int(ends[-1]))
        most = int(columns.max(initial=-1)) + 1 if width is None else width
        return csr_array((values, columns, ends - ends[0]), shape=(stop - start, most))

    def pieces(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int32], NDArray[Any]]]:
        """Yield rows, columns and values of all entries, some at a time."""
        for start in range(0, self._entries, _PIECE):
            stop = min(start + _PIECE, self._entries)
            rows = np.searchsorted(self.ends, np.arange(start, stop), "right") - 1
            yield rows, *self.entry(start, stop)

    def turned(self, folder: Path, width: int) -> Spool:
        """Return the columns as rows, ascending within each, in another folder."""
        counts = np.zeros(width, np.int64)
        for _, columns, _ in self.pieces():
            counts += np.bincount(columns, minlength=width)
        other = Spool(folder, self.dtype)
        other.close()
        if self._entries:
            kinds = {"indices": np.dtype(np.int32), "values": self.dtype}
            written = [
                np.memmap(other._path(name), kind, "w+", shape=(self._entries,))
                for name, kind in kinds.items()
            ]
            for name in kinds:
                reserve(other._path(name))
            free = np.concatenate([[0], np.cumsum(counts)[:-1]])
            for rows, columns, values in self.pieces():
                order = np.argsort(columns, kind="stable")
                here = np.bincount(columns, minlength=width)
                first = np.repeat(np.cumsum(here) - here, here)
                places = np.repeat(free, here) + np.arange(len(order)) - first
                written[0][places], written[1][places] = rows[order], values[order]
                free = free + here
            for array in written:
                array.flush()
        other._ends = [np.concatenate([[0], np.cumsum(counts)])]
        other._entries = self._entries
        return other

    def close(self) -> None:
        """Close the files; they can still be read."""
        for file in self._files:
            file.close()
        self._files = []

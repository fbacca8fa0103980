"""Arrays in files: numpy's own format, memory-mapped, and sorted strings on top of it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_WHOLE = (np.uint8, np.uint16, np.int32, np.int64)

_SCAN = 20
"""Finding one id by halving a million costs as much as reading this many in a row (7 us)."""


def save_array(folder: Path, name: str, array: NDArray[Any]) -> None:
    """Write an array as ``name.npy``.

    Not with numpy's own function: on a disk that is full or broken, that may say nothing and leave
    a file that ends early. Small arrays are written when its C library closes the file, and what
    comes of that it does not look at (numpy 2.4).

    Raises
    ------
    OSError
        When not all of it could be written.
    """
    save_blocks(folder, name, array.dtype, array.shape, [array])


def save_smallest(folder: Path, name: str, array: NDArray[Any]) -> None:
    """Save an array, whole numbers in the smallest type that holds them all."""
    if array.size and np.issubdtype(array.dtype, np.integer):
        low, high = int(array.min()), int(array.max())
        array = array.astype(
            next(t for t in _WHOLE if np.iinfo(t).min <= low and high <= np.iinfo(t).max)
        )
    save_array(folder, name, array)


def save_blocks(
    folder: Path, name: str, dtype: Any, shape: tuple[int, ...], blocks: Iterable[NDArray[Any]]
) -> None:
    """Write an array as ``name.npy``, a block of its rows at a time.

    Written, not mapped: on a full disk this fails, and a map would kill the process.
    """
    header = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
        "fortran_order": False,
        "shape": shape,
    }
    with open(folder / f"{name}.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(np.ascontiguousarray(block).data)


def map_array(folder: Path, name: str) -> NDArray[Any]:
    """Map ``name.npy``, as a plain array: cheaper to slice than a memmap."""
    return np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False).view(np.ndarray)


_FEW = 16
"""Up to this many strings are read one by one: gathering their bytes has a fixed cost (20 us)."""


class Strings(Sequence[bytes]):
    """Sorted UTF-8 strings, memory-mapped; their byte order is the order of code points."""

    def __init__(self, folder: Path, name: str) -> None:
        self._bytes, lengths = map_array(folder, name), map_array(folder, f"{name}-lengths")
        self._starts = np.zeros(lengths.size + 1, dtype=np.int64)
        np.cumsum(lengths, out=self._starts[1:])
        if self._starts[-1] != self._bytes.size:
            raise ValueError(f"{name} do not fit together")
        # Cheaper than arrays where one string is read at a time.
        self._view, self._places = self._bytes.data, self._starts.data

    @staticmethod
    def write(folder: Path, name: str, strings: Sequence[bytes]) -> None:
        """Write sorted strings."""
        save_smallest(folder, name, np.frombuffer(b"".join(strings), dtype=np.uint8))
        save_smallest(
            folder, f"{name}-lengths", np.array([len(string) for string in strings], np.int32)
        )

    def __len__(self) -> int:
        return self._starts.size - 1

    def __getitem__(self, row: Any) -> Any:
        if not 0 <= row < len(self):  # also how iteration ends
            raise IndexError(row)
        return bytes(self._view[self._places[row] : self._places[row + 1]])

    def take(self, rows: NDArray[np.integer]) -> list[bytes]:
        """Return the strings of some rows."""
        if rows.size * _SCAN < len(self):
            view, places = self._view, self._places
            return [bytes(view[places[row] : places[row + 1]]) for row in rows.tolist()]
        joined, starts = self._bytes.tobytes(), self._starts
        spans = zip(starts[rows].tolist(), starts[rows + 1].tolist(), strict=True)
        return [joined[start:end] for start, end in spans]

    def texts(self, rows: NDArray[np.integer]) -> list[str]:
        """Return the strings of some rows as text; many are decoded together, if all is ASCII."""
        if rows.size <= _FEW:
            return [name.decode() for name in self.take(rows)]
        starts, ends = self._starts[rows], self._starts[rows + 1]
        lengths = ends - starts
        stops = np.cumsum(lengths)
        # Each string's bytes: its start, repeated, and 0, 1, 2, ... from there.
        at = np.arange(lengths.sum()) + np.repeat(starts - (stops - lengths), lengths)
        joined = self._bytes[at].tobytes()
        if not joined.isascii():
            return [name.decode() for name in self.take(rows)]
        text, firsts = joined.decode("ascii"), [0, *stops.tolist()]
        return [text[first:last] for first, last in zip(firsts, firsts[1:], strict=False)]

    def find(self, strings: Collection[bytes]) -> dict[bytes, int]:
        """Return {string: row} of the strings found."""
        if len(strings) * _SCAN > len(self):
            wanted = frozenset(strings)
            every = self.take(np.arange(len(self)))
            return {string: row for row, string in enumerate(every) if string in wanted}
        found = {}
        for string in strings:
            row = bisect_left(self, string)
            if row < len(self) and self[row] == string:
                found[string] = row
        return found

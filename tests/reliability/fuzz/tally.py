"""A tally that outlives the process that fills it: counts, and the input that is being tried."""

from __future__ import annotations

import mmap
import struct
import time
from dataclasses import astuple, dataclass
from pathlib import Path

from tests.reliability.fuzz.harness import MAX_INPUT


@dataclass
class Counts:
    """What was tried so far.

    Attributes
    ----------
    inputs, bytes : int
    worst : float
        Seconds of the slowest input.
    peak : float
        MB, the most memory that the process had.
    failures : int
    since : float
        When the present input was begun, of the monotonic clock; 0 between two.
    length : int
        Of the present input.
    """

    inputs: int = 0
    bytes: int = 0
    worst: float = 0.0
    peak: float = 0.0
    failures: int = 0
    since: float = 0.0
    length: int = 0


_LAYOUT = struct.Struct("<QQddQdQ")


class Tally:
    """Counts in a mapped file, written by a child and read by its parent.

    Parameters
    ----------
    path : Path
        Made where it is missing.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(_LAYOUT.size + MAX_INPUT))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self.counts = self.read()

    def read(self) -> Counts:
        """Return what the file says now."""
        return Counts(*_LAYOUT.unpack_from(self._map))

    def write(self) -> None:
        """Write the counts."""
        _LAYOUT.pack_into(self._map, 0, *astuple(self.counts))

    def begin(self, data: bytes) -> None:
        """Keep an input that is about to be tried."""
        self._map[_LAYOUT.size : _LAYOUT.size + len(data)] = data
        self.counts.since, self.counts.length = time.monotonic(), len(data)
        self.write()

    def end(self, peak: float) -> float:
        """Count an input; return its seconds."""
        seconds = time.monotonic() - self.counts.since
        self.counts.inputs += 1
        self.counts.bytes += self.counts.length
        self.counts.worst = max(self.counts.worst, seconds)
        self.counts.peak = max(self.counts.peak, peak)
        self.counts.since = 0.0
        self.write()
        return seconds

    def present(self) -> bytes:
        """Return the input that is being tried, or was when the process died."""
        counts = self.read()
        return bytes(self._map[_LAYOUT.size : _LAYOUT.size + counts.length])

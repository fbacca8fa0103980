"""A harness: what is read, seeds, their mutations, and what must not happen."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence

from tests.reliability.fuzz.mutations import mutated

MAX_INPUT = 2**20
"""Bytes of the longest input that is tried."""


class Harness(ABC):
    """Tries one input at a time.

    Attributes
    ----------
    name : str
    seconds : float
        An input that takes longer is a failure. Generous: the machine has other work.
    megabytes : int
        A process that needs more is a failure, and ended.
    packages : sequence of str
        Modules whose coverage guides atheris; none where the code runs elsewhere.
    tokens : sequence of bytes
        Pieces that mutations insert.
    """

    name: str
    seconds = 10.0
    megabytes = 1500
    packages: Sequence[str] = ()
    tokens: Sequence[bytes] = ()

    def open(self) -> None:  # noqa: B027
        """Get ready: import what is tried, make small files."""

    def warm(self) -> None:  # noqa: B027
        """Do what is slow the first time; what is imported here counts for no coverage."""

    @abstractmethod
    def seeds(self) -> list[bytes]:
        """Return small valid inputs; called after `open`."""

    def mutate(self, raw: bytes, dice: random.Random) -> bytes:
        """Return a changed input."""
        return mutated(raw, dice, self.tokens)

    @abstractmethod
    def attempt(self, data: bytes) -> None:
        """Use an input. Raises for what must not happen; refusals in one line are caught."""

    def pid(self) -> int | None:
        """Return the process whose memory counts, None for this one."""
        return None

    def close(self) -> None:  # noqa: B027
        """Remove what `open` made."""


def refused(error: Exception) -> None:
    """Accept a LexLIPError: it is one line, and memory did not run out behind it."""
    line = str(error)
    assert "\n" not in line and line.strip(), f"not one line: {line!r:.300}"
    assert len(line) < 2000, f"a line of {len(line)} characters: {line:.300}"
    behind: BaseException | None = error
    while behind is not None:
        assert not isinstance(behind, MemoryError), f"out of memory: {line:.300}"
        behind = behind.__cause__

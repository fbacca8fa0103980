"""Progress of a build: who is told how far it is, and how often it commits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

CHUNK = 1024
"""Documents between two commits; a kill costs at most these."""


class Progress:
    """A bar on the terminal, with documents per second and the time left.

    A subclass tells somebody else. What a method raises ends the build; what was committed stays.

    Attributes
    ----------
    first, chunk : int
        Documents before the first commit of a new index (its scale is fitted to them), and
        between two commits then.
    """

    first = chunk = CHUNK
    _bar: Any = None

    def begin(self, total: int, unit: str = "document") -> None:
        """Start to count up to `total`."""
        from tqdm import tqdm

        self._bar = tqdm(total=total, desc="encoding", unit=unit, disable=None)

    def advance(self, count: int) -> None:
        """Count documents that are done: encoded, unchanged or skipped."""
        self._bar.update(count)

    def end(self) -> None:
        """Count no more."""
        self._bar.close()


_told: ContextVar[Progress | None] = ContextVar("_told", default=None)


def current() -> Progress:
    """Return who is told in this thread; by default a bar on the terminal."""
    return _told.get() or Progress()


@contextmanager
def telling(progress: Progress) -> Iterator[None]:
    """Tell somebody else of the builds inside of the block, in this thread.

    Examples
    --------
    >>> class Counter(Progress):
    ...     done = 0
    ...     def begin(self, total, unit="document"): ...
    ...     def advance(self, count): self.done += count
    ...     def end(self): ...
    >>> counter = Counter()
    >>> with telling(counter):
    ...     current().advance(3)
    >>> counter.done
    3
    """
    before = _told.set(progress)
    try:
        yield
    finally:
        _told.reset(before)

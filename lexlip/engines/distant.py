"""Engines on other machines: the error of one that cannot answer, and how long a thread waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from lexlip.errors import LexLIPError

_THREAD = threading.local()


class Unavailable(LexLIPError):
    """A distant engine cannot answer now, or not whole: the same may work in a moment."""


@runtime_checkable
class Distant(Protocol):
    """An engine that other machines keep."""

    def check_alive(self) -> None:
        """See that searches are answered whole.

        Raises
        ------
        LexLIPError
            When they are not.
        """

    def coming(self) -> list[str]:
        """Return the ids that commits added or replaced which are newer than what is shown."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Let this thread wait so long for distant engines in a block, retries and all together.

    A block inside another one ends no later than that.

    Examples
    --------
    >>> with within(20):
    ...     with within(30):
    ...         seconds_allowed(60)
    20
    """
    before = getattr(_THREAD, "until", None), getattr(_THREAD, "seconds", None)
    until = time.monotonic() + seconds
    if before[0] is None or until < before[0]:
        _THREAD.until, _THREAD.seconds = until, seconds
    try:
        yield
    finally:
        _THREAD.until, _THREAD.seconds = before


def seconds_left(otherwise: float) -> float:
    """Return the seconds that this thread may still wait; `otherwise` outside of `within`."""
    until = getattr(_THREAD, "until", None)
    return otherwise if until is None else max(0.0, min(otherwise, until - time.monotonic()))


def seconds_allowed(otherwise: float) -> float:
    """Return the seconds that `within` gave this thread; `otherwise` outside of it."""
    given = getattr(_THREAD, "seconds", None)
    return otherwise if given is None else min(given, otherwise)

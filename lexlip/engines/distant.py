"""Engines on other machines: options of a place, errors that pass, and how long a thread waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol, runtime_checkable
from urllib.parse import parse_qsl

from lexlip.errors import LexLIPError

LOOK = 1.0
"""Seconds after which a reader looks again whether its commit is whole."""

GRACE = 2.0
"""Seconds that a writer gives readers of older commits to look, before it drops their documents."""

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


def read_options(query: str, known: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    """Read the options of a place: what follows its question mark.

    Parameters
    ----------
    query : str
    known : mapping of str to (int, int)
        Least and most of each option.

    Raises
    ------
    LexLIPError
        For another option, or a number that is none of it.

    Examples
    --------
    >>> read_options("shards=3", {"shards": (1, 16)})
    {'shards': 3}
    """
    options: dict[str, int] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        least, most = known.get(key, (0, -1))
        if not (value.isascii() and value.isdigit() and least <= int(value[:9]) <= most):
            *some, last = (f"{name}={low}..{high}" for name, (low, high) in known.items())
            raise LexLIPError(
                f"{key}={value:.40} in the place of the engine: {', '.join(some)} and {last} are "
                "known"
            )
        options[key] = int(value)
    return options

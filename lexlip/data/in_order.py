"""Work of a few threads beside the caller, whose results come in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")

_MOST = 4
_limit = _MOST


def limit_threads(count: int) -> None:
    """Use at most `count` threads in each `in_order` of this process from now on."""
    global _limit
    _limit = max(1, min(count, _MOST))


def cores() -> int:
    """Return the number of cores that this process may use."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return found or 1


def thread_count() -> int:
    """Return the number of threads of `in_order`: one a core, up to 4, and up to the limit."""
    return min(cores(), _limit)


def in_order(work: Callable[[T], U], items: Sequence[T], ahead: int) -> Generator[U, None, None]:
    """Yield the result of `work` for each item, worked out by threads meanwhile.

    Close the iterator (`contextlib.closing`) when the rest is not wanted: what has not begun is
    cancelled, and what has begun is waited for.

    Parameters
    ----------
    work : callable
        Called in threads. What it raises is raised where its result would come; the items before
        have come by then.
    items : sequence
    ahead : int
        Results that may be ready, or in the making, before they are asked for.

    Examples
    --------
    >>> list(in_order(len, ["a", "bc", "def"], ahead=2))
    [1, 2, 3]
    """
    if len(items) < 2:
        yield from map(work, items)
        return
    pool = ThreadPoolExecutor(thread_count(), thread_name_prefix="lexlip-decoding")
    waiting: deque[Future[U]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def in_batches(
    work: Callable[[T], U], items: Sequence[T], size: int
) -> Generator[list[U], None, None]:
    """Yield the results of `in_order` in lists of `size`, the last of what is left.

    Examples
    --------
    >>> list(in_batches(len, ["a", "bc", "def"], 2))
    [[1, 2], [3]]
    """
    with closing(in_order(work, items, ahead=size)) as results:
        while some := list(islice(results, size)):
            yield some

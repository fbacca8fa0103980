"""A fair lock: many threads inside at once, changes while nobody is, in the order of arrival."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class FairLock:
    """A lock that threads share, except while what it guards changes.

    A thread that waits until the lock is empty holds the door, so later threads queue behind it: a
    stream of readers cannot starve a change.

    Examples
    --------
    >>> lock, state = FairLock(), ["old"]
    >>> with lock.shared(lambda: state == ["old"], lambda: state.append("new")):
    ...     state
    ['old', 'new']
    """

    def __init__(self) -> None:
        self._door = threading.Lock()
        self._left = threading.Condition()
        self._inside = 0

    @contextmanager
    def shared(self, stale: Callable[[], bool], renew: Callable[[], object]) -> Iterator[None]:
        """Hold the lock together with others.

        Parameters
        ----------
        stale
            Called at the door, by one thread at a time: whether a change comes first.
        renew
            Makes the change, while nobody is inside. An error that it raises is passed on, and the
            lock is not held.
        """
        with self._door:
            if stale():
                self._wait(None)
                renew()
            with self._left:
                self._inside += 1
        try:
            yield
        finally:
            with self._left:
                self._inside -= 1
                self._left.notify()  # only the thread at the door waits

    @contextmanager
    def alone(self, timeout: float | None = None) -> Iterator[bool]:
        """Hold the lock with nobody else inside.

        Yields
        ------
        bool
            False when others were still inside after `timeout` seconds.
        """
        with self._door:
            yield self._wait(timeout)

    def _wait(self, timeout: float | None) -> bool:
        """Wait until nobody is inside; call it with the door held."""
        with self._left:
            return self._left.wait_for(lambda: not self._inside, timeout)

"""Worker threads of the server, limited in number and in time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from lexlip.engines.distant import within
from lexlip.server.failures import Refused
from lexlip.server.settings import Settings

T = TypeVar("T")
_SHARE = 0.9
"""Of the time of a request, for a distant engine: that it is silent is said before time is up."""


class Workers:
    """A pool of threads.

    A thread cannot be stopped: work that takes too long is answered for and ends by itself, on a
    thread that is busy until then. So threads never become more than they are allowed to be.
    """

    def __init__(self, settings: Settings) -> None:
        self._seconds = settings.seconds
        self._most = settings.threads + settings.waiting
        self._pool = ThreadPoolExecutor(settings.threads, thread_name_prefix="lexlip")
        self._threads = settings.threads
        self._lock = threading.Lock()
        self._taken = 0
        self._begun: dict[int, float] = {}  # by thread

    async def run(self, work: Callable[..., T], *args: Any) -> T:
        """Return the result of the work.

        Raises
        ------
        Refused
            503 when too many wait, 504 when the time is over.
        """
        until = time.monotonic() + _SHARE * self._seconds

        def in_time() -> T:
            with within(max(0.0, until - time.monotonic())):
                return work(*args)

        try:
            return await asyncio.wait_for(self.finish(in_time), self._seconds)
        except TimeoutError:
            raise Refused(
                504, f"this took over {self._seconds:g} s: ask for less, or try again"
            ) from None

    async def finish(self, work: Callable[..., T], *args: Any) -> T:
        """Return the result of the work, however long it takes: a change is never half done.

        Raises
        ------
        Refused
            503 when too many wait.
        """
        with self._lock:
            if self._taken >= self._most:
                raise Refused(503, "the server is busy: try again in a moment")
            self._taken += 1
        future = self._pool.submit(self._timed, work, *args)
        future.add_done_callback(self._done)
        return await asyncio.wrap_future(future)

    @property
    def blocked(self) -> bool:
        """Whether every thread is busy with work whose time has been over for as long again."""
        before = time.monotonic() - 2 * self._seconds
        with self._lock:
            return sum(begun < before for begun in self._begun.values()) >= self._threads

    def _timed(self, work: Callable[..., T], *args: Any) -> T:
        thread = threading.get_ident()
        with self._lock:
            self._begun[thread] = time.monotonic()
        try:
            return work(*args)
        finally:
            with self._lock:
                del self._begun[thread]

    def _done(self, future: Any) -> None:
        with self._lock:
            self._taken -= 1

    def close(self) -> None:
        """Start nothing new."""
        self._pool.shutdown(wait=False, cancel_futures=True)

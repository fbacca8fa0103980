"""Worker threads of the server, limited in number and in time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from lexlip.server.failures import Refused
from lexlip.server.settings import Settings

T = TypeVar("T")


class Workers:
    """A pool of threads.

    A thread cannot be stopped: work that takes too long is answered for and ends by itself, on a
    thread that is busy until then. So threads never become more than they are allowed to be.
    """

    def __init__(self, settings: Settings) -> None:
        self._seconds = settings.seconds
        self._most = settings.threads + settings.waiting
        self._pool = ThreadPoolExecutor(settings.threads, thread_name_prefix="lexlip")
        self._lock = threading.Lock()
        self._taken = 0

    async def run(self, work: Callable[..., T], *args: Any) -> T:
        """Return the result of the work.

        Raises
        ------
        Refused
            503 when too many wait, 504 when the time is over.
        """
        try:
            return await asyncio.wait_for(self.finish(work, *args), self._seconds)
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
        future = self._pool.submit(work, *args)
        future.add_done_callback(self._done)
        return await asyncio.wrap_future(future)

    def _done(self, future: Any) -> None:
        with self._lock:
            self._taken -= 1

    def close(self) -> None:
        """Start nothing new."""
        self._pool.shutdown(wait=False, cancel_futures=True)

"""A log that a flood of requests does not fill: each kind of line some times a minute."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

LOGGERS = (
    "uvicorn.error", "asyncio", "python_multipart.multipart", "lexlip.server.served_index",
    "lexlip.server.picture_files",
)  # fmt: skip
"""Loggers whose lines clients can provoke, or that repeat with every request."""


class Calm(logging.Filter):
    """Lets lines of one kind, from one place in the code, pass some times a minute.

    Parameters
    ----------
    most : int
        Lines of a kind, every `seconds`.
    seconds : float
    clock : callable
        Seconds.
    """

    def __init__(
        self, most: int = 20, seconds: float = 60.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._most, self._seconds, self._clock = most, seconds, clock
        self._seen: dict[tuple[str, int], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether a line passes; the first one after a silence tells how many did not."""
        kind, now = (record.pathname, record.lineno), self._clock()
        since, count = self._seen.get(kind, (now, 0))
        if now - since >= self._seconds:
            if count > self._most:
                record.msg = f"{record.msg} (and {count - self._most:,} more such lines before)"
            since, count = now, 0
        self._seen[kind] = since, count + 1
        return count < self._most


SILENT = "opensearch"
"""A client that warns of each try, with a traceback: what comes of it is told by ours."""


def calm() -> None:
    """Let the loggers that requests can flood be calm, once."""
    logging.getLogger(SILENT).setLevel(logging.ERROR)
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(it, Calm) for it in logger.filters):
            logger.addFilter(Calm())

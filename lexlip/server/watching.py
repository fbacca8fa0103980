"""A watch over a distant engine: a look a second, in place of one per search."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from lexlip.engines.distant import Unavailable, within
from lexlip.errors import LexLIPError

log = logging.getLogger(__name__)

EVERY = 1.0
"""Seconds between two looks: other processes' commits are seen that late."""

PATIENCE = 10.0
"""Seconds that a look may take."""


class Watch:
    """A thread that looks at an engine, and knows whether it answers.

    Parameters
    ----------
    look : callable
        Looks for news and goes on to them; a LexLIPError says that the engine is away.

    """

    def __init__(self, look: Callable[[], object]) -> None:
        self._look = look
        self._away: tuple[float, str] | None = None
        self._looking = threading.Lock()
        self._wake, self._end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="lexlip-watch", daemon=True)

    def start(self) -> None:
        """Begin; twice is fine."""
        if self._thread.ident is None:
            self._thread.start()

    @property
    def away(self) -> bool:
        """Whether the engine did not answer at the last look."""
        return self._away is not None

    def check(self) -> None:
        """Raise where the engine is away, before a thread waits for it in vain.

        Raises
        ------
        Unavailable
        """
        if away := self._away:
            raise Unavailable(away[1])

    def doubt(self) -> None:
        """Let the thread look at once: a request failed."""
        self._wake.set()

    def look(self) -> None:
        """Look now, in this thread."""
        with self._looking:
            try:
                with within(PATIENCE):
                    self._look()
            except LexLIPError as error:
                if self._away is None:
                    log.warning(
                        "the engine is away, searches are answered with 503 until it is back: %s",
                        error,
                    )
                since = self._away[0] if self._away else time.monotonic()
                self._away = since, str(error)
            else:
                if self._away is not None:
                    seconds = time.monotonic() - self._away[0]
                    log.warning("the engine is back after %.1f s", seconds)
                self._away = None

    def _run(self) -> None:
        while not self._end.is_set():
            self._wake.wait(EVERY)
            self._wake.clear()
            if self._end.is_set():
                return
            try:
                self.look()
            except Exception:  # the next look comes all the same
                log.exception("looking at the engine failed")

    def stop(self) -> None:
        """End the thread, unless it waits for the engine: it ends by itself then."""
        self._end.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(2)

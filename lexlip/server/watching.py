"""A watch over what is elsewhere: a look a second at an engine, in place of one per search."""

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
    """A thread that looks at something elsewhere, and knows whether it answers.

    Parameters
    ----------
    look : callable
        Looks for news and goes on to them; a LexLIPError says that what it looks at is away.
    lost, back : str
        Lines of the log: when it went away, and when it is back.
    every : callable
        Seconds between two looks.
    """

    def __init__(
        self,
        look: Callable[[], object],
        lost: str = "the engine is away, searches are answered with 503 until it is back",
        back: str = "the engine is back",
        every: Callable[[], float] = lambda: EVERY,
    ) -> None:
        self._look, self._lost, self._back, self._every = look, lost, back, every
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
        """Whether there was no answer at the last look."""
        return self._away is not None

    def check(self) -> None:
        """Raise where it is away, before a thread waits for it in vain.

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
                    log.warning("%s: %s", self._lost, error)
                since = self._away[0] if self._away else time.monotonic()
                self._away = since, str(error)
            else:
                if self._away is not None:
                    seconds = time.monotonic() - self._away[0]
                    log.warning("%s after %.1f s", self._back, seconds)
                self._away = None

    def _run(self) -> None:
        while not self._end.is_set():
            self._wake.wait(self._every())
            self._wake.clear()
            if self._end.is_set():
                return
            try:
                self.look()
            except Exception:  # the next look comes all the same
                log.exception("a look failed")

    def stop(self) -> None:
        """End the thread, unless it waits for an answer: it ends by itself then."""
        self._end.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(2)

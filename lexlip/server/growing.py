"""Growth: pictures are added in the background, while the index is served."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from lexlip.errors import LexLIPError

log = logging.getLogger(__name__)

_WINDOW = 20.0  # seconds that the speed is measured over
_PATIENCE = 30.0  # seconds that a job gets to stop

State = Literal["indexing", "done", "stopped", "failed"]


@dataclass(frozen=True)
class Growth:
    """How far a job is that adds pictures.

    Attributes
    ----------
    state : str
        "indexing", "done", "stopped" or "failed".
    done, total : int
        Pictures that were worked on, of all.
    per_second : float or None
        Pictures a second of late; None until that is known.
    seconds_left : float or None
        At that speed.
    skipped : int
        Pictures that could not be read, and the like.
    message : str or None
        Why it failed.
    """

    state: State = "indexing"
    done: int = 0
    total: int = 0
    per_second: float | None = None
    seconds_left: float | None = None
    skipped: int = 0
    message: str | None = None


class Progress:
    """What a job tells of itself, and what it is told.

    Attributes
    ----------
    stopped : threading.Event
        Set when the server shuts down: the job then ends after what it is doing.

    Examples
    --------
    >>> progress = Progress()
    >>> progress.report(412, 2000, skipped=3)
    >>> progress.growth().done, progress.growth().total, progress.growth().skipped
    (412, 2000, 3)
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.stopped = threading.Event()
        self._clock = clock
        self._lock = threading.Lock()
        self._done = self._total = self._skipped = 0
        self._state: State = "indexing"
        self._message: str | None = None
        self._steps: deque[tuple[float, int]] = deque()

    def report(self, done: int, total: int, skipped: int = 0) -> None:
        """Tell how many pictures of how many were worked on, and how many of them were skipped.

        The first report is the point from which the speed is measured: what was there before a job
        began does not make it fast.
        """
        now = self._clock()
        with self._lock:
            self._done, self._total, self._skipped = done, total, skipped
            self._steps.append((now, done))
            while len(self._steps) > 2 and now - self._steps[0][0] > _WINDOW:
                self._steps.popleft()

    def end(self, state: State, message: str | None = None) -> None:
        """Tell how the job ended."""
        with self._lock:
            self._state, self._message = state, message

    def growth(self) -> Growth:
        """Return how far the job is."""
        with self._lock:
            speed = left = None
            if self._state == "indexing" and len(self._steps) > 1:
                (begun, first), (last, done) = self._steps[0], self._steps[-1]
                if last > begun and done > first:
                    speed = (done - first) / (last - begun)
                    left = max(0.0, (self._total - done) / speed - (self._clock() - last))
            return Growth(
                self._state, self._done, self._total, speed, left, self._skipped, self._message
            )


Job = Callable[[Progress], None]
"""Adds pictures through a writer of its own (``Index.open(path, model, "w")``)."""


class Grower:
    """Runs a job in a thread of its own.

    Parameters
    ----------
    job : Job, optional
        None never runs, and there is no growth.
    """

    def __init__(self, job: Job | None) -> None:
        self._job = job
        self._progress = Progress()
        self._thread: threading.Thread | None = None

    @property
    def growth(self) -> Growth | None:
        """How far the job is; None without one."""
        return None if self._job is None else self._progress.growth()

    @property
    def busy(self) -> bool:
        """Whether the job may be writing now."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Start the job."""
        if self._job is not None and self._thread is None:
            # A daemon: what a killed writer did not commit is lost, and nothing else.
            self._thread = threading.Thread(
                target=self._run, args=(self._job,), name="lexlip-grower", daemon=True
            )
            self._thread.start()

    def _run(self, job: Job) -> None:
        progress = self._progress
        try:
            job(progress)
        except LexLIPError as error:
            log.warning("pictures are no longer added: %s", error)
            progress.end("failed", str(error))
        except Exception:
            log.exception("pictures are no longer added")
            progress.end("failed", "adding pictures failed: the server's log says why")
        else:
            progress.end("stopped" if progress.stopped.is_set() else "done")

    def stop(self) -> None:
        """Ask the job to stop, and wait until it has."""
        self._progress.stopped.set()
        if self._thread is not None:
            self._thread.join(_PATIENCE)
            if self._thread.is_alive():
                log.warning("the job that adds pictures does not stop: it is left behind")

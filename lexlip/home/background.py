"""Following folders in the background, while their index is served."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from lexlip.build.manifest import is_index
from lexlip.errors import LexLIPError
from lexlip.home.follow import Following, Often, follow
from lexlip.home.places import place_of

log = logging.getLogger(__name__)

_EVERY = 60.0
"""Seconds between two looks at folders that are served."""


class Listener(Protocol):
    """Somebody who is told how far it is: `lexlip.server.growing.Progress`."""

    stopped: threading.Event

    def report(self, done: int, total: int, skipped: int = 0) -> None:
        """Tell how many pictures of how many are done."""


class Stopped(Exception):
    """Raised in a build that is to end."""


class _Relay(Often):
    """A bar on the terminal until somebody listens, and then whoever listens."""

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self.listener: Listener | None = None
        self._done = self._total = 0

    def begin(self, total: int, unit: str = "document") -> None:
        """Start to count up to `total`."""
        self._done, self._total = 0, total
        super().begin(total, unit)
        self._tell()

    def advance(self, count: int) -> None:
        """Count documents that are done."""
        if self.stopped.is_set() or (self.listener is not None and self.listener.stopped.is_set()):
            raise Stopped
        self._done += count
        if self.listener is None:
            super().advance(count)
        self._tell()

    def end(self) -> None:
        """Count no more."""
        super().end()

    def listen(self, listener: Listener) -> None:
        """Tell somebody from now on, and leave the terminal alone."""
        super().end()
        self.listener = listener
        self._tell()

    def _tell(self) -> None:
        if self.listener is not None:
            self.listener.report(self._done, self._total)


class Background:
    """Folders that are followed by a thread: their index is made, or brought up to date.

    Parameters
    ----------
    folders, index, model
        As for `lexlip.home.follow.follow`.
    say : callable
        Is told what takes a while.

    Examples
    --------
    >>> following = Background(["photos"])                          # doctest: +SKIP
    >>> following.wait()                                            # doctest: +SKIP
    PosixPath('/home/me/.local/share/lexlip/indexes/photos-1f0c/index')
    """

    def __init__(
        self,
        folders: Sequence[str | os.PathLike[str]],
        index: str | os.PathLike[str] | None = None,
        model: str | None = None,
        say: Callable[[str], Any] = lambda line: None,
    ) -> None:
        self._given = (list(folders), index, model)
        self.index: Path = place_of(folders, index, model).index
        self._say, self._relay = say, _Relay()
        self._error: BaseException | None = None
        self.following: Following | None = None
        self._thread = threading.Thread(target=self._run, name="lexlip-following", daemon=True)

    def _run(self) -> None:
        folders, index, model = self._given
        try:
            self.following = follow(folders, index, model, self._relay, self._say)
        except Stopped:
            pass
        except BaseException as error:  # raised again where it is waited for
            self._error = error

    def wait(self) -> Path:
        """Start, and return the index as soon as it can be searched.

        Raises
        ------
        LexLIPError
            As `follow`.
        """
        self._thread.start()
        try:
            while self._thread.is_alive() and not is_index(self.index):
                time.sleep(0.05)
        except BaseException:
            self._relay.stopped.set()
            self._thread.join()
            raise
        self._raise()
        return self.index

    def job(self, listener: Listener) -> None:
        """Go on while the index is served; a `lexlip.server.growing.Job`."""
        self._relay.listen(listener)
        self._thread.join()
        self._raise()
        if not listener.stopped.is_set():
            threading.Thread(target=self._watch, args=(listener,), daemon=True).start()

    def _watch(self, listener: Listener) -> None:
        """Look at the folders again, now and then."""
        folders, index, model = self._given
        while not listener.stopped.wait(_EVERY):
            try:
                follow(folders, index, model, _Silent())
            except (LexLIPError, OSError) as error:  # a disk that is away may come back
                log.warning("the folders cannot be looked at: %s", error)

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error


class _Silent(Often):
    """Progress that nobody is told."""

    def begin(self, total: int, unit: str = "document") -> None:
        """Tell nobody."""

    def advance(self, count: int) -> None:
        """Tell nobody."""

    def end(self) -> None:
        """Tell nobody."""

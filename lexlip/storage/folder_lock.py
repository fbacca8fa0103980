"""A folder's one writer: a lock that the system releases when its owner dies, and a name."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

from lexlip.errors import LexLIPError

LOCK = "LOCK"
OWNER = "OWNER"
"""The name is in a file of its own: on Windows nobody else can read a file that is locked."""


T = TypeVar("T")


class InUse(LexLIPError):
    """Somebody else writes."""


_WAIT = 60.0
"""Seconds that a replacement waits for writers: a commit takes less."""


def identity(folder: Path) -> tuple[int, int] | None:
    """Return what tells a folder from another one at its place, None for no folder."""
    try:
        facts = os.stat(folder)
    except OSError:
        return None
    return facts.st_dev, facts.st_ino


@contextmanager
def without_writers(path: Path, first: str) -> Iterator[None]:
    """Hold the locks of all folders in `path`, so that nobody writes while it is replaced.

    A writer finds what it writes to by its name: beside a replacement it would write into the new
    folder, and remove there what it does not know.

    Parameters
    ----------
    path : Path
        May be missing.
    first : str
        Name of the folder that writers lock first.

    Raises
    ------
    LexLIPError
        When a writer does not end.
    """
    names = sorted(path.glob(f"*/{LOCK}"), key=lambda it: (it.parent.name != first, it))
    with ExitStack() as held:
        for name in names:
            held.callback(FolderLock(name.parent, _WAIT).release)
        yield


def patiently(opening: Callable[[], T]) -> T:
    """Return what `opening` opens for writing, after another writer had its turn."""
    end = time.monotonic() + _WAIT
    while True:
        try:
            return opening()
        except InUse:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


class FolderLock:
    """The lock of a folder, held until `release` or the end of the process, however it ends.

    Parameters
    ----------
    folder
        Must be there.
    wait
        Seconds to wait for another owner.

    Raises
    ------
    LexLIPError
        When another process, or another object of this one, has it: it is named. When the folder
        is replaced at this moment.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> lock = FolderLock(folder)
    >>> FolderLock(folder)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    lexlip.storage.folder_lock.InUse: ... is open for writing elsewhere (process ...): close ...
    >>> lock.release()
    >>> FolderLock(folder).release()
    """

    def __init__(self, folder: Path, wait: float = 0.0) -> None:
        self._folder, self._owner = folder, folder / OWNER
        self._home = identity(folder)
        # thread_local: whoever closes an index may be another thread than who opened it.
        self._lock = FileLock(
            folder / LOCK, thread_local=False, fallback_to_soft=False, poll_interval=0.02
        )
        try:
            self._lock.acquire(timeout=wait)
        except Timeout:
            owner = ""
            with suppress(OSError):
                owner = self._owner.read_text("utf-8", "replace").strip()
            raise InUse(
                f"{folder} is open for writing elsewhere ({owner or 'owner unknown'}): "
                "close that engine or process first"
            ) from None
        try:
            self.check()
            since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
            owner = f"process {os.getpid()} on {socket.gethostname()} since {since}\n"
            self._owner.unlink(missing_ok=True)  # of a killed process, perhaps another user's
            with open(self._owner, "xb") as file:  # a new file: a link there is never followed
                file.write(owner.encode())
        except BaseException:
            self.release()
            raise

    @property
    def moved(self) -> bool:
        """Whether another folder has taken the place of the one that was locked."""
        return identity(self._folder) != self._home

    def check(self) -> None:
        """Raise a LexLIPError where another folder has taken this one's place."""
        if self.moved:
            raise LexLIPError(f"{self._folder} was replaced meanwhile: open it again")

    def release(self) -> None:
        """Let the next writer in. LOCK stays: removing it could remove a newer lock."""
        try:
            with suppress(OSError):
                if self.moved:
                    return
                nofollow = getattr(os, "O_NOFOLLOW", 0)
                os.close(os.open(self._owner, os.O_WRONLY | os.O_TRUNC | nofollow))
        finally:
            self._lock.release()


def locked(path: Path) -> FolderLock:
    """Lock a folder, which is made where it is missing.

    Of engines whose own lock, if any, names no owner: a replacement of the index cannot hold it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        return FolderLock(path)
    except OSError as error:
        raise LexLIPError(
            f"{path} cannot be opened for writing: {error.strerror or error}"
        ) from None

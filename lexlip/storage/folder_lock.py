"""A folder's one writer: a lock that the system releases when its owner dies, and a name."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from lexlip.errors import LexLIPError

LOCK = "LOCK"
OWNER = "OWNER"
"""The name is in a file of its own: on Windows nobody else can read a file that is locked."""


class FolderLock:
    """The lock of a folder, held until `release` or the end of the process, however it ends.

    Parameters
    ----------
    folder
        Must be there.

    Raises
    ------
    LexLIPError
        When another process, or another object of this one, has it: it is named.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> lock = FolderLock(folder)
    >>> FolderLock(folder)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    lexlip.errors.LexLIPError: ... is open for writing elsewhere (process ...): close that ...
    >>> lock.release()
    >>> FolderLock(folder).release()
    """

    def __init__(self, folder: Path) -> None:
        self._owner = folder / OWNER
        # thread_local: whoever closes an index may be another thread than who opened it.
        self._lock = FileLock(folder / LOCK, thread_local=False, fallback_to_soft=False)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            owner = ""
            with suppress(OSError):
                owner = self._owner.read_text("utf-8", "replace").strip()
            raise LexLIPError(
                f"{folder} is open for writing elsewhere ({owner or 'owner unknown'}): "
                "close that engine or process first"
            ) from None
        try:
            since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
            owner = f"process {os.getpid()} on {socket.gethostname()} since {since}\n"
            self._owner.unlink(missing_ok=True)  # of a killed process, perhaps another user's
            with open(self._owner, "xb") as file:  # a new file: a link there is never followed
                file.write(owner.encode())
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let the next writer in. LOCK stays: removing it could remove a newer lock."""
        try:
            with suppress(OSError):
                nofollow = getattr(os, "O_NOFOLLOW", 0)
                os.close(os.open(self._owner, os.O_WRONLY | os.O_TRUNC | nofollow))
        finally:
            self._lock.release()

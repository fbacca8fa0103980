"""Pictures of a folder behind a URL: fetched one by one, by their names."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import PurePosixPath
from urllib.parse import quote

from lexlip.errors import LexLIPError
from lexlip.storage.remote import Facts, Remote, Unreachable, is_remote

MAX_BYTES = 128 * 2**20
"""Of one picture."""

KEPT = 64 * 2**20
"""Bytes of pictures that are kept: one of a page is asked for several times."""

_FILES = (".tar", ".gz", ".tgz", ".parquet", ".csv", ".tsv", ".json", ".jsonl")
_PATTERN = set("*?[{")


def is_url_folder(path: str) -> bool:
    """Say whether a place is a URL of a folder of pictures, by its name.

    Examples
    --------
    >>> is_url_folder("s3://bucket/photos"), is_url_folder("s3://bucket/a-{00..99}.tar")
    (True, False)
    """
    if not is_remote(path) or _PATTERN & set(path):
        return False
    return not Remote(path).name.lower().endswith(_FILES)


class UrlFolder:
    """A folder behind a URL.

    Parameters
    ----------
    url : str
    kept : int
        Bytes of pictures that are kept, as long as size, date and etag stay.

    Examples
    --------
    >>> Remote("memory://holiday/beach/a.jpg").write(b"bytes")
    >>> UrlFolder("memory://holiday").find("beach/a.jpg")
    b'bytes'
    """

    def __init__(self, url: str, kept: int = KEPT) -> None:
        self._remote, self._most = Remote(url), kept
        self._lock = threading.Lock()
        self._held: OrderedDict[str, tuple[Facts, bytes]] = OrderedDict()
        self._bytes = 0

    def find(self, below: str) -> bytes | None:
        """Return the bytes of a picture by its path in the folder, None where there is none.

        Raises
        ------
        LexLIPError
            For one that is too large; of the kind `Unreachable` when the service refuses or is
            silent.
        """
        parts = PurePosixPath(below)
        if parts.is_absolute() or ".." in parts.parts or "\\" in below or "\0" in below:
            return None
        web = self._remote.scheme in ("http", "https")
        file = self._remote / (quote(below) if web else below)
        try:
            facts = file.facts()
            with self._lock:
                held = self._held.get(below)
            if held is not None and held[0] == facts and (facts.etag or facts.modified):
                return held[1]
            if (facts.size or 0) <= MAX_BYTES:
                found = file.read(0, MAX_BYTES + 1) if facts.size is None else file.read()
                if len(found) <= MAX_BYTES:
                    self._keep(below, facts, found)
                    return found
        except Unreachable:
            raise
        except LexLIPError:
            return None
        raise LexLIPError(f"{file}: over {MAX_BYTES:,} bytes are too large to send: reduce it")

    def _keep(self, below: str, facts: Facts, found: bytes) -> None:
        if len(found) > self._most // 4:
            return
        with self._lock:
            if (old := self._held.pop(below, None)) is not None:
                self._bytes -= len(old[1])
            self._held[below] = facts, found
            self._bytes += len(found)
            while self._bytes > self._most:
                self._bytes -= len(self._held.popitem(last=False)[1][1])

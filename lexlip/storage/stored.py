"""A picture that is no file of its own here: behind a URL, in a tar, in a table."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass

from lexlip.errors import LexLIPError
from lexlip.storage.remote import Remote

MAX_BYTES = 128 * 1024 * 1024
"""Of one picture."""

_DIGEST = 16


@functools.lru_cache(4096)
def place(url: str) -> Remote:
    """Return the place of a URL: one for all threads, so that connections are kept."""
    return Remote(url)


@dataclass(frozen=True)
class Stored:
    """Where a picture is, and what is known of it without reading it.

    Attributes
    ----------
    url : str
        Of the picture, or of the file that holds it.
    size : int or None
        Bytes of the picture.
    modified : int
        Date of the file, nanoseconds since 1970; 0 where it is unknown.
    etag : str
        Of the file; empty where there is none.
    inside : str
        Where the picture is in the file; empty for a whole file.

    Examples
    --------
    >>> Remote("memory://stored/a.jpg").write(b"bytes")
    >>> Stored("memory://stored/a.jpg").read()
    b'bytes'
    """

    url: str
    size: int | None = None
    modified: int = 0
    etag: str = ""
    inside: str = ""

    def __str__(self) -> str:
        """Return the address, as errors call the picture."""
        return f"{place(self.url)}/{self.inside}" if self.inside else str(place(self.url))

    def read(self) -> bytes:
        """Return the bytes of the picture; threads may call this.

        Raises
        ------
        LexLIPError
            When it is missing, changed or too large; `lexlip.storage.remote.Unreachable` when its
            service refuses or does not answer.
        """
        if (self.size or 0) <= MAX_BYTES:
            found = self._bytes()
            if len(found) <= MAX_BYTES:
                return found
        raise LexLIPError(f"{self}: over {MAX_BYTES:,} bytes are no picture to decode: reduce it")

    def _bytes(self) -> bytes:
        return place(self.url).read(0, MAX_BYTES + 1)

    def stamp(self) -> bytes | None:
        """Return 16 bytes that differ when the content does, without reading it; None without."""
        if not self.etag:
            return None
        told = "\0".join((self.url, self.etag, self.inside))
        return hashlib.blake2b(
            told.encode("utf-8", "surrogateescape"), digest_size=_DIGEST
        ).digest()

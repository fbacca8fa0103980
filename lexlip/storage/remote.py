"""Files behind a URL: s3://, gs://, hdfs://, https://, file:// and whatever else fsspec reaches.

Keys, endpoints and regions are taken from where each service's own programs take them, and from
fsspec's configuration (``FSSPEC_S3_ENDPOINT_URL=http://127.0.0.1:9000``).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import IO, Any

from lexlip.errors import LexLIPError, require

TIMEOUT = 60
"""Seconds that a service may be silent."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://.")
_MANGLED = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/{1,2}[^/]")
_LOGIN = re.compile(r"(?<=://)[^/@]*@")
_HTTP = ("http", "https")
_DATES = ("lastmodified", "mtime", "updated", "created")
_PACKAGES = {"http": "aiohttp", "https": "aiohttp", "hdfs": "pyarrow"}


class Unreachable(LexLIPError):
    """A service that refuses, or does not answer: it says nothing about the file itself."""


@dataclass(frozen=True)
class Facts:
    """Facts of a file, as far as its service tells them.

    Attributes
    ----------
    url : str
    size : int or None
        Bytes.
    modified : int
        Nanoseconds since 1970; 0 where it is unknown.
    etag : str
        What changes with the content; empty where there is no such thing.
    """

    url: str
    size: int | None
    modified: int = 0
    etag: str = ""


def is_remote(text: object) -> bool:
    """Say whether this is a URL of a file or a folder, and no local path.

    Examples
    --------
    >>> is_remote("s3://bucket/photos"), is_remote("photos"), is_remote("C:\\\\photos")
    (True, False, False)
    """
    return isinstance(text, str) and bool(_URL.match(text))


def check_local(path: str | os.PathLike[str]) -> None:
    """Raise for a URL where only a folder of this machine will do.

    A `pathlib.Path` of a URL has lost one of its slashes, and is known all the same.

    Examples
    --------
    >>> check_local("photos.lex")
    >>> check_local("s3://bucket/photos.lex")
    Traceback (most recent call last):
    lexlip.errors.LexLIPError: s3://bucket/photos.lex is a URL: give a folder of this machine
    """
    text = os.fspath(path)
    if _MANGLED.match(text) and not os.path.lexists(text):
        scheme, _, rest = text.partition(":")
        raise LexLIPError(
            f"{shown(scheme + '://' + rest.lstrip('/'))} is a URL: give a folder of this machine"
        )


def shown(url: str) -> str:
    """Return a URL without the name and the password in it.

    Examples
    --------
    >>> shown("https://me:secret@example.com/a.tar")
    'https://example.com/a.tar'
    """
    return _LOGIN.sub("", url)


@dataclass(frozen=True)
class Remote:
    """A file or a folder behind a URL. Threads may share one.

    Parameters
    ----------
    url : str

    Raises
    ------
    LexLIPError
        From all methods: there is no such file; of the kind `Unreachable`, access is refused or
        the service does not answer. When it is first used: a package is missing, or the scheme
        is unknown.

    Examples
    --------
    >>> place = Remote("memory://photos") / "a.txt"
    >>> place.write(b"text")
    >>> place.read(), place.read(1, 2), place.facts().size
    (b'text', b'ex', 4)
    >>> [facts.url for facts in Remote("memory://photos").files()]
    ['memory://photos/a.txt']
    """

    url: str

    def __truediv__(self, name: str) -> Remote:
        """Return the file or folder of this name in this folder."""
        return Remote(f"{self.url.rstrip('/')}/{name}")

    def __str__(self) -> str:
        """Return the URL, without a password."""
        return shown(self.url)

    @property
    def name(self) -> str:
        """The last part of the path, without a query behind it."""
        path = re.split(r"[?#]", self.url)[0] if self.scheme in _HTTP else self.url
        return path.rstrip("/").rpartition("/")[2]

    @property
    def scheme(self) -> str:
        """What the URL begins with, in small letters."""
        return self.url.partition("://")[0].lower()

    @cached_property
    def filesystem(self) -> Any:
        """The fsspec file system of this URL."""
        return self._found[0]

    @cached_property
    def path(self) -> str:
        """Where it is in the file system."""
        return str(self._found[1])

    @cached_property
    def _found(self) -> tuple[Any, str]:
        require("fsspec")
        import fsspec

        if "::" in self.url:
            raise LexLIPError(f"{self}: a chain of URLs is not read: give one URL")
        try:
            scheme, _, rest = self.url.partition("://")
            options = {"use_listings_cache": False, **_patience(self.scheme)}
            found: tuple[Any, str] = fsspec.url_to_fs(f"{scheme.lower()}://{rest}", **options)
            return found
        except LexLIPError:
            raise
        except ImportError as error:
            raise _missing(self.scheme, error) from None
        except ValueError as error:
            if "not known" in str(error):
                raise LexLIPError(
                    f"{self}: {self.scheme}:// is unknown: give s3://, gs://, hdfs://, https:// or "
                    "a path"
                ) from None
            raise LexLIPError(f"{self} is no URL ({_reason(error)})") from None
        except Exception as error:
            raise _told(self.url, error) from error

    def open(self) -> IO[bytes]:
        """Open for reading; see `telling` for what reading raises."""
        with telling(self.url):
            opened: IO[bytes] = self.filesystem.open(self.path, "rb")
            return opened

    def read(self, start: int = 0, size: int | None = None) -> bytes:
        """Read the whole file, or `size` bytes from `start` on."""
        with telling(self.url):
            if size is None and not start:
                return bytes(self.filesystem.cat_file(self.path))
            end = None if size is None else start + size
            found = bytes(self.filesystem.cat_file(self.path, start=start, end=end))
            if size is not None and len(found) > size:  # HTTP may ignore what was asked for
                raise Unreachable(f"{self}: the server sends whole files only: take another one")
            return found

    def write(self, data: bytes) -> None:
        """Write a file in full; folders above it are made where the service has folders."""
        with telling(self.url, "written"):
            self.filesystem.makedirs(self.filesystem._parent(self.path), exist_ok=True)
            self.filesystem.pipe_file(self.path, data)

    def remove(self) -> None:
        """Remove a file, or a folder with all that is in it; a missing one is fine."""
        with telling(self.url, "removed"):
            if self.filesystem.exists(self.path):
                self.filesystem.rm(self.path, recursive=True)

    def facts(self) -> Facts:
        """Return size, date and etag of a file."""
        with telling(self.url):
            return _facts(self.url, self.filesystem.info(self.path))

    def is_folder(self) -> bool:
        """Say whether it is a folder with something in it."""
        with telling(self.url):
            return bool(self.filesystem.isdir(self.path))

    def exists(self) -> bool:
        """Say whether there is such a file."""
        try:
            self.facts()
        except Unreachable:
            raise
        except LexLIPError:
            return False
        return True

    def files(self) -> list[Facts]:
        """Return the files in a folder and below it, in the order of their URLs."""
        with telling(self.url):
            found = self.filesystem.find(self.path, detail=True)
        if not found and not self.exists():
            raise LexLIPError(f"{self} does not exist, or is empty: check its name")
        return [self._below(path, found[path]) for path in sorted(found)]

    def matching(self) -> list[Facts]:
        """Return the files that match a URL with ``*`` or ``?`` in it."""
        with telling(self.url):
            found = self.filesystem.glob(self.path, detail=True)
        return [self._below(path, info) for path, info in sorted(found.items())
                if info.get("type") != "directory"]  # fmt: skip

    def _below(self, path: str, info: Mapping[str, Any]) -> Facts:
        url, own = self.url.rstrip("/"), self.path.rstrip("/")
        inside = url.endswith(own)  # the host of hdfs:// is in no path
        whole = url.removesuffix(own) + path if inside else self.filesystem.unstrip_protocol(path)
        return _facts(str(whole), info)


@contextmanager
def telling(url: str, done: str = "read") -> Iterator[None]:
    """Turn what a file system raises within the block into one line about a URL.

    Raises
    ------
    LexLIPError
        `Unreachable` unless the file is missing.
    """
    try:
        yield
    except LexLIPError:
        raise
    except Exception as error:
        raise _told(url, error, done) from error


def _patience(scheme: str) -> dict[str, Any]:
    """Return the options of a file system that end a wait for ever."""
    if scheme in _HTTP:
        require("aiohttp")
        import aiohttp

        limits = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT, sock_read=TIMEOUT)
        return {"client_kwargs": {"timeout": limits}}
    if scheme in ("s3", "s3a"):
        return {"config_kwargs": {"connect_timeout": TIMEOUT, "read_timeout": TIMEOUT}}
    return {}


def _missing(scheme: str, error: ImportError) -> LexLIPError:
    from fsspec.registry import known_implementations

    known = known_implementations.get(scheme, {}).get("class", "")
    package = _PACKAGES.get(scheme) or known.partition(".")[0]
    if package in ("", "fsspec"):
        return LexLIPError(f"{scheme}:// cannot be read here: {_reason(error)}")
    return LexLIPError(f"{scheme}:// needs {package}: pip install {package}")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception, and those that led to it: the innermost knows best."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _told(url: str, error: BaseException, done: str = "read") -> LexLIPError:
    causes = list(_causes(error))
    names = {kind.__name__ for cause in causes for kind in type(cause).__mro__}
    status = next((it for c in causes if isinstance(it := getattr(c, "status", None), int)), 0)
    if "PermissionError" in names or status in (401, 403) or any("Credential" in n for n in names):
        return Unreachable(
            f"{shown(url)}: access is refused ({_reason(causes[-1])}): check the keys, or the name"
        )
    if any("Timeout" in name for name in names):
        return Unreachable(f"{shown(url)}: no answer within {TIMEOUT} s: try again later")
    # Of HTTP a FileNotFoundError may hide anything: a status, or a connection that was refused.
    if status == 404 or ("FileNotFoundError" in names and "ClientError" not in names):
        return LexLIPError(f"{shown(url)} does not exist: check its name")
    return Unreachable(f"{shown(url)} cannot be {done} ({_reason(causes[-1])}): try again later")


def _reason(error: BaseException) -> str:
    return shown(" ".join(str(error).split())[:200]) or type(error).__name__


def _facts(url: str, info: Mapping[str, Any]) -> Facts:
    told = {name.lower().replace("-", "").replace("_", ""): it for name, it in info.items()}
    when = next((told[n] for n in _DATES if told.get(n)), 0)
    size, etag = told.get("size"), str(told.get("etag") or "").strip('"')
    return Facts(url, None if size is None else int(size), _nanoseconds(when), etag)


def _nanoseconds(when: Any) -> int:
    """Return a date in any of the forms that services give it in."""
    try:
        if isinstance(when, str):
            try:
                when = datetime.fromisoformat(when)
            except ValueError:
                when = parsedate_to_datetime(when)
        if isinstance(when, datetime):
            when = when.timestamp()
        return round(float(when) * 1_000_000) * 1000
    except (TypeError, ValueError, OverflowError):
        return 0

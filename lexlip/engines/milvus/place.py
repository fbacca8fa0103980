"""The place of an index in Milvus: a file or a server, and a name; and a client that reaches it."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from lexlip.engines.distant import read_options, seconds_left
from lexlip.errors import LexLIPError, require

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,200}")
_FILE = re.compile(r"[A-Za-z0-9._-]{1,33}\.db")
_EXAMPLE = "milvus:http://127.0.0.1:19530/photos or milvus:/home/me/photos.db/photos"
_OPTIONS = {"shards": (1, 16), "replicas": (1, 16), "timeout": (1, 3600)}
_LEAST = 0.1
"""Seconds that an answer may take at least: 0 would be no limit."""

_open_files: Counter[str] = Counter()
_opening = threading.Lock()


@dataclass(frozen=True)
class Place:
    """Where an index is, without a password.

    Attributes
    ----------
    uri : str
        URL of a server, or the absolute path of a file that ends in .db.
    name : str
        Of the index: the collection is named by it and by its folder.
    shards, replicas : int
        Of an index that is made, and of its copies in memory.
    timeout : int
        Seconds to wait for an answer.

    Examples
    --------
    >>> place = Place.parse("http://127.0.0.1/photos?timeout=60")
    >>> place.uri, place.name, place.timeout, place.embedded
    ('http://127.0.0.1:19530', 'photos', 60, False)
    """

    uri: str
    name: str
    shards: int = 1
    replicas: int = 1
    timeout: int = 30

    FILE: ClassVar[str] = "milvus.json"
    """File of an engine's folder: the build that it reads."""

    MARK: ClassVar[str] = "_"
    """Between the name and the letters of a build."""

    @property
    def embedded(self) -> bool:
        """Whether the index is in a file, which one program may open at a time."""
        return self.uri.endswith(".db")

    @classmethod
    def parse(cls, text: str) -> Place:
        """Read a place.

        Raises
        ------
        LexLIPError
            For anything that is no place, or that holds a password.
        """
        address, _, query = text.partition("?")
        uri, _, name = address.rpartition("/")
        if not uri or uri.endswith("/"):
            raise LexLIPError(f"the engine milvus has no place: give one as in {_EXAMPLE}")
        if not _NAME.fullmatch(name):
            raise LexLIPError(
                f"{name!r:.80} is no name of an index: letters, digits and _, as in {_EXAMPLE}"
            )
        options = read_options(query, _OPTIONS)
        return cls(_url(uri) if "://" in uri else _file(uri), name, **options)

    def client(self) -> Client:
        """Return a client, connected.

        The token comes from `LEXLIP_MILVUS_TOKEN` (USER:PASSWORD, or a key), certificates that are
        trusted from the file `LEXLIP_MILVUS_CA`.
        """
        require("pymilvus")
        # Errors are raised, so that its own lines of the same are not on the terminal.
        for name in ("pymilvus", "milvus_lite"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        if self.embedded:
            require("milvus_lite")
        return Client(self)

    def __str__(self) -> str:
        """Return address and name, as errors have them."""
        return f"{self.uri}/{self.name}"


class Client:
    """A client of a place. The last one of a file stops the server that the file has.

    Attributes
    ----------
    milvus : pymilvus.MilvusClient
    """

    def __init__(self, place: Place) -> None:
        from pymilvus import MilvusClient

        self._file = place.uri if place.embedded else None
        options: dict[str, Any] = {"timeout": place.timeout}
        if self._file is None:
            if token := os.environ.get("LEXLIP_MILVUS_TOKEN"):
                options["token"] = token
            if authority := os.environ.get("LEXLIP_MILVUS_CA"):
                if not os.path.isfile(authority):
                    raise LexLIPError(f"LEXLIP_MILVUS_CA names no file: {authority:.200}")
                options["server_pem_path"] = authority
        with _opening:
            self.milvus = MilvusClient(place.uri, **options)
            if self._file is not None:
                _open_files[self._file] += 1

    def close(self) -> None:
        """Hang up. Closing twice is fine."""
        with _opening:
            self.milvus.close()
            if self._file is None:
                return
            file, self._file = self._file, None
            _open_files[file] -= 1
            if not _open_files[file]:
                from milvus_lite.server_manager import server_manager_instance

                server_manager_instance.release_server(file)


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        if parts.username is not None or "@" in parts.netloc:
            raise LexLIPError(
                "a place holds no password, since it is kept in the manifest: set "
                "LEXLIP_MILVUS_TOKEN to USER:PASSWORD, or to a key"
            )
        if parts.scheme in ("http", "https") and parts.hostname and not parts.path:
            port = parts.port or (443 if parts.scheme == "https" else 19530)
            host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
            return f"{parts.scheme}://{host}:{port}"
    except ValueError:
        pass
    raise LexLIPError(f"{text!r:.80} is no server of Milvus: give a URL as http://127.0.0.1:19530")


def _file(text: str) -> str:
    path = Path(text)
    if not _FILE.fullmatch(path.name):
        raise LexLIPError(
            f"{path.name!r:.80} is no name of a file of Milvus: up to 36 letters, digits, . _ - "
            f"that end in .db, as in {_EXAMPLE}"
        )
    if not path.is_absolute():
        raise LexLIPError(
            f"the manifest keeps the place of the file, so give all of it: milvus:{path.absolute()}"
        )
    return str(path)


def patience(place: Place) -> float:
    """Return the seconds that an answer may take: those of the place, or what a request has left.

    Examples
    --------
    >>> patience(Place.parse("http://127.0.0.1/photos?timeout=60"))
    60
    """
    return max(_LEAST, seconds_left(place.timeout))

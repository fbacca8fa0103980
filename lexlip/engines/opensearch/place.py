"""The place of an index in a cluster: nodes, name, shards; and a client that reaches it."""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit

from lexlip.engines.distant import read_options
from lexlip.errors import LexLIPError, require

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,200}")
_EXAMPLE = "opensearch:http://127.0.0.1:9200/photos"
_OPTIONS = {"shards": (1, 1024), "replicas": (0, 16), "timeout": (1, 3600)}
_RETRIES = 3
_CONNECTIONS = 32
"""Connections to each node that are kept: one a thread of a server; more come and go."""

_DEAD = {"dead_timeout": 2, "timeout_cutoff": 3}
"""A node that failed is left alone for 2 s, then 4, 8 and 16; by default it would be minutes."""

_SILENCE = logging.NullHandler()


@dataclass(frozen=True)
class Place:
    """Where an index is, without a password.

    Attributes
    ----------
    nodes : tuple of str
        URLs; a client goes on to the next one when one is away.
    name : str
        Of the index in the cluster.
    shards, replicas : int
        Of an index that is made.
    timeout : int
        Seconds to wait for an answer.

    Examples
    --------
    >>> place = Place.parse("https://one:9200,two:9200/photos?shards=3&replicas=1")
    >>> place.nodes, place.name, place.shards, place.timeout
    (('https://one:9200', 'https://two:9200'), 'photos', 3, 30)
    """

    nodes: tuple[str, ...]
    name: str
    shards: int = 1
    replicas: int = 0
    timeout: int = 30

    FILE: ClassVar[str] = "opensearch.json"
    """File of an engine's folder: the build that it reads."""

    MARK: ClassVar[str] = "-"
    """Between the name and the letters of a build."""

    @classmethod
    def parse(cls, text: str) -> Place:
        """Read a place; `LEXLIP_OPENSEARCH_NODES` stands in for its nodes.

        Raises
        ------
        LexLIPError
            For anything that is no place, or that holds a password.
        """
        scheme, mark, rest = text.partition("://")
        hosts, _, path = rest.partition("/")
        name, _, query = path.partition("?")
        if scheme not in ("http", "https") or not mark or not hosts:
            raise LexLIPError(f"the engine opensearch has no place: give one as in {_EXAMPLE}")
        if "@" in hosts:
            raise LexLIPError(
                "a place holds no password, since it is kept in the manifest: set "
                "LEXLIP_OPENSEARCH_USER and LEXLIP_OPENSEARCH_PASSWORD"
            )
        if not _NAME.fullmatch(name):
            raise LexLIPError(
                f"{name!r:.80} is no name of an index: small letters and digits, as in {_EXAMPLE}"
            )
        options = read_options(query, _OPTIONS)
        given = os.environ.get("LEXLIP_OPENSEARCH_NODES")
        urls = given.split(",") if given else [f"{scheme}://{host}" for host in hosts.split(",")]
        return cls(tuple(map(_checked, urls)), name, **options)

    def client(self, reads: bool = False) -> Any:
        """Return a client of all nodes; it connects when it is first asked.

        One that only reads waits `timeout` seconds for an answer in all, and asks the next node
        where one is silent for half of that. One that writes repeats only what cannot have arrived.

        User and password come from `LEXLIP_OPENSEARCH_USER` and `LEXLIP_OPENSEARCH_PASSWORD`,
        certificates that are trusted from the file `LEXLIP_OPENSEARCH_CA`.
        """
        require("opensearchpy")
        from opensearchpy import OpenSearch, Transport

        from lexlip.engines.opensearch.patience import PASSING, patient

        connection, reading = patient()

        # Errors are raised, so that its warnings of the same are no lines on the terminal.
        logging.getLogger("opensearch").addHandler(_SILENCE)
        options: dict[str, Any] = {}
        if user := os.environ.get("LEXLIP_OPENSEARCH_USER"):
            options["http_auth"] = (user, os.environ.get("LEXLIP_OPENSEARCH_PASSWORD", ""))
        if authority := os.environ.get("LEXLIP_OPENSEARCH_CA"):
            if not os.path.isfile(authority):
                raise LexLIPError(f"LEXLIP_OPENSEARCH_CA names no file: {authority:.200}")
            options["ca_certs"] = authority
        return OpenSearch(
            list(self.nodes),
            timeout=self.timeout,
            max_retries=_RETRIES,
            retry_on_timeout=reads,
            **({"retry_on_status": PASSING} if reads else {}),
            http_compress=False,
            pool_maxsize=_CONNECTIONS,
            transport_class=reading if reads else Transport,
            connection_class=connection,
            only=not reads or len(self.nodes) == 1,
            **_DEAD,
            **options,
        )

    def __str__(self) -> str:
        """Return the first node and the name, as errors have them."""
        return f"{self.nodes[0]}/{self.name}"


def _checked(url: str) -> str:
    """Return the URL of a node.

    Raises
    ------
    LexLIPError
        Where it is none.
    """
    try:
        parts = urlsplit(url.strip())
        if parts.scheme in ("http", "https") and parts.hostname and parts.username is None:
            port = parts.port or 9200
            host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
            return f"{parts.scheme}://{host}:{port}"
    except ValueError:
        pass
    raise LexLIPError(f"{url!r:.80} is no node of OpenSearch: give a URL as http://127.0.0.1:9200")

"""Check before an index is made or opened: the version of the cluster."""

from __future__ import annotations

from typing import Any

from lexlip.engines.opensearch.place import Place
from lexlip.errors import LexLIPError

_LEAST = 3
"""Major version of OpenSearch that is needed."""


def check_version(client: Any, place: Place) -> None:
    """Raise where nodes are something else than OpenSearch, or too old."""
    version = client.info().get("version", {})
    number = str(version.get("number", "?"))
    major = number.partition(".")[0]
    if version.get("distribution") != "opensearch" or not major.isdigit():
        raise LexLIPError(f"{place.nodes[0]} is no OpenSearch, it says {number:.20}")
    if int(major) < _LEAST:
        raise LexLIPError(
            f"{place.nodes[0]} is OpenSearch {number:.20}: {_LEAST}.0 or later is needed"
        )

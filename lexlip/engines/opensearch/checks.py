"""Checks before an index is made or opened: the version, and a name that is free."""

from __future__ import annotations

from typing import Any

from lexlip.engines.opensearch.errors import readable
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


def check_free(client: Any, place: Place) -> None:
    """Raise where there is an index of that name."""
    if client.indices.exists(index=place.name):
        raise LexLIPError(f"there is an index {place} already: take another name, or delete it")


def check_can_make(text: str) -> None:
    """Raise where no index can be made at a place: before an hour of encoding, not after it."""
    place = Place.parse(text)
    with readable(place), place.client() as client:
        check_version(client, place)
        check_free(client, place)

"""Documents as OpenSearch keeps them: impacts as rank_features, which hold 1..255 exactly.

A feature is named by the number of its word, since a dot in a name finds nothing. A document has
the commit that brought it, `born`, and the one that took it away, `died`: what a reader sees are
the documents that live in its commit.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from lexlip.filters.columns import Kind, Value

BODY = 5 * 2**20
"""Bytes of a body, about: OpenSearch advises 5 to 15 MB."""

ID, IMPACTS, ROW, BORN, DIED, TERMS = "id", "imp", "row", "born", "died", "terms"
STATE, STATE_ID = "state", "lexlip"

CODEC = {"codec": "best_compression"}
FIELDS: dict[str, Any] = {ID: {"type": "keyword"}, IMPACTS: {"type": "rank_features"}}
"""Fields that every form of a document has."""

_LONGEST = 512
"""Bytes of an ``_id`` in OpenSearch."""

_UNSEARCHED = {"type": "object", "enabled": False}


def key_of(id: str) -> str:
    """Return the ``_id`` of a document: its id, or a hash of one that is too long."""
    data = id.encode()
    return id if len(data) <= _LONGEST else sha256(data).hexdigest()


def features(terms: Sequence[int], impacts: Sequence[int]) -> dict[str, int]:
    """Return the field of impacts.

    Examples
    --------
    >>> features([7, 9], [255, 1])
    {'7': 255, '9': 1}
    """
    return dict(zip(map(str, terms), impacts, strict=True))


def body(shards: int, replicas: int) -> dict[str, Any]:
    """Return settings and mapping of a new index."""
    index = {
        **CODEC,
        "number_of_shards": shards,
        "number_of_replicas": replicas,
        "refresh_interval": "-1",  # a commit refreshes
    }
    own = {
        BORN: {"type": "long"},
        DIED: {"type": "long"},
        TERMS: {"type": "integer"},
        ROW: _UNSEARCHED,
        STATE: _UNSEARCHED,
    }
    return {
        "settings": {"index": index},
        "mappings": {"dynamic": False, "properties": {**FIELDS, **own}},
    }


def field_name(number: int, kind: Kind) -> str:
    """Return the field of a column, which has a number: names may have dots."""
    return f"{'number' if kind in ('int', 'float') else 'text'}-{number}"


def field_type(kind: Kind) -> dict[str, str]:
    """Return the mapping of the field of a column; float64 holds all whole numbers allowed."""
    return {"type": "double" if kind in ("int", "float") else "keyword"}


def field_value(value: Value, kind: Kind) -> float | str:
    """Return a value as its field has it; infinity, which OpenSearch refuses, as the last float.

    Examples
    --------
    >>> field_value(True, "bool"), field_value(3, "int"), field_value(float("-inf"), "float")
    ('True', 3.0, -1.7976931348623157e+308)
    """
    if kind in ("bool", "str"):
        return str(value)
    largest = sys.float_info.max
    return max(-largest, min(largest, float(value))) + 0.0


def column_value(value: Any, kind: Kind) -> Value:
    """Return the value of a column that its field has.

    Examples
    --------
    >>> column_value("False", "bool"), column_value(3.0, "int"), column_value(2.5, "float")
    (False, 3, 2.5)
    """
    if kind in ("bool", "str"):
        return value == "True" if kind == "bool" else str(value)
    if kind == "int":
        return int(value)
    return math.copysign(math.inf, value) if abs(value) >= sys.float_info.max else float(value)


def document(
    id: str,
    born: int,
    impacts: Mapping[str, int],
    values: Mapping[str, Value],
    columns: Mapping[str, tuple[int, Kind]],
) -> dict[str, Any]:
    """Return a document; `columns` has the number and kind of each column."""
    made: dict[str, Any] = {ID: id, BORN: born, TERMS: len(impacts)}
    if impacts:
        made[IMPACTS] = impacts
    if values:
        made[ROW] = {"json": json.dumps(values, ensure_ascii=False, separators=(",", ":"))}
        for name, value in values.items():
            made[field_name(*columns[name])] = field_value(value, columns[name][1])
    return made

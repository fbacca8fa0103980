"""Metadata of single documents, for engines that keep it by document."""

from __future__ import annotations

import json
from collections.abc import Mapping

from lexlip.filters.columns import Column, Kind, Value


def load_values(text: str | None, kinds: Mapping[str, Kind]) -> dict[str, Value]:
    """Read a document's metadata; whole numbers of a column of fractions become fractions."""
    values: dict[str, Value] = json.loads(text) if text else {}
    return {
        name: float(value) if kinds.get(name) == "float" else value
        for name, value in values.items()
    }


def metadata_of_rows(columns: Mapping[str, Column], count: int) -> list[dict[str, Value]]:
    """Return the values that each of `count` documents has.

    Examples
    --------
    >>> metadata_of_rows({"year": Column.of([2001, None])}, 2)
    [{'year': 2001}, {}]
    """
    rows: list[dict[str, Value]] = [{} for _ in range(count)]
    for name, column in columns.items():
        for row, value in zip(rows, column.values(), strict=True):
            if value is not None:
                row[name] = value
    return rows

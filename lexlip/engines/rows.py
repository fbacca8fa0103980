"""Single documents, for engines that keep metadata and impacts by document."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.sparse import csr_array

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


def rows_of(documents: Sequence[Mapping[int, int]]) -> csr_array:
    """Return {term: impact} of N documents as rows, int32 [N, V].

    Examples
    --------
    >>> rows_of([{2: 9, 0: 4}, {}, {0: 1}]).toarray().tolist()
    [[4, 0, 9], [0, 0, 0], [1, 0, 0]]
    """
    ends = np.cumsum([0, *map(len, documents)])
    terms = np.array([term for row in documents for term in row], np.int32)
    values = np.array([impact for row in documents for impact in row.values()], np.int32)
    shape = (len(documents), int(terms.max(initial=-1)) + 1)
    rows = csr_array((values, terms, ends), shape=shape)
    rows.sort_indices()
    return rows

"""Metadata of pictures, as columns that an index can filter by."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from lexlip.errors import LexLIPError
from lexlip.filters.columns import MAX_WHOLE, kind_of, plain
from lexlip.storage.stored import Stored

FILE_METADATA = ("folder", "bytes", "modified")
"""Metadata of every picture file: the folder of its id, its size, its date."""


def typed(cells: Sequence[Any]) -> list[Any]:
    """Read the cells of a text table as numbers or truth values where all of them are such.

    Parameters
    ----------
    cells
        Text, or None; an empty cell is None. Other values stay as they are.

    Examples
    --------
    >>> typed(["2019", "", "2021"]), typed(["1.5", "2"]), typed(["true", "False"])
    ([2019, None, 2021], [1.5, 2.0], [True, False])
    >>> typed(["2019", "spring"])
    ['2019', 'spring']
    """
    values = [cell.strip() or None if isinstance(cell, str) else cell for cell in cells]
    texts = [value for value in values if value is not None]
    if not texts or not all(isinstance(value, str) for value in texts):
        return values
    readers: tuple[Callable[[str], Any], ...] = (_whole, _number, _truth)
    for read in readers:
        try:
            return [None if value is None else read(value) for value in values]
        except ValueError:
            continue
    return values


def _whole(text: str) -> int:
    # No leading zeros: those are names (a postcode, a serial number).
    if not re.fullmatch(r"[+-]?(0|[1-9][0-9]{0,18})", text) or abs(int(text)) > MAX_WHOLE:
        raise ValueError
    return int(text)


def _number(text: str) -> float:
    # "nan" and "inf" are words here.
    if not re.fullmatch(r"[+-]?(0|[1-9][0-9]*)?(\.[0-9]*)?([eE][+-]?[0-9]+)?", text):
        raise ValueError
    # Whole numbers that float64 does not hold are names too.
    whole = re.fullmatch("[+-]?[0-9]+", text)
    if abs(value := float(text)) == float("inf") or (whole and abs(int(text)) > MAX_WHOLE):
        raise ValueError
    return value


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError
    return text.lower() == "true"


def rows_to_columns(rows: Iterable[Mapping[str, Any]], without: Iterable[str]) -> dict[str, Any]:
    """Turn one mapping a picture into columns, with None where a picture lacks one.

    Columns with other values than texts, numbers, truth values and dates (lists, objects) are left
    out: `not_columns` says so. Values that do not go together become text, and those that no column
    holds are missing: no cell of a table stops a build.

    Examples
    --------
    >>> rows_to_columns([{"year": 2020}, {"year": "unknown"}, {}], ())
    {'year': ['2020', 'unknown', None]}
    """
    rows, left_out = list(rows), set(without)
    names = list(dict.fromkeys(name for row in rows for name in row if name not in left_out))
    columns = {}
    for name in names:
        values = [plain(row.get(name)) for row in rows]
        held = all(value is None or isinstance(value, _HELD) for value in values)
        if held and isinstance(name, str) and _kind(name):
            columns[name] = _of_one_kind(typed(values))
    return columns


_HELD = (str, int, float, np.bool_, np.integer, np.floating)


def not_columns(names: Iterable[Any], columns: Iterable[str], where: object) -> list[str]:
    """Say which columns of a table became none of the index.

    Examples
    --------
    >>> not_columns(["year", "boxes"], ["year"], "photos.csv")[0][:47]
    "photos.csv: its column 'boxes' is left out: it "
    """
    return [
        f"{where}: its column {name!r} is left out: it holds other values than text, numbers, "
        "truth values and dates"
        for name in sorted(set(names) - set(columns), key=str)
    ]


def _kind(value: Any) -> str | None:
    """Return the kind of a value; None where it is missing, or no column holds it."""
    try:
        return kind_of(value)
    except LexLIPError:
        return None


def _of_one_kind(values: list[Any]) -> list[Any]:
    """Return values that go into one column."""
    values = [str(v) if type(v) is int and abs(v) > MAX_WHOLE else v for v in values]
    kinds = [_kind(value) for value in values]
    if len(set(kinds) - {None}) < 2 or set(kinds) <= {None, "int", "float"}:
        return [value if kind else None for value, kind in zip(values, kinds, strict=True)]
    return [str(value) if kind else None for value, kind in zip(values, kinds, strict=True)]


def kept_apart(names: Iterable[str], where: object) -> list[str]:
    """Say which columns of a table have the names of a file's own metadata: they are left out."""
    return [
        f"{where}: its column {name!r} is left out, that is the file's own: rename the column"
        for name in sorted(set(names) & set(FILE_METADATA))
    ]


def modified_of(seconds: int) -> str | None:
    """Return a file's date as text in ISO form, UTC; None for a year that is none of 1 to 9999.

    Examples
    --------
    >>> modified_of(86_400), modified_of(10**12)
    ('1970-01-02T00:00:00', None)
    """
    try:
        date = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return date.replace(tzinfo=None).isoformat(timespec="seconds")


def file_metadata(ids: Sequence[str], pictures: Sequence[Any]) -> dict[str, list[Any]]:
    """Return the columns `folder`, `bytes` and `modified` (UTC, ISO form) of picture files.

    Pictures that are bytes have a size only, others and missing files nothing.
    """
    columns: dict[str, list[Any]] = {name: [] for name in FILE_METADATA}
    for name, picture in zip(ids, pictures, strict=True):
        folder = modified = size = None
        if isinstance(picture, bytes):
            size = len(picture)
        elif isinstance(picture, Stored):
            folder, size = name.rpartition("/")[0], picture.size
            modified = modified_of(picture.modified // 10**9) if picture.modified else None
        elif isinstance(picture, Path):
            folder = name.rpartition("/")[0]
            try:
                facts = os.stat(picture)
                size, modified = facts.st_size, modified_of(facts.st_mtime_ns // 10**9)
            except (OSError, ValueError):  # gone, or a name with a NUL
                pass
        for column, value in zip(FILE_METADATA, (folder, size, modified), strict=True):
            columns[column].append(value)
    return columns

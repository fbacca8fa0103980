"""Metadata of pictures, as columns that an index can filter by."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

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
    # No leading zeros: those are names (a postcode, a serial number). 63 bits at most.
    if not re.fullmatch(r"[+-]?(0|[1-9][0-9]{0,18})", text) or abs(int(text)) >= 2**63:
        raise ValueError
    return int(text)


def _number(text: str) -> float:
    # "nan" and "inf" are words here.
    if not re.fullmatch(r"[+-]?(0|[1-9][0-9]*)?(\.[0-9]*)?([eE][+-]?[0-9]+)?", text):
        raise ValueError
    value = float(text)
    if abs(value) == float("inf"):
        raise ValueError
    return value


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError
    return text.lower() == "true"


def rows_to_columns(rows: Iterable[Mapping[str, Any]], without: Iterable[str]) -> dict[str, Any]:
    """Turn one mapping a picture into columns, with None where a picture lacks one.

    Values other than texts, numbers and truth values (lists, objects) are skipped.
    """
    rows, left_out = list(rows), set(without)
    names = list(dict.fromkeys(name for row in rows for name in row if name not in left_out))
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        if all(value is None or isinstance(value, str | int | float) for value in values):
            columns[name] = typed(values)
    return columns


def file_metadata(ids: Sequence[str], pictures: Sequence[Any]) -> dict[str, list[Any]]:
    """Return the columns `folder`, `bytes` and `modified` (UTC, ISO form) of picture files.

    Pictures that are bytes have a size only, others and missing files nothing.
    """
    columns: dict[str, list[Any]] = {name: [] for name in FILE_METADATA}
    for name, picture in zip(ids, pictures, strict=True):
        folder = modified = size = None
        if isinstance(picture, bytes):
            size = len(picture)
        elif isinstance(picture, Path):
            folder = name.rpartition("/")[0]
            try:
                facts = picture.stat()
                size = facts.st_size
                modified = datetime.fromtimestamp(facts.st_mtime, UTC).strftime("%Y-%m-%dT%H:%M:%S")
            except OSError:
                pass
        for column, value in zip(FILE_METADATA, (folder, size, modified), strict=True):
            columns[column].append(value)
    return columns

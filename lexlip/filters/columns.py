"""Metadata as columns: one type each, with missing values; what `lexlip.filters.where` filters by.

A column holds truth values, whole numbers, fractions or text. None is a missing value, and so are
NaN, NaT and pandas' NA, as in every table program. Whole numbers and fractions together are
fractions. Dates become text in ISO form, "2024-05-31", whose order is the order of time; those
with a time zone are brought to UTC.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lexlip.errors import LexLIPError

Kind = Literal["bool", "int", "float", "str"]
Value = bool | int | float | str

MAX_WHOLE = 2**53
"""Largest whole number: up to here float64 holds every one, so all comparisons are exact."""

MAX_TEXT_BYTES = 32_766
"""Longest text in UTF-8 bytes: what Lucene takes as one term."""

KIND_NAMES: dict[Kind, str] = {
    "bool": "truth values",
    "int": "whole numbers",
    "float": "numbers",
    "str": "text",
}
_TYPES: dict[Kind | None, type] = {
    None: np.bool_,
    "bool": np.bool_,
    "int": np.int64,
    "float": np.float64,
    "str": np.int32,
}


def nfc(text: str) -> str:
    """Return a text in the one Unicode form that metadata and filters have: composed."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def plain(value: Any) -> Any:
    """Return a value as columns hold it: dates as text, missing ones as None.

    Anything that no column holds is returned as it is.

    Examples
    --------
    >>> plain(datetime(2024, 5, 31, 17, 5)), plain(date(2024, 5, 31)), plain(float("nan"))
    ('2024-05-31T17:05:00', '2024-05-31', None)
    >>> plain(np.datetime64("2024-05-31")), plain(np.datetime64("NaT")), plain([2024])
    ('2024-05-31', None, [2024])
    """
    if value is None or isinstance(value, str):
        return value
    if type(value).__name__ in ("NAType", "NaTType"):  # of pandas, which is not imported for them
        return None
    if isinstance(value, np.datetime64):
        days = str(value) if np.datetime_data(value)[0] in "YMWD" else None
        value = None if np.isnat(value) else days or value.astype("datetime64[us]").item()
    if isinstance(value, datetime) and value.tzinfo is not None:
        with suppress(OverflowError):  # the first and the last day of all
            value = value.astimezone(UTC)
        value = value.replace(tzinfo=None)
    if isinstance(value, date | time):
        return value.isoformat()
    return None if isinstance(value, float | np.floating) and math.isnan(value) else value


def kind_of(value: Any) -> Kind | None:
    """Return the kind of one value, None where it is missing (None or NaN); see `plain`.

    Raises
    ------
    LexLIPError
        For another type, a whole number beyond 2**53, text that is too long or no valid Unicode.

    Examples
    --------
    >>> kind_of(2024), kind_of(0.5), kind_of("trip"), kind_of(True), kind_of(None)
    ('int', 'float', 'str', 'bool', None)
    """
    value = plain(value)
    if value is None:
        return None
    if isinstance(value, str):
        try:
            size = len(value.encode("utf-8"))
        except UnicodeEncodeError:
            raise LexLIPError(f"{value!r:.60} is not valid Unicode: mend the text") from None
        if size > MAX_TEXT_BYTES:
            raise LexLIPError(f"{value[:40]!r:.60}... has {size} bytes: at most {MAX_TEXT_BYTES}")
        return "str"
    if isinstance(value, (bool, np.bool_)):
        return "bool"
    if isinstance(value, (int, np.integer)):
        if abs(int(value)) > MAX_WHOLE:
            raise LexLIPError(
                f"{_shown(value)} is beyond 2**53 = {MAX_WHOLE}: give such numbers as text"
            )
        return "int"
    if isinstance(value, (float, np.floating)):
        return "float"
    raise LexLIPError(
        f"{value!r:.60} is a {type(value).__name__}: give a truth value, number, text, date or None"
    )


def common_kind(one: Kind | None, two: Kind | None) -> Kind | None:
    """Return the kind of a column that holds both; None is a column without values.

    Raises
    ------
    LexLIPError
        Where no kind holds both.
    """
    if one == two or two is None:
        return one
    if one is None:
        return two
    if {one, two} == {"int", "float"}:
        return "float"
    raise LexLIPError(f"{KIND_NAMES[one]} and {KIND_NAMES[two]} do not go into one column")


def _shown(value: Any) -> str:
    """Return a value for a message; Python does not write whole numbers of over 4,300 digits."""
    if isinstance(value, int) and value.bit_length() > 256:
        return f"a number of {value.bit_length():,} bits"
    return f"{value!r:.80}"


@dataclass(frozen=True, eq=False)
class Column:
    """The values of N documents.

    Parameters
    ----------
    kind
        The type of the values; None where all are missing.
    data : [N]
        bool, int64 or float64 values; for text int32 places in `words`. Where a value is missing
        it is 0.
    present : [N] bool
        False where a value is missing.
    words
        Text only: the different values, in code point order.

    Examples
    --------
    >>> column = Column.of(["trip", None, "home"])
    >>> column.kind, column.data.tolist(), column.words
    ('str', [1, 0, 0], ('home', 'trip'))
    >>> Column.concat([column.take([0, 1]), Column.missing(1)]).values()
    ['trip', None, None]
    """

    kind: Kind | None
    data: NDArray[Any]
    present: NDArray[np.bool_]
    words: tuple[str, ...] = ()

    @classmethod
    def of(cls, values: Iterable[Any], name: str = "") -> Column:
        """Make a column of Python or numpy values.

        Parameters
        ----------
        values
            One a document, None where it is missing.
        name
            Named in errors.

        Raises
        ------
        LexLIPError
            For values of several types, or of a type that no column holds.
        """
        column = f"column {name!r}" if name else "the column"
        if isinstance(values, (str, bytes, Mapping)):
            raise LexLIPError(f"{column} is {values!r:.60}: give a list, one value a document")
        kept: list[Any] = []
        kind: Kind | None = None
        first: dict[Kind, tuple[int, Any]] = {}
        for place, value in enumerate(map(plain, values)):
            try:
                own = kind_of(value)
                kind = common_kind(kind, own)
            except LexLIPError as error:
                other = next(iter(first.values()), None)
                seen = f" (value {other[0]} is {other[1]!r:.40})" if other else ""
                raise LexLIPError(
                    f"{column}, value {place}, {_shown(value)}: {error}{seen}"
                ) from None
            if own is not None:
                first.setdefault(own, (place, value))
            kept.append(None if own is None else nfc(str(value)) if own == "str" else value)
        present = np.array([value is not None for value in kept], dtype=np.bool_)
        words: tuple[str, ...] = ()
        if kind == "str":
            words = tuple(sorted({str(value) for value in kept if value is not None}))
            places = {word: place for place, word in enumerate(words)}
            numbers = [0 if value is None else places[value] for value in kept]
        else:
            numbers = [0 if value is None else value for value in kept]
        data: NDArray[Any] = np.array(numbers, dtype=_TYPES[kind])
        if kind == "float":
            data += 0.0  # -0.0 becomes 0.0: Lucene would tell them apart
        return cls(kind, data, present, words)

    @classmethod
    def missing(cls, count: int) -> Column:
        """Make a column of `count` missing values."""
        return cls(None, np.zeros(count, np.bool_), np.zeros(count, np.bool_))

    @classmethod
    def concat(cls, parts: Sequence[Column]) -> Column:
        """Join columns end to end.

        Raises
        ------
        LexLIPError
            When their kinds do not go together.
        """
        kind: Kind | None = None
        for part in parts:
            kind = common_kind(kind, part.kind)
        if not parts:
            return cls.missing(0)
        present = np.concatenate([part.present for part in parts])
        if kind != "str":
            data = np.concatenate([part.data.astype(_TYPES[kind]) for part in parts])
            return cls(kind, data, present)
        words = tuple(sorted(set().union(*(part.words for part in parts))))
        places = {word: place for place, word in enumerate(words)}
        codes = []
        for part in parts:
            # A missing value's code is 0, so the table needs a first place even without words.
            table = np.array([places[word] for word in part.words] or [0], dtype=np.int32)
            codes.append(np.where(part.present, table[part.data.astype(np.int32)], np.int32(0)))
        return cls(kind, np.concatenate(codes), present, words)

    def take(self, rows: Any) -> Column:
        """Return the column of some rows: [M] indices or an [N] mask. Words stay as they are."""
        chosen = np.asarray(rows)
        if chosen.size == 0:
            chosen = chosen.astype(np.int64)
        return Column(self.kind, self.data[chosen], self.present[chosen], self.words)

    def values(self) -> list[Value | None]:
        """Return the values as Python objects, None where they are missing."""
        data = self.data.tolist()
        if self.kind == "str":
            data = [self.words[code] for code in data] if self.words else data
        return [
            value if there else None
            for value, there in zip(data, self.present.tolist(), strict=True)
        ]

    def __len__(self) -> int:
        """Return N."""
        return len(self.data)


def read_columns(columns: Mapping[str, Iterable[Any]] | None, count: int) -> dict[str, Column]:
    """Turn the metadata of `count` documents into columns.

    Raises
    ------
    LexLIPError
        For a name that is not text or empty, a column of another length, or bad values.

    Examples
    --------
    >>> read_columns({"year": [2001, None]}, 2)["year"].values()
    [2001, None]
    """
    read: dict[str, Column] = {}
    for name, values in (columns or {}).items():
        if kind_of(name) != "str" or not name:
            raise LexLIPError(f"{name!r} is no column name: it must be text that is not empty")
        column = values if isinstance(values, Column) else Column.of(values, name)
        if len(column) != count:
            raise LexLIPError(f"column {name!r} has {len(column)} values for {count} documents")
        read[nfc(name)] = column
    return read


def merge_kinds(known: Mapping[str, Kind], new: Mapping[str, Column]) -> dict[str, Kind]:
    """Return the kinds of all columns once `new` ones join; those without values are left out.

    Raises
    ------
    LexLIPError
        When a column's new values do not go with the earlier ones.

    Examples
    --------
    >>> merge_kinds({"year": "int"}, {"year": Column.of([1.5]), "folder": Column.of(["a"])})
    {'year': 'float', 'folder': 'str'}
    """
    kinds = dict(known)
    for name, column in new.items():
        try:
            kind = common_kind(kinds.get(name), column.kind)
        except LexLIPError as error:
            raise LexLIPError(f"column {name!r} of the documents there: {error}") from None
        if kind is not None:
            kinds[name] = kind
    return kinds

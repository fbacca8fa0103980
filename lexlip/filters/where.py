"""Filters over metadata: `year >= 2020 and folder in ("trip", "home")`, parsed, never run.

The language is a small part of Python's expressions: a column compared with a constant by
``== != < <= > >=``, ``in`` and ``not in`` a list of constants, chains such as
``2000 <= year < 2020``, ``is None`` and ``is not None``, a bare column of truth values, ``and``,
``or``, ``not``, parentheses. ``folder.startswith("2024/")`` and ``folder.contains("trip")`` (or
``"trip" in folder``) look into text. ``column("my tag")`` names a column that is not a Python name.
Texts of filters and metadata are compared in Unicode's composed form.

There are two truth values. A comparison with a missing value is false, whichever it is: a picture
without a year fulfils neither ``year == 2020`` nor ``year != 2020``, and it does fulfil
``not (year == 2020)``; ``year is None`` asks for such pictures. Text compares by code points, so
dates in ISO form compare as dates: ``taken >= "2024-05"``. Text never compares with numbers, nor
truth values with either.
"""

from __future__ import annotations

import difflib
import functools
import operator
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexlip.errors import LexLIPError
from lexlip.filters.columns import KIND_NAMES, Column, Kind, kind_of
from lexlip.filters.parser import TEXT_SIGNS, And, Compare, Expression, Not, parse

_FUNCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Where:
    """A filter: an expression, and the text it was parsed from (equal expressions are equal).

    Examples
    --------
    >>> where = Where.parse("2000 <= year < 2020 and not folder == 'trip'")
    >>> sorted(where.columns)
    ['folder', 'year']
    >>> where.mask({"year": Column.of([1999, 2001, 2002]),
    ...             "folder": Column.of(["home", "trip", None])}).tolist()
    [False, False, True]
    """

    expression: Expression
    text: str = ""

    def __eq__(self, other: object) -> bool:
        """Compare expressions; True, 1 and 1.0 differ."""
        return isinstance(other, Where) and repr(self.expression) == repr(other.expression)

    def __hash__(self) -> int:
        """Go with equality."""
        return hash(repr(self.expression))

    @classmethod
    def parse(cls, text: str) -> Where:
        """Read a filter.

        Raises
        ------
        LexLIPError
            For anything that is not in the language, with the place and what to write.
        """
        return cls(parse(text), text.strip())

    @classmethod
    def of(cls, where: str | Where | None) -> Where | None:
        """Return a filter that was given as text, or as one, or not at all.

        Raises
        ------
        LexLIPError
            For anything else.
        """
        if isinstance(where, str):
            return cls.parse(where)
        if where is None or isinstance(where, Where):
            return where
        raise LexLIPError(f'where is {type(where).__name__}: give text such as "year >= 2020"')

    @functools.cached_property
    def comparisons(self) -> tuple[Compare, ...]:
        """All comparisons, from left to right."""
        return tuple(_comparisons(self.expression))

    @property
    def columns(self) -> frozenset[str]:
        """The names of the columns that the filter looks at."""
        return frozenset(compare.column for compare in self.comparisons)

    def check(self, kinds: Mapping[str, Kind]) -> None:
        """Refuse the filter where it does not fit columns of these kinds.

        Raises
        ------
        LexLIPError
            For a column that is not among them, and for constants of another kind.
        """
        for compare in self.comparisons:
            if compare.column not in kinds:
                raise LexLIPError(self._unknown(compare.column, kinds))
            kind = kinds[compare.column]
            if compare.sign in TEXT_SIGNS and kind != "str":
                raise LexLIPError(
                    f"filter {self.text!r:.200}: column {compare.column!r:.100} holds "
                    f"{KIND_NAMES[kind]}: {compare.sign} is for text"
                )
            values = compare.value if isinstance(compare.value, tuple) else (compare.value,)
            for value in values:
                if not _fits(kind, kind_of(value)):
                    advice = {"bool": "True or False", "str": "text in quotes"}.get(
                        kind, "a number without quotes"
                    )
                    raise LexLIPError(
                        f"filter {self.text!r:.200}: column {compare.column!r:.100} holds "
                        f"{KIND_NAMES[kind]}: compare it with {advice}, not with {value!r:.40}"
                    )
            if kind == "bool" and compare.sign in ("<", "<=", ">", ">="):
                name = f"{compare.column:.100}"
                raise LexLIPError(
                    f"filter {self.text!r:.200}: column {name!r:.100} holds truth values: "
                    f"write {name} or not {name}, not {compare.sign}"
                )

    def _unknown(self, name: str, kinds: Mapping[str, Kind]) -> str:
        if not kinds:
            advice = "the documents have no metadata: search without a filter"
            return f"filter {self.text!r:.200}: {advice}"
        near = difflib.get_close_matches(name, kinds, n=1, cutoff=0.6)
        there = (
            f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(kinds)):.500}"
        )
        return f"filter {self.text!r:.200}: no document has a column {name!r:.100}: {there}"

    def mask(self, columns: Mapping[str, Column]) -> NDArray[np.bool_]:
        """Return where the filter is true.

        Parameters
        ----------
        columns
            Columns of N documents; those without values count as unknown.

        Returns
        -------
        [N] bool

        Raises
        ------
        LexLIPError
            As `check`.
        """
        self.check({name: column.kind for name, column in columns.items() if column.kind})
        return _mask(self.expression, columns)


def _fits(kind: Kind, constant: Kind | None) -> bool:
    return kind == constant or {kind, constant} <= {"int", "float"}


def _comparisons(expression: Expression) -> Iterator[Compare]:
    if isinstance(expression, Compare):
        yield expression
    elif isinstance(expression, Not):
        yield from _comparisons(expression.operand)
    else:
        for operand in expression.operands:
            yield from _comparisons(operand)


def _mask(expression: Expression, columns: Mapping[str, Column]) -> NDArray[np.bool_]:
    if isinstance(expression, Compare):
        return _compared(columns[expression.column], expression.sign, expression.value)
    if isinstance(expression, Not):
        return ~_mask(expression.operand, columns)
    combine = np.logical_and if isinstance(expression, And) else np.logical_or
    return functools.reduce(combine, (_mask(one, columns) for one in expression.operands))


def _compared(column: Column, sign: str, value: Any) -> NDArray[np.bool_]:
    """Return where a column's value is there and compares so with a constant of its kind."""
    if column.kind == "str":
        # Compare the few different words, then look each document's word up.
        table = np.zeros(max(1, len(column.words)), dtype=np.bool_)
        table[: len(column.words)] = _words_compared(column.words, sign, value)
        return table[column.data] & column.present
    if sign in ("in", "not in"):
        # float64 holds every whole number that a column may hold.
        kind = np.bool_ if column.kind == "bool" else np.float64
        found = np.isin(column.data, np.array(value, dtype=kind))
        return (found if sign == "in" else ~found) & column.present
    return _FUNCTIONS[sign](column.data, value) & column.present


def _words_compared(words: tuple[str, ...], sign: str, value: Any) -> NDArray[np.bool_]:
    """Return [len(words)] truth values; the words are sorted."""
    true = np.zeros(len(words), dtype=np.bool_)
    if sign == "contains":
        return np.fromiter((value in word for word in words), np.bool_, len(words))
    if sign == "startswith":
        first = bisect_left(words, value)
        last = bisect_right(words, value, lo=first, key=lambda word: word[: len(value)])
        true[first:last] = True
        return true
    if sign in ("==", "!=", "in", "not in"):
        for word in value if isinstance(value, tuple) else (value,):
            true[bisect_left(words, word) : bisect_right(words, word)] = True
        return true if sign in ("==", "in") else ~true
    cut = bisect_left(words, value) if sign in ("<", ">=") else bisect_right(words, value)
    true[:cut] = True
    return true if sign in ("<", "<=") else ~true

"""Filters and conditions as expressions of Milvus that leave out nothing which fulfils them.

Servers differ in what they say of missing values and of `not`: Milvus Lite 2.5.1 knows no `not`,
and for others neither a comparison with a missing value nor its opposite holds. So an expression
here has neither. It may let in too much, such as all documents with a text for the beginning of
one. What comes back is looked at with the filter itself (`lexlip.engines.milvus.view`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lexlip.engines.base import Condition
from lexlip.engines.milvus.documents import (
    NUMBERS,
    ROW,
    TAGS,
    has_column,
    has_value,
    lacks_column,
    number_value,
)
from lexlip.filters.columns import Kind
from lexlip.filters.parser import And, Compare, Expression, Not

_MANY = 64
"""Values of one comparison."""

_LONGEST = 20_000
"""Characters of an expression; beyond that a filter is only looked at afterwards."""

_OPPOSITE = {
    "<": ">=", ">=": "<", ">": "<=", "<=": ">", "==": "!=", "!=": "==", "in": "not in",
    "not in": "in",
}  # fmt: skip


class Field(NamedTuple):
    """A column of metadata in Milvus: its number, its kind, and the first row that knows it."""

    number: int
    kind: Kind
    first: int


def holds(condition: Condition) -> str | None:
    """Return the expression of rows that may fulfil a condition, None for all."""
    if not condition.present:
        return None
    return f"array_contains_all({TAGS}, [{','.join(map(str, condition.terms))}])"


def certain(condition: Condition) -> bool:
    """Return whether rows that `holds` finds fulfil a condition for sure."""
    return condition.present and condition.at_least == 1


def may_fulfil(expression: Expression, columns: Mapping[str, Field]) -> str | None:
    """Return the expression of rows that may fulfil a checked filter, None for all.

    Examples
    --------
    >>> from lexlip.filters.parser import parse
    >>> may_fulfil(parse("year >= 2012"), {"year": Field(0, "int", 0)})
    'numbers["0"] >= 2012.0'
    >>> may_fulfil(parse("not year >= 2012"), {"year": Field(0, "int", 700)})
    '((array_contains(tags, 4294967297) or row < 700) or numbers["0"] < 2012.0)'
    """
    found = _wide(expression, columns, False)
    return found if found is None or len(found) <= _LONGEST else None


def _wide(expression: Expression, columns: Mapping[str, Field], turned: bool) -> str | None:
    if isinstance(expression, Not):
        return _wide(expression.operand, columns, not turned)
    if isinstance(expression, Compare):
        return _compare(expression, columns[expression.column], turned)
    parts = [_wide(operand, columns, turned) for operand in expression.operands]
    there = [part for part in parts if part is not None]
    if isinstance(expression, And) is not turned:  # all of them
        return _joined("and", there) if there else None
    return _joined("or", there) if len(there) == len(parts) else None


def _joined(word: str, parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"({f' {word} '.join(parts)})"


def _compare(compare: Compare, field: Field, turned: bool) -> str | None:
    if not turned:
        return _atom(compare.sign, compare.value, field) or _contains(has_column(field.number))
    missing = _contains(lacks_column(field.number))
    if field.first:
        missing = f"({missing} or {ROW} < {field.first})"
    sign = _OPPOSITE.get(compare.sign)
    atom = _atom(sign, compare.value, field) if sign else None
    return None if atom is None else f"({missing} or {atom})"


def _contains(tag: int) -> str:
    return f"array_contains({TAGS}, {tag})"


def _atom(sign: str, value: Any, field: Field) -> str | None:
    """Return the expression of a comparison, None where only the presence of a value is known."""
    values = value if isinstance(value, tuple) else (value,)
    if sign in ("==", "in"):
        if not values or len(values) > _MANY:
            return None
        if field.kind in ("bool", "str"):
            tags = ",".join(str(has_value(field.number, one)) for one in values)
            return f"array_contains_any({TAGS}, [{tags}])"
        parts = [_number("==", one, field) for one in values]
        there = [part for part in parts if part is not None]
        return _joined("or", there) if len(there) == len(parts) else None
    if sign in ("<", "<=", ">", ">=") and field.kind in ("int", "float"):
        return _number(sign, value, field)
    return None


def _number(sign: str, value: Any, field: Field) -> str | None:
    number = repr(number_value(value))
    if "e" in number:  # not all servers read 1e+300
        return None
    return f'{NUMBERS}["{field.number}"] {sign} {number}'

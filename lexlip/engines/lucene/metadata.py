"""Metadata in Lucene: the fields that hold it, and filters as Lucene queries.

Every value is a separate field, found by its kind and column. Whole numbers and fractions are
one kind of field, float64 with points and doc values: it holds both exactly, so a column may turn
from the one into the other. All values of a document are stored once more, as JSON, for `fetch`;
and the kinds of all columns are kept with the commit, for the errors that `Where.check` gives.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from lexlip.engines.lucene.bridge import PACKAGE
from lexlip.errors import LexLIPError
from lexlip.filters.columns import Kind, Value
from lexlip.filters.where import And, Compare, Expression, Not

STORED = "columns"
KINDS = "lexlip.filters.columns"
"""Key of a commit's user data that holds the kinds of the columns."""

_MOST_FORMS = 256


def field_name(kind: Kind, column: str) -> str:
    """Return the field of a column; it cannot be `id`, `impacts` or `columns`.

    Examples
    --------
    >>> field_name("int", "year"), field_name("float", "year"), field_name("str", "id")
    ('number:year', 'number:year', 'text:id')
    """
    return {"bool": "truth:", "str": "text:"}.get(kind, "number:") + column


def dump_kinds(kinds: Mapping[str, Kind]) -> str:
    """Write the kinds of columns for a commit's user data."""
    return json.dumps(dict(kinds))


def load_kinds(text: str | None) -> dict[str, Kind]:
    """Read the output of `dump_kinds`; no text means no columns.

    Raises
    ------
    LexLIPError
        When it is damaged.
    """
    try:
        kinds = json.loads(text or "{}")
        if set(kinds.values()) <= {"bool", "int", "float", "str"}:
            return kinds
    except (ValueError, TypeError, AttributeError):
        pass
    raise LexLIPError("the kinds of the metadata columns are damaged: build the index again")


class DocumentForms:
    """Lucene Documents filled again and again: Lucene copies what it takes.

    A document has fields for the values that it has, so there is one Document for each set of
    columns that come together. Not for several threads.

    Parameters
    ----------
    lucene
        Its classes.
    fields
        The fields of every document.
    """

    def __init__(self, lucene: SimpleNamespace, fields: list[Any]) -> None:
        self._lucene = lucene
        self._fields = fields
        self._plain = self._document([])
        self._stored = lucene.StoredField(STORED, "")
        self._made: dict[str, Any] = {}
        self._forms: dict[tuple[str, ...], Any] = {}

    def _document(self, extra: list[Any]) -> Any:
        document = self._lucene.Document()
        for field in [*self._fields, *extra]:
            document.add(field)
        return document

    def _field(self, name: str) -> Any:
        """Return the one field of that name, made when it is first wanted."""
        lucene = self._lucene
        if name not in self._made:
            if name.startswith("number:"):
                self._made[name] = lucene.DoubleField(name, 0.0)
            else:
                self._made[name] = lucene.KeywordField(name, "", lucene.Field_Store.NO)
        return self._made[name]

    def fill(self, values: Mapping[str, Value], kinds: Mapping[str, Kind]) -> Any:
        """Return a Document with these values; the fields of every document are the caller's."""
        if not values:
            return self._plain
        names = tuple(field_name(kinds[column], column) for column in values)
        form = self._forms.get(names)
        if form is None:
            if len(self._forms) >= _MOST_FORMS:
                self._forms.clear()
            form = self._document([self._stored, *map(self._field, names)])
            self._forms[names] = form
        for name, value in zip(names, values.values(), strict=True):
            if name.startswith("number:"):
                self._made[name].setDoubleValue(float(value))
            else:
                self._made[name].setStringValue(str(value))
        self._stored.setStringValue(json.dumps(values, ensure_ascii=False, separators=(",", ":")))
        return form


def join(lucene: SimpleNamespace, *clauses: tuple[Any, str]) -> Any:
    """Return the query of (query, MUST or FILTER or SHOULD or MUST_NOT) pairs."""
    builder = lucene.BooleanQuery_Builder()
    for query, occur in clauses:
        builder.add(query, getattr(lucene.BooleanClause_Occur, occur))
    # pyjnius cannot choose among overloads that take a subclass.
    return lucene.cast(PACKAGE + "search.Query", builder.build())


class FilterQueries:
    """Turns checked filters into Lucene queries that match the same documents.

    Parameters
    ----------
    lucene
        Its classes.
    kinds
        The kinds of the columns; the filter was checked against them.
    """

    def __init__(self, lucene: SimpleNamespace, kinds: Mapping[str, Kind]) -> None:
        self._lucene = lucene
        self._kinds = kinds

    def query(self, expression: Expression) -> Any:
        """Return the query for an expression."""
        if isinstance(expression, Compare):
            return self._compare(expression)
        if isinstance(expression, Not):
            return self._without(self._lucene.MatchAllDocsQuery(), self.query(expression.operand))
        together = "FILTER" if isinstance(expression, And) else "SHOULD"
        parts = [(self.query(operand), together) for operand in expression.operands]
        return join(self._lucene, *parts)

    def _without(self, every: Any, some: Any) -> Any:
        return join(self._lucene, (every, "FILTER"), (some, "MUST_NOT"))

    def _compare(self, compare: Compare) -> Any:
        kind = self._kinds[compare.column]
        field = field_name(kind, compare.column)
        negated = {"!=": "==", "not in": "in"}.get(compare.sign)
        if negated is not None:
            there = self._lucene.FieldExistsQuery(field)
            if compare.value == ():
                return there
            return self._without(
                there, self._compare(Compare(compare.column, negated, compare.value))
            )
        if kind in ("int", "float"):
            return self._numbers(field, compare.sign, compare.value)
        return self._words(field, compare.sign, compare.value)

    def _words(self, field: str, sign: str, value: Any) -> Any:
        lucene = self._lucene
        if sign == "==":
            return lucene.KeywordField.newExactQuery(field, str(value))
        if sign == "in":
            if not value:
                return lucene.MatchNoDocsQuery()
            keys = [lucene.BytesRef(str(one).encode("utf-8")) for one in value]
            return lucene.KeywordField.newSetQuery(field, *keys)
        if sign == "startswith":
            return lucene.PrefixQuery(lucene.Term(field, str(value)))
        if sign == "contains":
            literal = re.sub(r"[*?\\]", r"\\\g<0>", str(value))
            return lucene.WildcardQuery(lucene.Term(field, f"*{literal}*"))
        lower, upper = (None, value) if sign[0] == "<" else (value, None)
        # Terms are ordered by their UTF-8 bytes, which is the order of code points.
        inclusive = sign.endswith("=")
        return lucene.TermRangeQuery.newStringRange(field, lower, upper, inclusive, inclusive)

    def _numbers(self, field: str, sign: str, value: Any) -> Any:
        kind = self._lucene.DoubleField
        if sign == "in":
            if not value:
                return self._lucene.MatchNoDocsQuery()
            return kind.newSetQuery(field, *[float(one) + 0.0 for one in value])
        number = float(value) + 0.0  # no -0.0, as in the columns
        if sign == "==":
            return kind.newExactQuery(field, number)
        low, high = -math.inf, math.inf
        if sign[0] == "<":
            high = number if sign == "<=" else math.nextafter(number, -math.inf)
        else:
            low = number if sign == ">=" else math.nextafter(number, math.inf)
        if (sign, number) in ((">", math.inf), ("<", -math.inf)):
            return self._lucene.MatchNoDocsQuery()  # nothing lies beyond infinity
        return kind.newRangeQuery(field, low, high)

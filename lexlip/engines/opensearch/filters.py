"""Filters and conditions as queries of OpenSearch that match the same documents."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lexlip.engines.base import Condition
from lexlip.engines.opensearch.documents import BORN, DIED, ID, IMPACTS, field_name, field_value
from lexlip.filters.columns import Kind
from lexlip.filters.parser import And, Compare, Expression, Not

Query = dict[str, Any]

NOTHING: Query = {"match_none": {}}
_MANY = 65_536
"""Values of one `terms` query."""

_PACK = 1000
"""Clauses that are counted together; a few more, as of a sort, are then allowed beside them."""

_BOUNDS = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}


def living(generation: int) -> list[Query]:
    """Return the clauses of the documents of a commit."""
    return [{"range": {BORN: {"lte": generation}}}, without({"range": {DIED: {"lte": generation}}})]


def without(query: Query) -> Query:
    """Return the query of all other documents."""
    return {"bool": {"must_not": [query]}}


def every(queries: Sequence[Query]) -> Query:
    """Return the query of the documents that fulfil all."""
    return {"bool": {"filter": list(queries)}}


def some(queries: Sequence[Query]) -> Query:
    """Return the query of the documents that fulfil one at least."""
    return {"bool": {"should": list(queries), "minimum_should_match": 1}}


def any_of(field: str, values: Iterable[Any]) -> Query:
    """Return the query of the documents with one of these values."""
    wanted = list(values)
    parts = [
        {"terms": {field: wanted[at : at + _MANY]}} for at in range(0, len(wanted), _MANY)
    ]  # fmt: skip
    return some(parts) if len(parts) > 1 else parts[0] if parts else NOTHING


def with_ids(ids: Sequence[str]) -> Query:
    """Return the query of the documents with these ids."""
    return any_of(ID, ids)


def feature(term: int, weight: int = 1) -> Query:
    """Return the query whose score is weight times the impact of a term."""
    return {"rank_feature": {"field": f"{IMPACTS}.{term}", "linear": {}, "boost": weight}}


def holds(condition: Condition) -> Query:
    """Return the query of the documents that fulfil a condition."""
    needed = [_has(term, condition.at_least) for term in condition.terms]
    return every(needed) if condition.present else without(every(needed))


def _has(term: int, at_least: int) -> Query:
    if at_least == 1:
        return feature(term)
    return {"function_score": {"query": feature(term), "min_score": at_least}}


def clauses_of(query: Any) -> int:
    """Return how many clauses OpenSearch counts in a query: 1,024 are allowed.

    Examples
    --------
    >>> clauses_of(every([feature(7), without(with_ids(["a", "b"]))]))
    2
    """
    leaves = (
        "rank_feature", "range", "term", "terms", "prefix", "wildcard", "exists", "function_score"
    )  # fmt: skip
    if isinstance(query, list):
        return sum(map(clauses_of, query))
    if not isinstance(query, dict):
        return 0
    return sum(1 if name in leaves else clauses_of(part) for name, part in query.items())


def packed(queries: Sequence[Query]) -> list[Query]:
    """Return clauses that match the same documents, of which OpenSearch counts few enough.

    A function that scores has filters, each with 1,024 clauses of its own, and is one clause
    itself. So many clauses become some such functions, one inside another where it takes that.

    Examples
    --------
    >>> many = packed([feature(term) for term in range(2_500)])
    >>> len(many), clauses_of(many)
    (3, 3)
    """
    if clauses_of(list(queries)) <= _PACK:
        return list(queries)
    inner = [_packed(query) for query in queries]
    packs: list[list[Query]] = [[]]
    for query in inner:
        if clauses_of([*packs[-1], query]) > _PACK:
            packs.append([])
        packs[-1].append(query)
    return [_uncounted(every(pack)) for pack in packs]


def _packed(query: Query) -> Query:
    """Return a query that is at most a pack."""
    if clauses_of(query) <= _PACK:
        return query
    ((kind, given),) = query.items()
    parts = dict(given)
    if "filter" in parts:
        parts["filter"] = packed(parts["filter"])
    if "must_not" in parts:  # `without` excludes one query
        parts["must_not"] = [_packed(part) for part in parts["must_not"]]
    if "should" in parts:
        inner = [_packed(part) for part in parts["should"]]
        parts["should"] = [
            _uncounted(some(inner[at : at + _PACK])) for at in range(0, len(inner), _PACK)
        ]
    return {kind: parts}


def _uncounted(query: Query) -> Query:
    """Return a query of the same documents that is one clause; all others score 1 in it."""
    one = {"query": {"match_all": {}}, "functions": [{"filter": query, "weight": 2}]}
    return {"function_score": {**one, "boost_mode": "replace", "min_score": 2}}


def fulfils(expression: Expression, columns: Mapping[str, tuple[int, Kind]]) -> Query:
    """Return the query of a filter that was checked against the columns (number, kind)."""
    if isinstance(expression, Compare):
        return _compare(expression, columns)
    if isinstance(expression, Not):
        return without(fulfils(expression.operand, columns))
    parts = [fulfils(operand, columns) for operand in expression.operands]
    return every(parts) if isinstance(expression, And) else some(parts)


def _compare(compare: Compare, columns: Mapping[str, tuple[int, Kind]]) -> Query:
    number, kind = columns[compare.column]
    field = field_name(number, kind)
    there = {"exists": {"field": field}}
    sign: str = compare.sign
    value: Any = compare.value
    if (positive := {"!=": "==", "not in": "in"}.get(sign)) is not None:
        same = Compare(compare.column, positive, value)
        return there if value == () else every([there, without(_compare(same, columns))])
    if sign == "==":
        return {"term": {field: {"value": field_value(value, kind)}}}
    if sign == "in":
        return any_of(field, [field_value(one, kind) for one in value])
    if sign == "startswith":
        return {"prefix": {field: {"value": value}}} if value else there
    if sign == "contains":
        literal = re.sub(r"[*?\\]", r"\\\g<0>", value)
        return {"wildcard": {field: {"value": f"*{literal}*"}}} if value else there
    # Keywords are ordered by their UTF-8 bytes, which is the order of code points.
    return {"range": {field: {_BOUNDS[sign]: field_value(value, kind)}}}

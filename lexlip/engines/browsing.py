"""Browsing an index without a query: the newest documents, and what its columns hold."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from typing import Literal

from lexlip.engines.base import Engine
from lexlip.filters.columns import Kind, Value
from lexlip.filters.parser import And, Compare, Expression, Not
from lexlip.filters.where import Where

DATES = ("taken", "modified")
"""Columns that say how old a picture is, the best one first."""

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}.*)?")


@dataclass(frozen=True)
class Facet:
    """What a column holds.

    Attributes
    ----------
    name : str
    kind : str
        That of the column; "date" for text that is dates in ISO form.
    values : tuple of (value, int)
        The most frequent values of text and truth values, and how many documents have each.
    whole : bool
        Whether these are all values.
    smallest, largest : value or None
        Of numbers and dates.
    """

    name: str
    kind: Kind | Literal["date"]
    values: tuple[tuple[Value, int], ...] = ()
    whole: bool = True
    smallest: Value | None = None
    largest: Value | None = None


def facets(engine: Engine, most: int = 100, where: Where | None = None) -> list[Facet]:
    """Return what each column holds, by name.

    Parameters
    ----------
    engine : Engine
    most : int
        Values of a column that are counted, the most frequent ones.
    where : Where, optional
        Only of documents that fulfil this filter.

    Raises
    ------
    LexLIPError
        For a filter that does not fit the columns.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> from lexlip.engines import PostingsEngine
    >>> engine = PostingsEngine()
    >>> engine.add(["a", "b"], csr_array([[1], [1]]), {"year": [2020, 2024], "by": ["Ada", "Ada"]})
    >>> engine.commit()
    >>> by, year = facets(engine)
    >>> by.values, (year.smallest, year.largest)
    ((('Ada', 2),), (2020, 2024))
    >>> engine.close()
    """
    return [facet(engine, name, most, where) for name in sorted(engine.kinds)]


def facet(engine: Engine, name: str, most: int = 100, where: Where | None = None) -> Facet:
    """Return what one column holds; see `facets`."""
    kind = engine.kinds[name]
    if kind != "bool":
        ends = [engine.ordered(name, 1, where, down) for down in (False, True)]
        if not all(ends):
            return Facet(name, kind)
        smallest, largest = (end[0][1] for end in ends)
        if kind != "str":
            return Facet(name, kind, smallest=smallest, largest=largest)
        if is_date(smallest) and is_date(largest):
            return Facet(name, "date", smallest=smallest, largest=largest)
    values = engine.counts(name, most + 1, where)
    return Facet(name, kind, tuple(values[:most]), len(values) <= most)


def facets_of(
    documents: Iterable[Mapping[str, Value]], kinds: Mapping[str, Kind], most: int = 100
) -> list[Facet]:
    """Return what each column holds in some documents, by name.

    Parameters
    ----------
    documents : iterable of mapping
        Their metadata, as `Engine.fetch` returns them.
    kinds : mapping of str to str
        `Engine.kinds`, or some of them.
    most : int
        As for `facets`.

    Examples
    --------
    >>> facets_of([{"by": "Ada"}, {"by": "Eve"}, {"by": "Ada"}, {}], {"by": "str"})[0].values
    (('Ada', 2), ('Eve', 1))
    """
    rows = list(documents)
    found = []
    for name, kind in sorted(kinds.items()):
        counted = Counter(row[name] for row in rows if name in row)
        smallest, largest = min(counted, default=None), max(counted, default=None)
        dated = is_date(smallest) and is_date(largest)
        if dated or kind not in ("str", "bool"):
            shown = "date" if dated else kind
            found.append(Facet(name, shown, smallest=smallest, largest=largest))
        else:
            values = sorted(counted.items(), key=lambda pair: (-pair[1], pair[0]))
            found.append(Facet(name, kind, tuple(values[:most]), len(values) <= most))
    return found


def is_date(value: Value | None) -> bool:
    """Return whether a value is a date in ISO form.

    Examples
    --------
    >>> is_date("2024-05-31"), is_date("2024-05-31T17:00:00"), is_date("May"), is_date(2024)
    (True, True, False, False)
    """
    return isinstance(value, str) and _DATE.fullmatch(value) is not None


def newest(engine: Engine, k: int, offset: int = 0, where: Where | None = None) -> list[str]:
    """Return ids of the newest documents: by the date when they were taken, else of their file.

    Documents without any date come last, in the order of ids.

    Parameters
    ----------
    engine : Engine
    k : int
    offset : int
        Documents to pass over.
    where : Where, optional
        Only documents that fulfil this filter.

    Raises
    ------
    LexLIPError
        For a filter that does not fit the columns.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> from lexlip.engines import PostingsEngine
    >>> engine = PostingsEngine()
    >>> columns = {"taken": ["2024-01-01", None, None], "modified": ["2025", "2024-05-05", None]}
    >>> engine.add(["a", "b", "c"], csr_array([[1], [1], [1]]), columns)
    >>> engine.commit()
    >>> newest(engine, 3)
    ['b', 'a', 'c']
    >>> engine.close()
    """
    last = offset + k
    kinds = engine.kinds
    missing: list[Expression] = []  # of the dates before
    lists = []
    for name in DATES:
        if kinds.get(name) != "str":
            continue
        lists.append(engine.ordered(name, last, _also(where, missing)))
        missing.append(Not(Compare(name, "not in", ())))
    dated = [name for name, _ in islice(merge(*lists, key=_age), last)]
    if len(dated) < last:
        rest = engine.ordered(None, last - len(dated), _also(where, missing))
        dated += [name for name, _ in rest]
    return dated[offset:last]


def _age(document: tuple[str, Value | None]) -> _Later:
    return _Later((str(document[1]), document[0]))


class _Later(tuple[str, str]):
    """A date and an id: the later date first, then the smaller id."""

    __slots__ = ()

    def __lt__(self, other: tuple[str, ...]) -> bool:
        return self[0] > other[0] or (self[0] == other[0] and self[1] < other[1])


def _also(where: Where | None, more: list[Expression]) -> Where | None:
    """Return a filter with more conditions; a comparison `not in ()` is true of all values."""
    if not more:
        return where
    every = ([] if where is None else [where.expression]) + more
    return Where(every[0] if len(every) == 1 else And(tuple(every)), where.text if where else "")

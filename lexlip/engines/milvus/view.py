"""One commit of an index as a reader sees it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lexlip.engines import distant
from lexlip.engines.base import Condition
from lexlip.engines.distant import Unavailable
from lexlip.engines.milvus.documents import (
    CAP,
    IMPACTS,
    INDEX,
    NAME,
    ROW,
    SEARCH,
    SUM,
    TEXT,
    impacts_of,
    in_list,
    number_of,
)
from lexlip.engines.milvus.filters import certain, holds, may_fulfil
from lexlip.engines.milvus.place import Place, patience
from lexlip.engines.milvus.state import Rows, State, read_state
from lexlip.engines.rows import load_values
from lexlip.filters.columns import Column, Kind, Value
from lexlip.filters.where import Where

_MANY = 1000
Found = dict[str, Any]


class View:
    """The documents of one commit.

    Parameters
    ----------
    client : pymilvus.MilvusClient
    place : Place
        Of the collection.
    state : State
    watched : bool
        Whether another process may drop what is dead.

    Attributes
    ----------
    counted : dict of int to int
        In how many documents a term is, as far as somebody asked: it stays so in a commit.
    """

    def __init__(self, client: Any, place: Place, state: State, watched: bool) -> None:
        self.client, self.place = client, place
        self.state, self.kinds = state, state.kinds
        self._watched, self._seen = watched, time.monotonic()
        self.counted: dict[int, int] = {}

    def check(self) -> None:
        """Raise when documents of this commit were dropped by `compact`."""
        if self._watched and time.monotonic() - self._seen > distant.LOOK:
            newest = self.newer()
            if newest is not None and newest.oldest > self.state.generation:
                raise Unavailable(f"{self.place} was compacted by its writer: open it again")

    def newer(self) -> State | None:
        """Read the newest state, None where it is that of this view."""
        self._seen = time.monotonic()
        return read_state(self.client, self.place, self.state.number)

    def query(self, expression: str, fields: Sequence[str], most: int = CAP) -> list[Found]:
        """Return the rows that an expression finds, with some of their fields."""
        found: list[Found] = self.client.query(
            self.place.name,
            filter=expression,
            output_fields=list(fields),
            limit=most,
            timeout=patience(self.place),
        )
        return found

    def nearest(
        self, terms: Mapping[int, int], most: int, expression: str, fields: Sequence[str]
    ) -> list[Found]:
        """Return the rows with the largest scores, each with its `score`; those of 0 are none."""
        answer = self.client.search(
            self.place.name,
            data=[{term: float(weight) for term, weight in terms.items()}],
            anns_field=IMPACTS,
            filter=expression,
            limit=most,
            output_fields=list(fields),
            search_params={**SEARCH, "metric_type": INDEX["metric_type"]},
            timeout=patience(self.place),
        )[0]
        return [{**hit["entity"], "score": int(hit["distance"])} for hit in answer]

    def bands(self, since: int = 0) -> Iterator[str]:
        """Yield expressions which part the rows from `since` so that one answer has all of each."""
        for start in range(since, self.state.rows, CAP):
            yield f"{ROW} >= {start} and {ROW} < {min(start + CAP, self.state.rows)}"

    def alive(self, found: list[Found]) -> list[Found]:
        """Return the rows that are documents of this commit."""
        dead = self.state.dead
        if not dead.size or not found:
            return found
        rows: Rows = np.fromiter((it[ROW] for it in found), np.int64, len(found))
        at = np.minimum(np.searchsorted(dead, rows), dead.size - 1)
        return [it for it, gone in zip(found, (dead[at] == rows).tolist(), strict=True) if not gone]

    def all(
        self, fields: Sequence[str] = (), where: Where | None = None, since: int = 0
    ) -> Iterator[list[Found]]:
        """Yield all documents that fulfil a filter, in no promised order, with their names.

        Those of rows from `since` only: what later commits added.
        """
        wish = Wish(self, where)
        for band in self.bands(since):
            self.check()
            yield wish.granted(self.query(wish.within(band), [*wish.fields, *fields]))
            self.check()

    def find(self, ids: Sequence[str], fields: Sequence[str] = ()) -> dict[str, Found]:
        """Return the documents with these ids, by id."""
        self.check()
        names = list(dict.fromkeys(ids))
        found: dict[str, Found] = {}
        for start in range(0, len(names), _MANY):
            wanted = set(names[start : start + _MANY])
            sums = in_list(SUM, list(map(number_of, wanted)))
            expression = f"{sums} and {ROW} >= 0 and {ROW} < {self.state.rows}"
            for row in self.alive(self._every(expression, [ROW, NAME, *fields])):
                if row[NAME] in wanted:
                    found[row[NAME]] = row
        return found

    def _every(self, expression: str, fields: Sequence[str]) -> list[Found]:
        """Return all rows that an expression finds: more than one answer has, where need be."""
        found = self.query(expression, fields)
        if len(found) < CAP:
            return found
        return [
            row for band in self.bands() for row in self.query(f"{expression} and {band}", fields)
        ]

    def impacts(self, rows: Sequence[int]) -> dict[int, dict[int, int]]:
        """Return the impacts of rows, by row.

        A search that gives vectors takes Milvus Lite 2.5.1 a time that grows with their square.
        """
        found: dict[int, dict[int, int]] = {}
        for start in range(0, len(rows), _MANY):
            some = in_list(ROW, rows[start : start + _MANY])
            found |= {it[ROW]: impacts_of(it[IMPACTS]) for it in self.query(some, [ROW, IMPACTS])}
        return found

    def values(self, row: Found) -> dict[str, Value]:
        """Return the metadata of a row."""
        return load_values(row[TEXT] or None, self.kinds)


class Wish:
    """Which documents are wanted: asked of the server as far as it can, and looked at here."""

    def __init__(
        self, view: View, where: Where | None, conditions: Sequence[Condition] = ()
    ) -> None:
        self._view, self._where = view, where
        parts = []
        if where is not None:
            where.check(view.kinds)
            parts.append(may_fulfil(where.expression, view.state.columns))
        parts += map(holds, conditions)
        self._expression = " and ".join(f"({part})" for part in parts if part is not None)
        self._conditions = [one for one in conditions if not certain(one)]
        self.fields = [ROW, NAME]
        if where is not None:
            self.fields.append(TEXT)

    @property
    def looks(self) -> bool:
        """Whether documents that a server finds may be refused here."""
        return self._where is not None or bool(self._conditions)

    def within(self, expression: str) -> str:
        """Return the expression of the rows of another one that may be wanted."""
        return f"{expression} and {self._expression}" if self._expression else expression

    def granted(self, found: list[Found]) -> list[Found]:
        """Return the wanted documents among rows."""
        rows = self._view.alive(found)
        if self._where is not None and rows:
            values = [self._view.values(row) for row in rows]
            columns = {
                name: _column(name, [one.get(name) for one in values], self._view.kinds[name])
                for name in self._where.columns
            }
            kept = self._where.mask(columns).tolist()
            rows = [row for row, keep in zip(rows, kept, strict=True) if keep]
        if not self._conditions or not rows:
            return rows
        impacts = self._view.impacts([row[ROW] for row in rows])
        return [
            row
            for row in rows
            if all(_fulfils(impacts[row[ROW]], condition) for condition in self._conditions)
        ]


def _fulfils(impacts: Mapping[int, int], condition: Condition) -> bool:
    has = all(impacts.get(term, 0) >= condition.at_least for term in condition.terms)
    return has is condition.present


def _column(name: str, values: list[Value | None], kind: Kind) -> Column:
    """Return a column of its kind, also where all values are missing."""
    made = Column.of(values, name)
    if made.kind is not None:
        return made
    types: dict[Kind, Any] = {"bool": np.bool_, "int": np.int64, "float": np.float64}
    data = np.zeros(len(values), types.get(kind, np.int32))
    return Column(kind, data, np.zeros(len(values), np.bool_))

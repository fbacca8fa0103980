"""One commit of an index as a reader sees it."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

from lexlip.engines import distant
from lexlip.engines.base import Condition
from lexlip.engines.distant import Unavailable
from lexlip.engines.opensearch.documents import ID, ROW
from lexlip.engines.opensearch.filters import (
    Query,
    every,
    fulfils,
    holds,
    living,
    packed,
    with_ids,
)
from lexlip.engines.opensearch.paging import PAGE, ask, pages
from lexlip.engines.opensearch.place import Place
from lexlip.engines.opensearch.state import State, numbered, read_state
from lexlip.engines.rows import load_values
from lexlip.filters.columns import Value
from lexlip.filters.where import Where

_MANY = 1000
_KEPT = 1024
"""Documents of a commit that a reader keeps, some 10 KB each with all impacts."""

BY_ID = [{ID: "asc"}]


class View:
    """The documents of one commit.

    Parameters
    ----------
    client
    place : Place
    state : State
    watched : bool
        Whether another process may drop what is dead.

    Attributes
    ----------
    counted : dict of int to int
        In how many documents a term is, as far as somebody asked: it stays so in a commit.
    """

    def __init__(self, client: Any, place: Place, state: State, watched: bool) -> None:
        self.client, self.place, self.state = client, place, state
        self.columns = numbered(state.columns)
        self._watched, self._seen = watched, time.monotonic()
        self._lock = threading.Lock()
        self.counted: dict[int, int] = {}
        self._found: OrderedDict[tuple[str, ...], dict[str, Any] | None] = OrderedDict()

    def check(self) -> None:
        """Raise when documents of this commit were dropped by `compact`."""
        if self._watched and time.monotonic() - self._seen > distant.LOOK:
            newest = self.newest()
            if newest.oldest > self.state.generation or newest.owner != self.state.owner:
                raise Unavailable(f"{self.place} was compacted by its writer: open it again")

    def newest(self) -> State:
        """Return the state of the last commit."""
        self._seen = time.monotonic()
        return read_state(self.client, self.place)

    def clauses(
        self,
        where: Where | None = None,
        conditions: Sequence[Condition] = (),
        among: Sequence[str] | None = None,
    ) -> list[Query]:
        """Return the clauses of the living documents that fulfil all of these."""
        found = living(self.state.generation)
        if where is not None:
            where.check(self.state.columns)
            found.append(fulfils(where.expression, self.columns))
        found += map(holds, conditions)
        if among is not None:
            found.append(with_ids(among))
        return packed(found)

    def ask(self, body: dict[str, Any]) -> dict[str, Any]:
        """Search."""
        self.check()
        return ask(self.client, self.place, body)

    def pages(
        self, body: dict[str, Any], most: int, size: int = PAGE
    ) -> Iterator[list[dict[str, Any]]]:
        """Yield the first hits of a search in pages."""
        self.check()
        for page in pages(self.client, self.place, body, most, size):
            yield page
            self.check()

    def all(
        self, fields: Sequence[str] = (), clauses: Sequence[Query] = (), size: int = PAGE
    ) -> Iterator[list[dict[str, Any]]]:
        """Yield all documents by id, in pages, with some fields of their source."""
        body = {
            "query": every([*living(self.state.generation), *clauses]),
            "sort": BY_ID,
            "_source": list(fields) or False,
            "track_total_hits": False,
        }
        yield from self.pages(body, max(1, self.state.documents), size)

    def find(self, ids: Sequence[str], fields: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
        """Return the hits of the documents with these ids, by id."""
        every_name, found = list(dict.fromkeys(ids)), dict[str, dict[str, Any]]()
        names = []
        for name in every_name:
            try:
                hit = self._found[name, *fields]
            except KeyError:
                names.append(name)
            else:
                if hit is not None:
                    found[name] = hit
        for start in range(0, len(names), _MANY):
            some = names[start : start + _MANY]
            body = {
                "query": every(self.clauses(among=some)),
                "sort": BY_ID,
                "_source": list(fields) or False,
                "track_total_hits": False,
                "size": len(some),
            }
            new = {hit["sort"][0]: hit for hit in self.ask(body)["hits"]["hits"]}
            found |= new
            if self._watched and len(some) <= _KEPT // 4:
                self._keep(some, fields, new)
        return found

    def _keep(
        self, names: Sequence[str], fields: Sequence[str], found: dict[str, dict[str, Any]]
    ) -> None:
        """Keep some hits: what a page shows is asked for several times, and stays in a commit."""
        with self._lock:
            self._found.update({(name, *fields): found.get(name) for name in names})
            while len(self._found) > _KEPT:
                self._found.popitem(last=False)

    def count(self, clauses: Sequence[Query]) -> int:
        """Return how many documents fulfil all clauses."""
        body = {"query": every(clauses), "size": 0, "track_total_hits": True}
        return int(self.ask(body)["hits"]["total"]["value"])

    def values(self, hit: dict[str, Any]) -> dict[str, Value]:
        """Return the metadata of a hit."""
        row = hit.get("_source", {}).get(ROW)
        return load_values(row["json"] if row else None, self.state.columns)

"""Changes of an index that wait for their commit.

New documents go to the cluster at once, where nobody sees them: their `born` is the commit to
come. Its last step replaces the state. Before, `died` is set on the documents that it replaces or
deletes. A writer that was killed leaves documents of a commit that never came, and the next one
takes them away first.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from scipy.sparse import csr_array

from lexlip.engines import distant
from lexlip.engines.opensearch.bulk import send, send_apart
from lexlip.engines.opensearch.documents import (
    BORN,
    DIED,
    document,
    features,
    field_name,
    field_type,
    key_of,
)
from lexlip.engines.opensearch.filters import every, living, without
from lexlip.engines.opensearch.paging import pages
from lexlip.engines.opensearch.place import Place
from lexlip.engines.opensearch.state import (
    State,
    check_writer,
    numbered,
    read_state,
    write_state,
)
from lexlip.engines.opensearch.view import BY_ID, View
from lexlip.filters.columns import Kind, Value

_MANY = 1000


class Writer:
    """What one writer changed since the last commit.

    Parameters
    ----------
    client
    place : Place
    state : State
        Of the last commit.
    """

    def __init__(self, client: Any, place: Place, state: State) -> None:
        self.client, self.place, self.state = client, place, state
        self.kinds: Mapping[str, Kind] = dict(state.columns)
        self._added: set[str] = set()
        self._gone: set[str] = set()

    @property
    def coming(self) -> int:
        """The number of the next commit."""
        return self.state.generation + 1

    def _key(self, id: str) -> str:
        return key_of(f"{self.coming}:{id}")

    def recover(self) -> None:
        """Take away what a killed writer left."""
        self.refresh()
        last = self.state.generation
        self._drop({"range": {BORN: {"gt": last}}})
        unborn = {"query": {"range": {DIED: {"gt": last}}}, "sort": BY_ID, "_source": False}
        for page in pages(self.client, self.place, unborn, 2**62):
            self._mark((hit["_id"] for hit in page), None)
        self.refresh()

    def _check(self) -> None:
        """Raise when another writer took over: what we send would get into its commits."""
        check_writer(read_state(self.client, self.place), self.state, self.place)

    def refresh(self) -> None:
        """Show what was sent to searches, all copies of all shards."""
        self.client.indices.refresh(index=self.place.name)

    def _drop(self, query: dict[str, Any]) -> None:
        body = {"query": query}
        wait = max(600, self.place.timeout)
        params = {"conflicts": "proceed", "refresh": "true", "request_timeout": wait}
        self.client.delete_by_query(index=self.place.name, body=body, params=params)

    def _mark(self, keys: Iterable[str], died: int | None) -> None:
        send(
            self.client,
            self.place,
            ({"_op_type": "update", "_id": key, "doc": {DIED: died}} for key in keys),
        )

    def columns(self, kinds: Mapping[str, Kind]) -> None:
        """Make the fields of new columns."""
        ours = numbered(kinds)
        new = {field_name(*ours[n]): field_type(kinds[n]) for n in kinds if n not in self.kinds}
        if new:
            self.client.indices.put_mapping(index=self.place.name, body={"properties": new})
        self.kinds = dict(kinds)

    def add(
        self, ids: Sequence[str], matrix: csr_array, rows: Sequence[Mapping[str, Value]]
    ) -> None:
        """Send documents; they were checked."""
        self._check()
        send_apart(self.client, self.place, self._documents(ids, matrix, rows))
        self._added.update(ids)

    def _documents(
        self, ids: Sequence[str], matrix: csr_array, rows: Sequence[Mapping[str, Value]]
    ) -> Iterator[dict[str, Any]]:
        columns = numbered(self.kinds)
        ends = matrix.indptr.tolist()
        last = {name: row for row, name in enumerate(ids)}
        for name, row in last.items():
            span = slice(ends[row], ends[row + 1])
            impacts = features(matrix.indices[span].tolist(), matrix.data[span].tolist())
            body = document(name, self.coming, impacts, rows[row], columns)
            yield {"_op_type": "index", "_id": self._key(name), "_source": body}

    def delete(self, ids: Sequence[str], view: View) -> int:
        """Delete documents, and return how many were there."""
        self._check()
        names = set(ids)
        fresh = names & self._added
        if fresh:
            actions = ({"_op_type": "delete", "_id": self._key(name)} for name in sorted(fresh))
            send(self.client, self.place, actions)
        older = view.find(sorted(names - self._added - self._gone))
        self._added -= fresh
        self._gone |= fresh | older.keys()
        return len(fresh) + len(older)

    def commit(self, view: View) -> State:
        """Make all changes visible, and return the new state."""
        changed = self._added | self._gone
        if not changed and self.kinds == self.state.columns:
            return self.state
        self._check()
        if self.state.documents:
            names = sorted(changed)
            for start in range(0, len(names), _MANY):
                found = view.find(names[start : start + _MANY])
                self._mark((hit["_id"] for hit in found.values()), self.coming)
        self.refresh()
        coming = View(self.client, self.place, replace(self.state, generation=self.coming), False)
        documents = coming.count(living(self.coming))
        new = replace(
            self.state, generation=self.coming, documents=documents, columns=dict(self.kinds)
        )
        self.state = write_state(self.client, self.place, new)
        self._added, self._gone = set(), set()
        return self.state

    def compact(self) -> State:
        """Drop the documents that no newer reader sees, and merge; return the new state."""
        new = replace(self.state, oldest=self.state.generation)
        self.state = write_state(self.client, self.place, new)
        dead = every([{"exists": {"field": BORN}}, without(every(living(new.generation)))])
        if View(self.client, self.place, new, False).count([dead]):
            time.sleep(distant.GRACE)
            self._drop(dead)
        wait = {"max_num_segments": 1, "request_timeout": max(3600, self.place.timeout)}
        self.client.indices.forcemerge(index=self.place.name, params=wait)
        self.refresh()
        return self.state

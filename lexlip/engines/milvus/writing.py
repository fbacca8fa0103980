"""Changes of an index that wait for their commit.

New documents go to the server at once, where nobody sees them: their rows lie behind the last row
of the commit. A commit adds a state with a later last row, and with the numbers of the rows that it
replaces or deletes. A writer that was killed leaves rows behind the last one, and the next one
takes them away first.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from lexlip.engines import distant
from lexlip.engines.milvus.documents import CAP, NAME, ROW, SIZE, TEXT, document, in_list
from lexlip.engines.milvus.errors import unimplemented
from lexlip.engines.milvus.filters import Field
from lexlip.engines.milvus.place import Place
from lexlip.engines.milvus.state import (
    NO_ROWS,
    State,
    check_writer,
    read_state,
    write_state,
)
from lexlip.engines.milvus.view import View
from lexlip.filters.columns import Kind, Value

_MANY = 1000
_POSTINGS = 200_000
"""Documents, and postings, of a request: some megabytes."""

_RESERVED = 65_536
_POSTING_BYTES = 16


class Writer:
    """What one writer changed since the last commit.

    Parameters
    ----------
    client : pymilvus.MilvusClient
    place : Place
        Of the collection.
    state : State
        Of the last commit.
    lite : bool
        Whether it is Milvus Lite, which searches slowly until it is told to flush. A cluster
        flushes by itself.
    """

    def __init__(self, client: Any, place: Place, state: State, lite: bool) -> None:
        self.client, self.place = client, place
        self.state, self._lite = state, lite
        self.columns: dict[str, Field] = dict(state.columns)
        self._next = state.reserved
        self._added: dict[str, int] = {}
        self._gone: set[str] = set()
        self._dead: list[int] = []
        self._postings = self._bytes = 0

    @property
    def kinds(self) -> dict[str, Kind]:
        """Columns and their kinds, those of uncommitted documents among them."""
        return {name: column.kind for name, column in self.columns.items()}

    def _write(self, state: State) -> None:
        self.state = write_state(self.client, self.place, state, self.state)

    def recover(self) -> None:
        """Take away what a killed writer left."""
        if self.state.reserved > self.state.rows:
            self._delete(f"{ROW} >= {self.state.rows}")
        self._next = self.state.reserved

    def _delete(self, expression: str) -> None:
        self.client.delete(self.place.name, filter=expression, timeout=max(600, self.place.timeout))

    def _check(self) -> None:
        """Raise when another writer took over: what we send would get into its commits."""
        newest = read_state(self.client, self.place, self.state.number)
        check_writer(newest, self.state, self.place)

    def widened(self, kinds: Mapping[str, Kind]) -> dict[str, Field]:
        """Return all columns, new ones numbered, those whose kind changed with the new one."""
        columns = dict(self.columns)
        for name, kind in kinds.items():
            old = columns.get(name)
            new = Field(len(columns), kind, self._next)
            columns[name] = old._replace(kind=kind) if old else new
        return columns

    def bodies(
        self,
        ids: Sequence[str],
        matrix: csr_array,
        rows: Sequence[Mapping[str, Value]],
        columns: Mapping[str, Field],
    ) -> list[list[dict[str, Any]]]:
        """Return documents, which were checked, as the requests that add them.

        Raises
        ------
        LexLIPError
            For a document that Milvus does not take.
        """
        kinds = {name: (field.number, field.kind) for name, field in columns.items()}
        ends = matrix.indptr.tolist()
        last = {name: row for row, name in enumerate(ids)}
        bodies: list[list[dict[str, Any]]] = []
        postings = _POSTINGS
        for at, (name, row) in enumerate(last.items(), self._next):
            span = slice(ends[row], ends[row + 1])
            terms, values = matrix.indices[span].tolist(), matrix.data[span].tolist()
            if postings >= _POSTINGS or len(bodies[-1]) == _MANY:
                bodies.append([])
                postings = 0
            impacts = dict(zip(terms, values, strict=True))
            bodies[-1].append(document(at, name, impacts, rows[row], kinds))
            postings += len(impacts)
        return bodies

    def add(self, bodies: Sequence[list[dict[str, Any]]], columns: Mapping[str, Field]) -> None:
        """Send documents."""
        self._check()
        self.columns = dict(columns)
        for body in bodies:
            needed = self._next + len(body)
            if needed > self.state.reserved or self.state.reserved == self.state.rows:
                self._write(replace(self.state, reserved=needed + _RESERVED))
            self.client.insert(self.place.name, body, timeout=self.place.timeout)
            self._next = needed
            for row in body:
                if row[NAME] in self._added:
                    self._dead.append(self._added[row[NAME]])
                self._added[row[NAME]] = row[ROW]
                self._postings += row[SIZE]
                self._bytes += _bytes(row)

    def delete(self, ids: Sequence[str], view: View) -> int:
        """Delete documents, and return how many were there."""
        self._check()
        names = set(ids)
        fresh = names & self._added.keys()
        self._dead += [self._added.pop(name) for name in fresh]
        older = view.find(sorted(names - fresh - self._gone)) if view.state.documents else {}
        self._gone |= fresh | older.keys()
        return len(fresh) + len(older)

    def commit(self, view: View) -> State:
        """Make all changes visible, and return the new state."""
        changed = self._added.keys() | self._gone
        if not changed and self.columns == self.state.columns:
            return self.state
        self._check()
        found = view.find(sorted(changed)) if self.state.documents else {}
        dead = [*self._dead, *(row[ROW] for row in found.values())]
        if self._lite:
            self.client.flush(self.place.name, timeout=max(600, self.place.timeout))
        last = max(self.state.rows, self._next)
        self._write(
            replace(
                self.state,
                generation=self.state.generation + 1,
                rows=last,
                reserved=last,
                documents=self.state.documents - len(found) + len(self._added),
                postings=self.state.postings + self._postings,
                bytes=self.state.bytes + self._bytes,
                columns=dict(self.columns),
                dead=np.union1d(self.state.dead, dead).astype(np.int64)
                if dead
                else self.state.dead,
            )
        )
        self._added, self._gone, self._dead = {}, set(), []
        self._postings = self._bytes = 0
        return self.state

    def compact(self, view: View) -> State:
        """Drop the documents that no newer reader sees; return the new state."""
        dead = self.state.dead.tolist()
        self._write(replace(self.state, oldest=self.state.generation))
        postings = size = 0
        if dead:
            time.sleep(distant.GRACE)
        for start in range(0, len(dead), CAP // 2):
            some = in_list(ROW, dead[start : start + CAP // 2])
            for row in view.query(some, [ROW, NAME, SIZE, TEXT]):
                postings, size = postings + row[SIZE], size + _bytes(row)
            self._delete(some)
        if dead:
            state = replace(self.state, dead=NO_ROWS.copy())
            self._write(
                replace(state, postings=state.postings - postings, bytes=state.bytes - size)
            )
        self._tidy()
        return self.state

    def _tidy(self) -> None:
        """Let the server merge what it has, where it can."""
        import grpc
        from pymilvus.exceptions import MilvusException

        wait = max(600, self.place.timeout)
        self.client.flush(self.place.name, timeout=wait)
        try:
            self.client.compact(self.place.name, timeout=wait)
        except (MilvusException, grpc.RpcError) as error:
            if not unimplemented(error):
                raise


def _bytes(row: Mapping[str, Any]) -> int:
    """Return what a row takes, about: Milvus does not tell."""
    return _POSTING_BYTES * int(row[SIZE]) + len(row[NAME].encode()) + len(row[TEXT].encode())

"""The Milvus engine: an index in a file, on a local server or on a cluster, by the same calls.

Scores are inner products of sparse vectors, as Milvus computes them: exact integers, since nothing
in them depends on the other documents. The folder on this machine holds the lock of the writer, the
name of the collection, and the name by which the collection knows its folder.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from secrets import token_hex
from typing import Any, Literal

from scipy.sparse import csr_array

from lexlip.engines.base import check_documents
from lexlip.engines.builds import Build
from lexlip.engines.milvus import builds
from lexlip.engines.milvus.browsing import Browses
from lexlip.engines.milvus.checks import (
    check_installed,
    lite_version,
)
from lexlip.engines.milvus.documents import IMPACTS, NAME, SIZE, impacts_of
from lexlip.engines.milvus.errors import readable
from lexlip.engines.milvus.making import Loaded, load, make
from lexlip.engines.milvus.place import Client, Place
from lexlip.engines.milvus.state import State, read_state, write_state
from lexlip.engines.milvus.view import View
from lexlip.engines.milvus.writing import Writer
from lexlip.engines.rows import metadata_of_rows
from lexlip.errors import LexLIPError
from lexlip.filters.columns import merge_kinds, read_columns
from lexlip.storage.views import Vectors


class MilvusEngine(Browses):
    """An engine in Milvus (`lexlip.engines.base.Engine`).

    One engine may write an index at a time; any number may read it. A reader sees the commit that
    was the last when it was opened, until the writer compacts. A killed writer loses what was not
    committed. `search` may be called from several threads.

    Parameters
    ----------
    path
        The folder of the index on this machine.
    mode
        "w" opens for writing and searching, and makes the index if the folder has none yet. "r"
        opens for searching only.
    place
        Where the index is: "http://HOST:19530/NAME" or "/folder/file.db/NAME", with ?shards=,
        &replicas= and &timeout= (seconds).

    Raises
    ------
    LexLIPError
        When pymilvus is missing, Milvus cannot be reached or ranks wrongly, the index is gone or
        belongs to another folder, or another writer has it open (mode "w").

    Examples
    --------
    >>> engine = MilvusEngine("index", "w", "http://127.0.0.1:19530/photos")  # doctest: +SKIP
    >>> engine.add(["a.jpg"], csr_array([[0, 200]]))  # doctest: +SKIP
    >>> engine.commit()  # doctest: +SKIP
    >>> engine.search({1: 2}, k=5)  # doctest: +SKIP
    [Hit(id='a.jpg', score=400)]
    """

    def __init__(
        self, path: str | os.PathLike[str], mode: Literal["w", "r"], place: str | Place
    ) -> None:
        self._begin(path, mode, place if isinstance(place, Place) else Place.parse(place))
        self._client: Client | None = None
        check_installed(self.place)
        self._take_lock(mode)
        try:
            with readable(self.place):
                self._open(mode)
        except BaseException:
            self._let_go()
            raise

    def _open(self, mode: str) -> None:
        place, build = self.place, Build.read(self.path, self.place)
        if mode == "r" and (build is None or not build.made):
            raise LexLIPError(f"{self.path} names no index of Milvus: build it first")
        self._client = place.client()
        milvus = self._client.milvus
        lite = lite_version(milvus, place) is not None
        if build is None:
            builds.check_free(milvus, place)
            build = Build.begin(place, self.path)
            build.write(self.path, self.place)
        self.place = build.at(place)
        loaded = Loaded(milvus, self.place)
        if not build.made:
            state = self._make(milvus, build)
        else:
            load(milvus, self.place)
            found = read_state(milvus, self.place)
            if found is None or found.owner != build.owner:
                raise LexLIPError(f"{self.place} is another index than that of {self.path}")
            state = found
            if mode == "w":
                mine = replace(state, writer=token_hex(16))
                state = write_state(milvus, self.place, mine, state)
        if mode == "w":
            if build.target == os.path.realpath(self.path):
                with suppress(LexLIPError):  # the name leads elsewhere; the folder knows better
                    builds.serve(milvus, place, build)
            self._writer = Writer(loaded, self.place, state, lite)
            self._writer.recover()
        self._view = View(loaded, self.place, state, watched=mode == "r")

    def _make(self, milvus: Any, build: Build) -> State:
        """Make the collection of a build, and write its first state."""
        make(milvus, self.place)
        state = State(build.owner, build.line, token_hex(16))
        state = write_state(milvus, self.place, state, state)
        replace(build, made=True).write(self.path, self.place)
        return state

    def add(
        self,
        ids: Sequence[str],
        impacts: csr_array,
        columns: Mapping[str, Sequence[Any]] | None = None,
        vectors: Vectors | None = None,
    ) -> None:
        """Add documents, replacing those with the same id; see `Engine.add`."""
        self.refuse(vectors)
        writer = self._writing()
        names, matrix = check_documents(ids, impacts)
        metadata = read_columns(columns, len(names))
        kinds = merge_kinds(writer.kinds, metadata)
        rows = metadata_of_rows(metadata, len(names))
        widened = writer.widened(kinds)
        bodies = writer.bodies(names, matrix, rows, widened)
        with self._changing():
            writer.add(bodies, widened)

    def commit(self) -> None:
        """Make all changes durable and visible; see `Engine.commit`."""
        writer, view = self._writing(), self._current()
        with self._changing():
            state = writer.commit(view)
        self._view = View(view.client, self.place, state, watched=False)

    def compact(self) -> None:
        """Commit, and drop what is dead; see `Engine.compact`.

        Readers of earlier commits are told to open the index again.
        """
        self.commit()
        writer, view = self._writing(), self._current()
        with self._changing():
            state = writer.compact(view)
        self._view = View(view.client, self.place, state, watched=False)

    def stale(self) -> bool:
        """Say whether there is a newer commit: one small request; see `Engine.stale`."""
        with self._held() as view:
            newest = view.newer()
            return newest is not None and newest.generation > view.state.generation

    def check_alive(self) -> None:
        """See that the collection answers; see `lexlip.engines.distant.Distant`."""
        with self._held() as view:
            view.newer()

    def coming(self) -> list[str]:
        """Return ids of documents that newer commits brought; see `Distant.coming`."""
        with self._held() as view:
            newest = view.newer()
            if newest is None:
                return []
            newer = View(view.client, self.place, newest, watched=False)
            return [row[NAME] for page in newer.all(since=view.state.rows) for row in page]

    def reopen(self) -> bool:
        """Go on to the newest commit and return whether there was one; see `Engine.reopen`."""
        with self._held() as view:
            state = view.newer()
            if state is None or state.generation <= view.state.generation:
                return False
            watched = self._writer is None
            self._view = View(view.client, self.place, state, watched)
            return True

    def verify(self) -> list[str]:
        """Return a line for each sign of damage; see `Engine.verify`.

        All documents are read, and each must have as many impacts as it was added with.
        """
        names: set[str] = set()
        broken = 0
        with self._held() as view:
            for page in view.all([SIZE, IMPACTS]):
                names.update(row[NAME] for row in page)
                broken += sum(len(impacts_of(row[IMPACTS])) != row[SIZE] for row in page)
            documents = view.state.documents
        lines = []
        if len(names) != documents:
            lines.append(f"{self.place} is damaged: {len(names)} documents of {documents}")
        if broken:
            lines.append(f"{self.place} is damaged: {broken} documents lack impacts")
        return lines

    def stats(self) -> dict[str, int]:
        """Return `documents`, `postings` and `bytes`: of what was sent, since Milvus does not tell
        what it keeps.
        """
        state = self._current().state
        return {
            "documents": state.documents,
            "postings": state.postings,
            "bytes": state.bytes,
        }

    def _hang_up(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):
                client.close()

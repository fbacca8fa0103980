"""The OpenSearch engine: an index on the shards of a cluster, which many machines may search.

Scores are the sums of Lucene's FeatureField, as OpenSearch computes them on each shard: exact
integers, since nothing in them depends on the other documents. The folder on this machine holds
the lock of the writer and the build that it reads.
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
from lexlip.engines.opensearch import builds
from lexlip.engines.opensearch.browsing import Browses
from lexlip.engines.opensearch.checks import check_version
from lexlip.engines.opensearch.documents import BORN, TERMS
from lexlip.engines.opensearch.errors import readable
from lexlip.engines.opensearch.filters import every
from lexlip.engines.opensearch.place import Place
from lexlip.engines.opensearch.state import State, has_state, read_state, write_state
from lexlip.engines.opensearch.view import View
from lexlip.engines.opensearch.writing import Writer
from lexlip.engines.rows import metadata_of_rows
from lexlip.errors import LexLIPError
from lexlip.filters.columns import merge_kinds, read_columns
from lexlip.storage.views import Vectors


class OpenSearchEngine(Browses):
    """An engine on an OpenSearch cluster (`lexlip.engines.base.Engine`).

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
        Where the index is: "http://HOST:9200/NAME", with more nodes after commas, and
        ?shards=, &replicas= (for a new index) and &timeout= (seconds).

    Raises
    ------
    LexLIPError
        When opensearch-py is missing, the cluster cannot be reached or has another version, the
        index is gone or belongs to another folder, or another writer has it open (mode "w").

    Examples
    --------
    >>> place = "http://127.0.0.1:9200/photos"
    >>> engine = OpenSearchEngine("index", "w", place)  # doctest: +SKIP
    >>> engine.add(["a.jpg"], csr_array([[0, 200]]))  # doctest: +SKIP
    >>> engine.commit()  # doctest: +SKIP
    >>> engine.search({1: 2}, k=5)  # doctest: +SKIP
    [Hit(id='a.jpg', score=400)]
    """

    def __init__(
        self, path: str | os.PathLike[str], mode: Literal["w", "r"], place: str | Place
    ) -> None:
        self._begin(path, mode, place if isinstance(place, Place) else Place.parse(place))
        self._made = False
        self._client = self.place.client(reads=mode == "r")
        self._take_lock(mode)
        try:
            with readable(self.place):
                check_version(self._client, self.place)
                state = self._state(mode)
                if mode == "w":
                    self._writer = Writer(self._client, self.place, state)
                    if not self._made:
                        self._writer.recover()
                self._view = View(self._client, self.place, state, watched=mode == "r")
        except BaseException:
            self._let_go()
            raise

    def _state(self, mode: str) -> State:
        """Return the last commit of the folder's index, which is made in an empty folder."""
        place, build = self.place, Build.read(self.path, self.place)
        if mode == "r" and (build is None or not build.made):
            raise LexLIPError(f"{self.path} names no index of OpenSearch: build it first")
        if build is None:
            builds.check_free(self._client, place)
            build = Build.begin(place, self.path)
            build.write(self.path, self.place)
        self.place = build.at(place)
        if not build.made and not self._is_made(place, build):
            return self._first(place, build)
        state = read_state(self._client, self.place)
        if state.owner != build.owner:
            raise LexLIPError(f"{self.place} is another index than that of {self.path}")
        if mode == "w":
            state = write_state(self._client, self.place, replace(state, writer=token_hex(16)))
            with suppress(LexLIPError):  # a killed process may have left that undone
                self._serve(place, build)
        return state

    def _is_made(self, place: Place, build: Build) -> bool:
        """Make the index of a build, and return whether it has a state: of a killed process."""
        builds.make(self._client, place, build, self.path)
        if has_state(self._client, self.place):
            replace(build, made=True).write(self.path, self.place)
            return True
        return False

    def _first(self, place: Place, build: Build) -> State:
        """Write the first state of a build."""
        state = write_state(self._client, self.place, State(build.owner, token_hex(16)))
        replace(build, made=True).write(self.path, self.place)
        self._serve(place, build)
        self._made = True
        return state

    def _serve(self, place: Place, build: Build) -> None:
        """Let the name lead to a build that is in its own folder."""
        if build.target == os.path.realpath(self.path):
            builds.serve(self._client, place, build)

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
        with self._changing():
            writer.columns(kinds)
            writer.add(names, matrix, rows)

    def commit(self) -> None:
        """Make all changes durable and visible; see `Engine.commit`."""
        writer = self._writing()
        with self._changing():
            state = writer.commit(self._current())
        self._view = View(self._client, self.place, state, watched=False)

    def compact(self) -> None:
        """Commit, drop what is dead and merge; see `Engine.compact`.

        Readers of earlier commits are told to open the index again.
        """
        self.commit()
        writer = self._writing()
        with self._changing():
            state = writer.compact()
        self._view = View(self._client, self.place, state, watched=False)

    def stale(self) -> bool:
        """Say whether there is a newer commit: one small request; see `Engine.stale`."""
        with self._held() as view:
            return view.newest().generation > view.state.generation

    def check_alive(self) -> None:
        """See that every shard has a copy that answers; see `lexlip.engines.distant.Distant`."""
        with self._held() as view:
            view.ask({"size": 0, "terminate_after": 1, "track_total_hits": False})

    def reopen(self) -> bool:
        """Go on to the newest commit and return whether there was one; see `Engine.reopen`."""
        with self._held() as view:
            state = read_state(view.client, self.place)
            if state.owner != view.state.owner:
                raise LexLIPError(f"{self.place} is another index than that of {self.path}")
            if state.generation <= view.state.generation:
                return False
            self._view = View(self._client, self.place, state, watched=self._writer is None)
            return True

    def coming(self) -> list[str]:
        """Return ids of documents that newer commits brought; see `Distant.coming`."""
        with self._held() as view:
            newer = View(view.client, self.place, view.newest(), watched=False)
            since = {"range": {BORN: {"gt": view.state.generation}}}
            return [hit["sort"][0] for page in newer.all(clauses=[since]) for hit in page]

    def verify(self) -> list[str]:
        """Return a line for each sign of damage; see `Engine.verify`.

        OpenSearch compares checksums itself. Here all shards must answer, with all documents.
        """
        lines = []
        with self._held() as view:
            health = view.client.cluster.health(index=self.place.name)
            if health["status"] == "red":
                lines.append(f"{self.place} is damaged: a shard of it has no copy")
                return lines
            if (count := view.count(view.clauses())) != view.state.documents:
                lines.append(
                    f"{self.place} is damaged: {count} documents of {view.state.documents}"
                )
        return lines

    def stats(self) -> dict[str, int]:
        """Return `documents`, `postings` and `bytes` on the disks of the cluster."""
        with self._held() as view:
            total = {"terms": {"sum": {"field": TERMS}}}
            answer = view.ask({"query": every(view.clauses()), "size": 0, "aggs": total})
            size = view.client.indices.stats(index=self.place.name, metric="store")
            return {
                "documents": view.state.documents,
                "postings": int(answer["aggregations"]["terms"]["value"]),
                "bytes": int(size["_all"]["total"]["store"]["size_in_bytes"]),
            }

    def _hang_up(self) -> None:
        with suppress(Exception):
            self._client.close()

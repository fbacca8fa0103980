"""Engines whose documents are elsewhere: the part that is the same for all servers.

The folder on this machine holds the lock of the writer and the build that is read. A view is one
commit as a reader sees it, a writer what was changed since.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

from scipy.sparse import csr_array

from lexlip.engines.base import Columns, check_query
from lexlip.engines.candidates import WithoutArrays
from lexlip.engines.rows import rows_of
from lexlip.errors import LexLIPError
from lexlip.filters.columns import Value
from lexlip.storage.folder_lock import FolderLock, locked
from lexlip.storage.ids import check_ids, closed, read_only
from lexlip.storage.views import Vectors


class Commit(Protocol):
    """A commit."""

    @property
    def generation(self) -> int:
        """Its number."""

    @property
    def documents(self) -> int:
        """Documents that it has."""


class Shown(Protocol):
    """The documents of a commit."""

    @property
    def state(self) -> Commit:
        """The commit."""

    def find(self, ids: Sequence[str], fields: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
        """Return the documents with these ids, by id, with some fields."""

    def values(self, hit: dict[str, Any]) -> dict[str, Value]:
        """Return the metadata of a document that was found."""


class Changes(Protocol):
    """Changes since a commit."""

    def delete(self, ids: Sequence[str], view: Any) -> int:
        """Delete documents, and return how many were there."""


V = TypeVar("V", bound=Shown)
W = TypeVar("W", bound=Changes)


class Elsewhere(WithoutArrays, Generic[V, W]):
    """An engine on a server: opening, closing, single documents, and changes that fail.

    Attributes
    ----------
    path : Path
    place : Place
        Of the build itself, once it is open.
    """

    METADATA: ClassVar[str]
    IMPACTS: ClassVar[str]
    """Fields of a document with its metadata, and with its impacts."""

    path: Path
    place: Any
    _view: V | None
    _writer: W | None
    _lock: FolderLock | None
    _failed: bool

    @staticmethod
    @abstractmethod
    def _readable(place: Any) -> AbstractContextManager[None]:
        """Turn what a client raises into errors of one line."""

    @abstractmethod
    def _impacts(self, found: dict[str, Any]) -> dict[int, int]:
        """Return the impacts of a document that was found with that field."""

    @abstractmethod
    def _hang_up(self) -> None:
        """Close the connection, if there is one."""

    @abstractmethod
    def add(
        self,
        ids: Sequence[str],
        impacts: csr_array,
        columns: Columns = None,
        vectors: Vectors | None = None,
    ) -> None:
        """Add documents, replacing those with the same id; see `Engine.add`."""

    def _begin(self, path: str | os.PathLike[str], mode: Literal["w", "r"], place: Any) -> None:
        """Check what was given; the writer is alone from here on."""
        if mode not in ("w", "r"):
            raise LexLIPError(f"mode is {mode!r}: use 'w' or 'r'")
        self.path, self.place = Path(path).absolute(), place
        self._view = self._writer = self._lock = None
        self._failed = False
        if self.path.exists() and not self.path.is_dir():
            raise LexLIPError(f"{self.path} is a file: give the name of a folder")
        if mode == "r" and not self.path.is_dir():
            raise LexLIPError(f"{self.path} does not exist: build the index first")

    def _take_lock(self, mode: Literal["w", "r"]) -> None:
        self._lock = locked(self.path) if mode == "w" else None

    def _current(self) -> V:
        if self._view is None:
            raise closed(str(self.path))
        return self._view

    def _writing(self) -> W:
        self._current()
        if self._writer is None:
            raise read_only(self.path)
        if self._failed:
            raise LexLIPError(
                f"an earlier change of {self.place} failed: open it again, and repeat what was "
                "not committed"
            )
        return self._writer

    @contextmanager
    def _held(self) -> Iterator[V]:
        """Yield the current view; errors of the server become one line."""
        view = self._current()
        with self._readable(self.place):
            yield view

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Change something: a failure leaves the writer useless, and the last commit as it was."""
        try:
            with self._readable(self.place):
                yield
        except BaseException:
            self._failed = True
            raise

    def copy(self, of: Sequence[str], ids: Sequence[str], columns: Columns = None) -> None:
        """Add documents with the impacts of others; see `Engine.copy`."""
        self.add(ids, self.impacts(of), columns)

    def delete(self, ids: Iterable[str]) -> int:
        """Delete by id and return how many were there; see `Engine.delete`."""
        writer, names = self._writing(), check_ids(ids)
        with self._changing():
            return writer.delete(names, self._current()) if names else 0

    def contributions(self, id: str, terms: Iterable[int]) -> dict[int, int]:
        """Return the impacts that a committed document has; see `Engine.contributions`."""
        (name,) = check_ids([id])
        query, _ = check_query(dict.fromkeys(terms, 1), 1)
        (impacts,) = self._impacts_of([name])
        return {term: impacts[term] for term in query if term in impacts}

    def fetch(self, ids: Sequence[str]) -> list[dict[str, Value] | None]:
        """Return the metadata of committed documents; see `Engine.fetch`."""
        names = check_ids(ids)
        with self._held() as view:
            found = view.find(names, [self.METADATA])
            return [view.values(found[name]) if name in found else None for name in names]

    def impacts(self, ids: Sequence[str]) -> csr_array:
        """Return all impacts of committed documents; see `Engine.impacts`."""
        return rows_of(self._impacts_of(check_ids(ids)))

    def _impacts_of(self, names: Sequence[str]) -> list[Mapping[int, int]]:
        with self._held() as view:
            found = view.find(names, [self.IMPACTS])
        for name in names:
            if name not in found:
                raise LexLIPError(f"no document {name!r} in {self.place}: is it committed?")
        return [self._impacts(found[name]) for name in names]

    @property
    def generation(self) -> int:
        """The number of the commit that is shown."""
        return self._current().state.generation

    def __len__(self) -> int:
        """Return the number of committed documents."""
        return self._current().state.documents

    def close(self) -> None:
        """Close the connection; what was not committed is lost. Closing twice is fine."""
        self._view = None
        self._let_go()

    def _let_go(self) -> None:
        """Let the next writer in, whatever became of this one."""
        lock, self._lock, self._writer = self._lock, None, None
        self._hang_up()
        if lock is not None:
            lock.release()

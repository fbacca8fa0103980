"""The served index: one generation for the length of an answer, and one writer."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lexlip.build.identity import Mark, mark
from lexlip.engines.distant import Distant, Unavailable
from lexlip.errors import LexLIPError
from lexlip.index import Index
from lexlip.server.failures import Refused, status_of
from lexlip.server.following import Follower
from lexlip.server.growing import Grower
from lexlip.server.watching import Watch
from lexlip.storage.fair_lock import FairLock

if TYPE_CHECKING:
    from lexlip.models.speaker import Speaker

log = logging.getLogger(__name__)


class ServedIndex:
    """An index that other processes may write to.

    Attributes
    ----------
    model_lock : threading.Lock
        Held around everything that the model does: its tokenizer is not for several threads, and
        two forward passes at a time are no faster than one after the other.
    watch : Watch
        Over the engine, where that is distant: only then it looks.
    follower : Follower or None
        Of an index on shared storage.
    """

    def __init__(
        self, path: Path, model: Speaker | None, grower: Grower, follower: Follower | None = None
    ) -> None:
        self.path, self._grower, self.follower = path, grower, follower
        self.model_lock = threading.Lock()
        self._index = Index.open(path, model)
        self.model = self._index.model
        self._refused: set[Mark | None] = set()
        self._problem: str | None = None
        self._readers = FairLock()
        self._thread = threading.local()
        self._writing = threading.Lock()
        self.watch = Watch(self._look)
        self._guard()

    @property
    def _distant(self) -> bool:
        return isinstance(self._index.engine, Distant)

    def _guard(self) -> None:
        if self._distant:
            self.watch.start()
        if self.follower is not None:
            if not self._distant:
                raise LexLIPError(
                    f"an index of the engine {self._index.manifest['engine'].partition(':')[0]} is "
                    "not followed on shared storage: copy its folder, and serve the copy"
                )
            self.follower.shown()
            self.follower.watch.start()

    @contextmanager
    def reading(self, asks: bool = True) -> Iterator[Index]:
        """Yield the index at its last commit; it stays at that commit inside the block.

        A block inside another one of the same thread is at the same commit.

        Parameters
        ----------
        asks : bool
            Whether the block asks the engine, and not only what is known of the commit.

        Raises
        ------
        Unavailable
            Where a distant engine is away.
        """
        if asks:
            self.watch.check()
        if getattr(self._thread, "reads", False):
            yield self._index
            return
        with self._readers.shared(self._behind, self._renew):
            self._thread.reads = True
            try:
                yield self._index
            finally:
                self._thread.reads = False

    def facts_of(self, id: str) -> Mapping[str, Any] | None:
        """Return the metadata of a document, None where there is none."""
        with self.reading() as index:
            return index.engine.fetch([id])[0]

    def _look(self) -> None:
        """Go on to what is new, and see whether the engine answers; the watch calls it."""
        follower = self.follower
        took = follower is not None and follower.took()
        if self._distant and not self._index.replaced:
            self._index.engine.check_alive()  # type: ignore[attr-defined]
            if self._stale():
                if follower is not None and not follower.may_show(self._index):
                    return
            elif not took:
                return
        elif not self._stale():
            return
        with self._readers.alone():
            self._renew()
        if follower is not None:
            follower.shown()

    def _behind(self) -> bool:
        """Return whether a change comes before the next reader: of a distant engine the watch
        takes care.
        """
        return not self._distant and self._stale()

    def _stale(self) -> bool:
        if self._refused and mark(self.path) in self._refused:
            return False
        try:
            stale = self._index.stale()
        except LexLIPError:  # said by `_renew`, or by the watch
            if self._distant:
                raise
            return True
        if not stale:
            self._problem = None
        return stale

    def _renew(self) -> None:
        """Go on to the last commit; where that fails, stay at the one that is open."""
        now, replaced = mark(self.path), self._index.replaced
        self._problem = None
        try:
            if replaced:
                old, self._index = self._index, Index.open(self.path, self.model)
                old.close()
                self._guard()
            else:
                self._index.reopen()
        except Unavailable:  # said by the watch
            raise
        except LexLIPError as error:
            self._refused = {now} if replaced else set()
            what = "the last commit cannot be read"
            if replaced:
                what = "another index has taken its place, restart lexlip serve to serve that"
            self._problem = f"{what} ({error})"
            log.warning("%s, an older one is served: %s", what, error)

    def problem(self) -> str | None:
        """Return why the index that lies there was not read at the last look, None where it was.

        What was opened is served on meanwhile.
        """
        return "the index is gone" if mark(self.path) is None else self._problem

    @contextmanager
    def writing(self) -> Iterator[Index]:
        """Yield the index open for writing; inside the block nobody else writes.

        Raises
        ------
        Refused
            409 when pictures are being added, or another process writes.
        """
        if self._grower.busy:
            raise Refused(409, "pictures are being added: try again in a moment")
        self.watch.check()
        with self._writing:
            try:
                index = Index.open(self.path, self.model, "w")
            except LexLIPError as error:
                raise Refused(status_of(error, 409), str(error)) from None
            with index:
                yield index
            if self._distant:
                self.watch.look()

    def close(self) -> None:
        """Close the files, once nobody reads."""
        self.watch.stop()
        if self.follower is not None:
            self.follower.watch.stop()
        with self._readers.alone(timeout=5):
            self._index.close()

"""Reopening: the last commit of an index, or all of the one that has taken its place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lexlip.build.identity import Mark, mark
from lexlip.build.manifest import read_manifest
from lexlip.build.side_stores import SideStores
from lexlip.engines import Engine
from lexlip.errors import LexLIPError

if TYPE_CHECKING:
    from lexlip.models.speaker import Speaker


class Reopens:
    """The part of `lexlip.index.Index` that follows what happens to its folder."""

    path: Path
    manifest: dict[str, Any]
    engine: Engine
    side_stores: SideStores
    _model: Speaker | None
    _mark: Mark | None
    _mode: Literal["r", "w"]
    _given: bool  # whether the model was, by whom opened it

    def reopen(self) -> bool:
        """See the last commit; True when that is a newer one.

        When another index has taken the place of this one, all of it is renewed: postings, model
        and manifest. No search may run meanwhile in another thread then.

        Raises
        ------
        LexLIPError
            When the new index is of another model than the one that was given to `open`, or this
            one is open for writing. It then stays as it is.
        """
        if self.replaced:
            self._renew()
            return True
        try:
            newer = self.engine.reopen()
            self.side_stores.reopen()  # after the engine: never older than its commit
        except Exception:  # files of two indexes do not go together
            if not self.replaced:
                raise
        if self.replaced:  # just now, so that half of it may be new
            try:
                self._renew()
            except LexLIPError:
                self.close()
                raise
            return True
        return newer

    @property
    def replaced(self) -> bool:
        """Whether another index has taken the place of this one; `reopen` goes on to it."""
        return mark(self.path) != self._mark

    def stale(self) -> bool:
        """Say whether there is a newer commit, or another index in the place of this one."""
        return self.replaced or self.engine.stale()

    def _renew(self) -> None:
        """Become the index that has taken the place of this one."""
        if self._mode == "w":
            raise LexLIPError(f"{self.path} was replaced while it was written to: open it again")
        alike = read_manifest(self.path)["model"] == self.manifest["model"]
        kind: Any = type(self)
        try:
            new = kind.open(self.path, self._model if alike or self._given else None)
        except LexLIPError as error:
            raise LexLIPError(
                f"another index has taken its place, open that anew: {error}"
            ) from None
        new._given = self._given
        self.close()
        self.__dict__.update(new.__dict__)

    def close(self) -> None:
        """Close the engine's files; uncommitted changes are lost."""
        self.engine.close()
        self.side_stores.close()

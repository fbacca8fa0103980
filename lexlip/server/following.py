"""The copy of an index on shared storage, kept up to date while it is served."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, cast

from lexlip.build.manifest import is_index
from lexlip.build.shared import STORES, Shared
from lexlip.build.side_stores import SideStores
from lexlip.engines.distant import Distant
from lexlip.server.watching import Watch
from lexlip.storage.generations import current_mark
from lexlip.storage.remote import Unreachable

if TYPE_CHECKING:
    from lexlip.index import Index

log = logging.getLogger(__name__)

EVERY = 5.0
"""Seconds between two looks at the storage."""


class Follower:
    """Copies what is new on the storage, and says when a commit may be shown.

    Parameters
    ----------
    shared : Shared

    Attributes
    ----------
    url : str
        Of the storage, with what may be secret in it.
    watch : Watch
        Over the storage: away when it cannot be read, or what is there is not whole.
    """

    def __init__(self, shared: Shared) -> None:
        self._shared, self.url = shared, shared.remote.url
        self._fresh = False
        self._shown: tuple[str | None, ...] = ()
        self.watch = Watch(
            self._follow,
            "the shared storage cannot be copied, the last copy is served",
            "the shared storage can be copied again",
            lambda: EVERY,
        )

    def open(self) -> Path:
        """Copy the index, and return where the copy is; an older one where there is no other.

        Raises
        ------
        LexLIPError
            Without any.
        """
        try:
            self._shared.follow()
        except Unreachable as error:
            if not is_index(self._shared.path):
                raise
            log.warning("an older copy is served, the shared storage cannot be read: %s", error)
        return self._shared.path

    def _follow(self) -> None:
        if self._shared.follow():
            self._fresh = True

    def took(self) -> bool:
        """Return whether something was copied since this was asked."""
        fresh, self._fresh = self._fresh, False
        return fresh

    def shown(self) -> None:
        """Remember the files that are shown now."""
        self._shown = self._marks()

    def _marks(self) -> tuple[str | None, ...]:
        return tuple(current_mark(self._shared.path / name) for name in STORES)

    def may_show(self, index: Index) -> bool:
        """Return whether the files of the engine's newest commit were copied.

        The engine has it before whoever writes has sent the files: until then vectors would be
        missing, or be those of a picture that was replaced.
        """
        coming = cast(Distant, index.engine).coming()
        marks = self._marks()
        if not coming or marks == (None,) * len(marks):
            return True
        if marks == self._shown:
            return False
        with SideStores(index.path, index.manifest, "r") as stores:
            return stores.has(coming)

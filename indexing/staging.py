"""Staging of a publication: the folder of an index in the making, which a killed job finds again.

    OUT.publishing/publish.json    what is published: a key of the source and the settings
    OUT.publishing/index/          becomes OUT

How far a job came is not noted anywhere: the engine says which documents it has committed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from indexing.publishing import PUBLISHED, Source
from lexlip.build.manifest import is_index, read_manifest
from lexlip.build.side_stores import SideStores
from lexlip.build.write import ENGINE, closed_to_writers
from lexlip.engines import Engine, open_engine
from lexlip.engines.builds import begin_build, drop_build, serve_build
from lexlip.errors import LexLIPError
from lexlip.storage.files import MANIFEST, read_json, write_json
from lexlip.storage.folder_lock import FolderLock
from lexlip.storage.placing import put_in_place
from lexlip.storage.seal import write_sealed

SUFFIX = ".publishing"
_KEY = "publish.json"


class Staging:
    """The folder beside an index that is to be published.

    Parameters
    ----------
    out : path
        Of the index.
    source : Source
    engine : str
        As `lexlip.engines.open_engine` takes it.

    Attributes
    ----------
    resumed : bool
        Whether a killed job left something that is of use.
    """

    def __init__(self, out: str | os.PathLike[str], source: Source, engine: str) -> None:
        self.out = Path(os.path.realpath(out))
        self.folder = self.out.with_name(self.out.name + SUFFIX)
        self.index = self.folder / "index"
        self._source, self._engine = source, engine
        self.resumed = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other jobs away from the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(self.folder)
        try:
            yield
        finally:
            lock.release()
            if not self.index.exists() and not (self.folder / _KEY).exists():
                shutil.rmtree(self.folder, ignore_errors=True)

    def done(self) -> bool:
        """Return whether `out` is this publication already; its name then leads to it."""
        if not is_index(self.out) or not (self.out / PUBLISHED).is_file():
            return False
        noted = read_json(self.out / PUBLISHED)
        if not isinstance(noted, dict) or noted.get("key") != self._source.key:
            return False
        engine = open_engine(read_manifest(self.out)["engine"], self.out / ENGINE, "r")
        try:
            if (engine.generation, len(engine)) != (noted.get("generation"), len(self._source)):
                return False
        finally:
            engine.close()
        serve_build(self._engine, self.out / ENGINE)
        self.clear()
        return True

    def begin(self) -> None:
        """Prepare the folder, or find it as a killed job left it."""
        with suppress(LexLIPError):
            if (self.folder / _KEY).is_file():
                self.resumed = read_json(self.folder / _KEY) == {"key": self._source.key}
        if not self.resumed:
            self.discard()
            self.index.mkdir(parents=True)
            self._source.prepare(self.index)
            write_sealed(self.index / MANIFEST, self._source.manifest)
            begin_build(self._engine, self.index / ENGINE, self.out / ENGINE)
            write_json(self.folder / _KEY, {"key": self._source.key})  # last: all of it is there

    @contextmanager
    def opened(self) -> Iterator[tuple[Engine, SideStores]]:
        """Open the index in the making for writing."""
        engine = open_engine(self._engine, self.index / ENGINE, "w")
        try:
            with SideStores(self.index, self._source.manifest, "w") as stores:
                yield engine, stores
        finally:
            engine.close()

    def publish(self, noted: dict[str, Any]) -> None:
        """Put the index in its place, then let its name lead to it."""
        write_json(self.index / PUBLISHED, {**noted, "key": self._source.key})
        put_in_place(self.index, self.out, closed_to_writers)
        serve_build(self._engine, self.out / ENGINE)
        self.clear()

    def discard(self) -> None:
        """Delete what was begun, in the cluster too."""
        if (self.index / ENGINE).is_dir():
            with suppress(LexLIPError):  # a later replacement deletes it
                drop_build(self._kept_engine(), self.index / ENGINE)
        self.clear()

    def _kept_engine(self) -> str:
        return str(read_json(self.index / MANIFEST)["engine"])

    def clear(self) -> None:
        """Delete the folder's content."""
        (self.folder / _KEY).unlink(missing_ok=True)
        shutil.rmtree(self.index, ignore_errors=True)

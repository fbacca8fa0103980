"""Builds on distant engines: one is made beside the one that is served, then takes its name.

An engine of a folder on this machine needs none of this: its folder is replaced by a rename. The
folder of a distant one keeps which build it reads, so a search is answered by one build, whatever
the name leads to meanwhile.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any, Protocol, cast

from lexlip.engines.base import Engine
from lexlip.errors import LexLIPError
from lexlip.storage.files import read_json, write_json

LETTERS = 12
"""Of the owner in the name of a build."""

_MODULES = {
    "milvus": "lexlip.engines.milvus.builds",
    "opensearch": "lexlip.engines.opensearch.builds",
}


@dataclass(frozen=True)
class Build:
    """An index on a server, as the folder knows it.

    Attributes
    ----------
    owner : str
        The name by which the index knows its folder.
    index : str
        Its name on the server: a collection of Milvus.
    line : str
        The owner of the first of the builds that replaced one another.
    target : str
        Folder of the engine, once the build is whole.
    made : bool
        Whether the index is there.
    """

    owner: str
    index: str
    line: str
    target: str = ""
    made: bool = True

    @classmethod
    def begin(cls, place: Any, target: Path, old: Build | None = None) -> Build:
        """Return a new build, of the line of the one that it replaces."""
        owner = token_hex(16)
        line = owner if old is None else old.line
        return cls(
            owner,
            f"{place.name}{place.MARK}{owner[:LETTERS]}",
            line,
            os.path.realpath(target),
            False,
        )

    @classmethod
    def read(cls, folder: Path, place: Any) -> Build | None:
        """Return the build of an engine's folder, None where there is none.

        A folder of an earlier lexlip knows its owner alone: its index has the name of the place.

        Raises
        ------
        LexLIPError
            When the file is damaged, or of another place.
        """
        if not os.path.lexists(folder / place.FILE):
            return None
        try:
            kept = dict(read_json(folder / place.FILE))
            owner = str(kept.pop("owner"))
            build = cls(owner, **{"index": place.name, "line": owner, **kept})
            ours = build.index == place.name or build.index.startswith(f"{place.name}{place.MARK}")
        except (LexLIPError, AttributeError, KeyError, TypeError, ValueError):
            raise LexLIPError(f"{folder / place.FILE} is damaged: build the index again") from None
        if not ours:
            raise LexLIPError(f"{place} is another index than that of {folder}")
        return build

    def write(self, folder: Path, place: Any) -> None:
        """Keep the build in its folder."""
        write_json(folder / place.FILE, asdict(self))

    def at(self, place: Any) -> Any:
        """Return the place of the index itself, whatever the alias leads to."""
        return dataclasses.replace(place, name=self.index)


def replaced(target: Path, place: Any) -> Build | None:
    """Return the build of a folder that is to be replaced, None where it is of another place."""
    try:
        return Build.read(target, place)
    except LexLIPError:
        return None


class Server(Protocol):
    """What a distant engine does for its builds, a module's functions; `client` is of `cluster`."""

    Place: Any

    def cluster(self, place: Any) -> AbstractContextManager[Any]:
        """Yield a client of a server that answers and has a known version."""

    def check_free(self, client: Any, place: Any, old: Build | None = None) -> None:
        """Raise where a name leads to another build than one that may be replaced."""

    def tidy(self, client: Any, place: Any, build: Build) -> object:
        """Delete the builds that nobody needs when a new one is begun."""

    def serve(self, client: Any, place: Any, build: Build) -> None:
        """Let the name lead to a build, at once."""

    def drop(self, client: Any, place: Any, build: Build) -> None:
        """Delete a build that will not be finished, unless the name leads to it."""


@contextmanager
def _server(kind: str) -> Iterator[tuple[Server, Any, Any] | None]:
    """Yield the functions of a distant engine, a client, and its place; None for other engines."""
    name, _, text = kind.partition(":")
    if name not in _MODULES:
        yield None
        return
    server = cast(Server, importlib.import_module(_MODULES[name]))
    place = server.Place.parse(text)
    with server.cluster(place) as client:
        yield server, client, place


def check_build(kind: str, target: Path) -> None:
    """Raise where no index can be made: now, not after an hour of encoding.

    Parameters
    ----------
    kind : str
        An engine, as `lexlip.engines.open_engine` takes it.
    target : Path
        Folder of the engine; one that is there is to be replaced.

    Raises
    ------
    LexLIPError
        No cluster, or a name that is taken.
    """
    with _server(kind) as there:
        if there is not None:
            server, client, place = there
            server.check_free(client, place, replaced(target, place))


def begin_build(kind: str, folder: Path, target: Path) -> None:
    """Prepare the folder of a new engine, which will be moved to `target` when it is whole.

    Builds that nobody needs are deleted: those before the served one, and unfinished ones.
    """
    with _server(kind) as there:
        if there is not None:
            server, client, place = there
            old = replaced(target, place)
            server.check_free(client, place, old)
            build = Build.begin(place, target, old)
            server.tidy(client, place, build)
            folder.mkdir(parents=True, exist_ok=True)
            build.write(folder, place)


def serve_build(kind: str, folder: Path) -> None:
    """Let the name of a place lead to the engine of a folder, in one step.

    Raises
    ------
    LexLIPError
        When it cannot. The engine answers all the same: its folder knows where it is.
    """
    with _server(kind) as there:
        if there is not None:
            server, client, place = there
            if (build := Build.read(folder, place)) is not None:
                server.serve(client, place, build)


def drop_build(kind: str, folder: Path) -> None:
    """Delete what was made for a folder that will not be an index."""
    with _server(kind) as there:
        if there is not None:
            server, client, place = there
            if (build := Build.read(folder, place)) is not None:
                server.drop(client, place, build)


def where(engine: Engine) -> dict[str, str]:
    """Return the name that the build of an engine has in its cluster; nothing without one."""
    name = getattr(getattr(engine, "place", None), "name", None)
    return {} if name is None else {"cluster_index": str(name)}

"""Builds of an index: each is a collection of its own, behind an alias where a server has aliases.

The folder of an index keeps which build it reads, so that nothing of ours needs the alias: Milvus
Lite 2 has none. A build that replaces another one is of the same line, and its state says so.
"""

from __future__ import annotations

import dataclasses
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

from lexlip.engines.milvus.errors import unimplemented
from lexlip.engines.milvus.making import load
from lexlip.engines.milvus.place import Place
from lexlip.engines.milvus.state import read_state
from lexlip.errors import LexLIPError
from lexlip.storage.files import read_json, write_json

FILE = "milvus.json"
"""File of an engine's folder: the build that it reads."""

_LETTERS = 12
"""Of the owner in the name of a collection."""


@dataclass(frozen=True)
class Build:
    """A collection, as the folder knows it.

    Attributes
    ----------
    owner : str
        The name by which the collection knows its folder.
    collection : str
    line : str
        The owner of the first of the builds that replaced one another.
    target : str
        Folder of the engine, once the build is whole.
    made : bool
        Whether the collection is there, with a state.
    """

    owner: str
    collection: str
    line: str
    target: str
    made: bool = False

    @classmethod
    def begin(cls, place: Place, target: Path, old: Build | None = None) -> Build:
        """Return a new build, of the line of the one that it replaces."""
        owner = token_hex(16)
        name = f"{place.name}_{owner[:_LETTERS]}"
        return cls(owner, name, owner if old is None else old.line, os.path.realpath(target))

    @classmethod
    def read(cls, folder: Path, place: Place) -> Build | None:
        """Return the build of an engine's folder, None where there is none.

        Raises
        ------
        LexLIPError
            When the file is damaged, or of another place.
        """
        if not os.path.lexists(folder / FILE):
            return None
        try:
            build = cls(**read_json(folder / FILE))
            ours = build.collection.startswith(f"{place.name}_")
        except (LexLIPError, AttributeError, TypeError, ValueError):
            raise LexLIPError(f"{folder / FILE} is damaged: build the index again") from None
        if not ours:
            raise LexLIPError(f"{place} is another index than that of {folder}")
        return build

    def write(self, folder: Path) -> None:
        """Keep the build in its folder."""
        write_json(folder / FILE, asdict(self))

    def at(self, place: Place) -> Place:
        """Return the place of the collection itself, whatever the alias leads to."""
        return dataclasses.replace(place, name=self.collection)


def replaced(target: Path, place: Place) -> Build | None:
    """Return the build of a folder that is to be replaced, None where it is of another place."""
    try:
        return Build.read(target, place)
    except LexLIPError:
        return None


def _served(client: Any, place: Place) -> str | None:
    """Return the collection that a name leads to, None for none, or where there are no aliases."""
    import grpc
    from pymilvus.exceptions import MilvusException

    if place.name in client.list_collections(timeout=place.timeout):
        return place.name
    try:
        found = client.describe_alias(place.name, timeout=place.timeout)
    except (MilvusException, grpc.RpcError):  # there is none of that name, or no aliases at all
        return None
    return str(found["collection_name"])


def check_free(client: Any, place: Place, old: Build | None = None) -> None:
    """Raise where a name leads to another collection than one that may be replaced."""
    now = _served(client, place)
    if now is not None and (old is None or _line(client, place, now) != old.line):
        raise LexLIPError(
            f"there is an index {place} already (it is {now}): take another name, or delete it"
        )


def _line(client: Any, place: Place, collection: str) -> str | None:
    """Return the line that a collection says it is of, None for one that is not lexlip's."""
    from pymilvus.exceptions import MilvusException

    if not re.fullmatch(f"{place.name}_[0-9a-f]{{{_LETTERS}}}", collection):
        return None
    try:
        at = dataclasses.replace(place, name=collection)
        load(client, at)
        state = read_state(client, at)
    except (LexLIPError, MilvusException):
        return None
    return state.line if state is not None else None


def serve(client: Any, place: Place, build: Build) -> None:
    """Let the name lead to a build, in one step.

    Raises
    ------
    LexLIPError
        When the name leads to a collection of another line.
    """
    import grpc
    from pymilvus.exceptions import MilvusException

    now = _served(client, place)
    if now == build.collection:
        return
    check_free(client, place, build)
    change = client.create_alias if now is None else client.alter_alias
    try:
        change(build.collection, place.name, timeout=place.timeout)
    except (MilvusException, grpc.RpcError) as error:
        if not unimplemented(error):
            raise


def tidy(client: Any, place: Place, build: Build) -> None:
    """Delete the builds of a line but the one of the folder and the one that is served."""
    current = replaced(Path(build.target), place)
    if current is None or current.line != build.line:
        return
    kept = {build.collection, current.collection, _served(client, place)}
    for name in client.list_collections(timeout=place.timeout):
        if name not in kept and _line(client, place, name) == build.line:
            client.drop_collection(name, timeout=place.timeout)


def drop(client: Any, place: Place, build: Build) -> None:
    """Delete the collection of a build that will not be finished, unless it is served."""
    if _served(client, place) != build.collection:
        client.drop_collection(build.collection, timeout=place.timeout)

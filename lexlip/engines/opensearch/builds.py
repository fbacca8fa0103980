"""Builds of an index: each is an index of the cluster of its own, behind an alias, its name.

The folder of an index keeps which build it reads. So a search is answered by one build, whatever
the alias leads to meanwhile. A build that replaces another one is of the same line; it says so in
its mapping, from the moment that it is there.
"""

from __future__ import annotations

import dataclasses
import os
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

from lexlip.engines.opensearch.documents import body
from lexlip.engines.opensearch.place import Place
from lexlip.engines.opensearch.state import read_state
from lexlip.errors import LexLIPError
from lexlip.storage.files import read_json, write_json

FILE = "opensearch.json"
"""File of an engine's folder: the build that it reads."""

_LETTERS = 12
"""Of the owner in the name of an index."""

_AWAY = 7 * 24 * 3600
"""Seconds after which a build that another machine began, and never finished, is given up."""


@dataclass(frozen=True)
class Build:
    """An index of the cluster, as the folder knows it.

    Attributes
    ----------
    owner : str
        The name by which the index knows its folder.
    index : str
        Its name in the cluster.
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
    def begin(cls, place: Place, target: Path, old: Build | None = None) -> Build:
        """Return a new build, of the line of the one that it replaces."""
        owner = token_hex(16)
        line = owner if old is None else old.line
        return cls(owner, f"{place.name}-{owner[:_LETTERS]}", line, os.path.realpath(target), False)

    @classmethod
    def read(cls, folder: Path, place: Place) -> Build | None:
        """Return the build of an engine's folder, None where there is none.

        A folder of an earlier lexlip knows its owner alone: its index has the name of the place.

        Raises
        ------
        LexLIPError
            When the file is damaged, or of another place.
        """
        if not os.path.lexists(folder / FILE):
            return None
        try:
            kept = dict(read_json(folder / FILE))
            owner = str(kept.pop("owner"))
            build = cls(owner, **{"index": place.name, "line": owner, **kept})
            ours = build.index == place.name or build.index.startswith(f"{place.name}-")
        except (LexLIPError, AttributeError, KeyError, TypeError, ValueError):
            raise LexLIPError(f"{folder / FILE} is damaged: build the index again") from None
        if not ours:
            raise LexLIPError(f"{place} is another index than that of {folder}")
        return build

    def write(self, folder: Path) -> None:
        """Keep the build in its folder."""
        write_json(folder / FILE, asdict(self))

    def at(self, place: Place) -> Place:
        """Return the place of the index itself, whatever the alias leads to."""
        return dataclasses.replace(place, name=self.index)


def replaced(target: Path, place: Place) -> Build | None:
    """Return the build of a folder that is to be replaced, None where it is of another place."""
    try:
        return Build.read(target, place)
    except LexLIPError:
        return None


def make(client: Any, place: Place, build: Build, folder: Path) -> None:
    """Make the index of a build, unless a process that was killed has done so."""
    settings = body(place.shards, place.replicas)
    told = {
        "name": place.name, "line": build.line, "served": False, "since": int(time.time()),
        "machine": socket.gethostname(), "folder": os.path.realpath(folder), "target": build.target,
    }  # fmt: skip
    settings["mappings"]["_meta"] = {"lexlip": told}
    if not client.indices.exists(index=build.index):
        client.indices.create(index=build.index, body=settings)


def served(client: Any, place: Place) -> list[str]:
    """Return the names of the indexes that a name leads to: none, one, or its own."""
    if client.indices.exists_alias(name=place.name):
        return sorted(client.indices.get_alias(name=place.name))
    return [place.name] if client.indices.exists(index=place.name) else []


def check_free(client: Any, place: Place, old: Build | None = None) -> None:
    """Raise where a name leads to another index than one that may be replaced."""
    for index in served(client, place):
        if not _of_line(client, place, index, None if old is None else old.line):
            what = str(place) if index == place.name else f"{place} (it is {index})"
            raise LexLIPError(f"there is an index {what} already: take another name, or delete it")


def _of_line(client: Any, place: Place, index: str, line: str | None) -> bool:
    """Say whether an index is a build of a line."""
    if line is None:
        return False
    if index == place.name:  # of an earlier lexlip
        return _owner(client, place) == line
    return _told(client, index).get(index, {}).get("line") == line


def _owner(client: Any, place: Place) -> str | None:
    try:
        return read_state(client, place).owner
    except LexLIPError:
        return None


def _told(client: Any, pattern: str) -> dict[str, dict[str, Any]]:
    """Return what builds say of themselves, by the names of their indexes."""
    found = client.indices.get_mapping(index=pattern, params={"allow_no_indices": "true"})
    metas = {name: it["mappings"].get("_meta", {}).get("lexlip") for name, it in found.items()}
    return {name: it for name, it in metas.items() if isinstance(it, dict)}


def serve(client: Any, place: Place, build: Build) -> None:
    """Let the name lead to a build: one request, so that it leads to one index at any moment.

    Where an index of an earlier lexlip has the name itself, it keeps it until the next replacement
    deletes that index.

    Raises
    ------
    LexLIPError
        When the name leads to an index of another line.
    """
    now = served(client, place)
    if now == [build.index] or build.index == place.name:
        return
    check_free(client, place, build)
    told = _told(client, build.index)[build.index] | {"served": True}
    client.indices.put_mapping(index=build.index, body={"_meta": {"lexlip": told}})
    if place.name not in now:
        gone = [{"remove": {"index": name, "alias": place.name}} for name in now]
        add = {"add": {"index": build.index, "alias": place.name}}
        client.indices.update_aliases(body={"actions": [*gone, add]})


def tidy(client: Any, place: Place, build: Build) -> list[str]:
    """Delete the builds that nobody needs when a new one is begun, and return their names.

    These are the builds of the same line before the one that is served, and those that were never
    finished. The served one, the one of the folder, and what is being made stay.
    """
    current = replaced(Path(build.target), place)
    kept = {build.index, *([] if current is None else [current.index])}
    dead = []
    now = served(client, place)
    for index, told in _told(client, f"{place.name}-*").items():
        if told.get("name") != place.name or index in kept or index in now:
            continue
        if told.get("line") == build.line if told.get("served") else _given_up(place, index, told):
            dead.append(index)
    if now == [place.name] and place.name not in kept and _owner(client, place) == build.line:
        dead.append(place.name)
    for index in dead:
        client.indices.delete(index=index, params={"ignore_unavailable": "true"})
    return dead


def _given_up(place: Place, index: str, told: dict[str, Any]) -> bool:
    """Say whether nobody will finish a build: its folder is gone, or it is old and elsewhere."""
    if told.get("machine") != socket.gethostname():
        return bool(time.time() - int(told.get("since", time.time())) > _AWAY)
    for name in ("folder", "target"):
        try:
            there = Build.read(Path(str(told.get(name))), place)
        except LexLIPError:
            return False
        if there is not None and there.index == index:
            return False
    return True


def drop(client: Any, build: Build) -> None:
    """Delete the index of a build that will not be finished."""
    client.indices.delete(index=build.index, params={"ignore_unavailable": "true"})

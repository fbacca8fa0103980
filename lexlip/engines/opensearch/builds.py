"""Builds of an index: each is an index of the cluster of its own, behind an alias, its name.

The folder of an index keeps which build it reads. So a search is answered by one build, whatever
the alias leads to meanwhile. A build that replaces another one is of the same line; it says so in
its mapping, from the moment that it is there.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lexlip.engines.builds import Build, replaced
from lexlip.engines.opensearch.checks import check_version
from lexlip.engines.opensearch.documents import body
from lexlip.engines.opensearch.errors import readable
from lexlip.engines.opensearch.place import Place
from lexlip.engines.opensearch.state import read_state
from lexlip.errors import LexLIPError

_AWAY = 7 * 24 * 3600
"""Seconds after which a build that another machine began, and never finished, is given up."""


@contextmanager
def cluster(place: Place) -> Iterator[Any]:
    """Yield a client; see `lexlip.engines.builds.Server`."""
    with readable(place), place.client() as client:
        check_version(client, place)
        yield client


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


def drop(client: Any, place: Place, build: Build) -> None:
    """Delete the index of a build that will not be finished, unless it is served."""
    if build.index not in served(client, place):
        client.indices.delete(index=build.index, params={"ignore_unavailable": "true"})

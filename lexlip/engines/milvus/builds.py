"""Builds of an index: each is a collection of its own, behind an alias where a server has aliases.

The folder of an index keeps which build it reads, so that nothing of ours needs the alias: Milvus
Lite 2 has none. A build that replaces another one is of the same line, and its state says so.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lexlip.engines.builds import LETTERS, Build, replaced
from lexlip.engines.milvus.checks import check_installed, lite_version
from lexlip.engines.milvus.errors import readable, unimplemented
from lexlip.engines.milvus.making import load
from lexlip.engines.milvus.place import Place
from lexlip.engines.milvus.state import read_state
from lexlip.errors import LexLIPError


@contextmanager
def cluster(place: Place) -> Iterator[Any]:
    """Yield a client; see `lexlip.engines.builds.Server`."""
    check_installed(place)
    with readable(place):
        client = place.client()
        try:
            lite_version(client.milvus, place)
            yield client.milvus
        finally:
            client.close()


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

    if not re.fullmatch(f"{place.name}_[0-9a-f]{{{LETTERS}}}", collection):
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
    if now == build.index:
        return
    check_free(client, place, build)
    change = client.create_alias if now is None else client.alter_alias
    try:
        change(build.index, place.name, timeout=place.timeout)
    except (MilvusException, grpc.RpcError) as error:
        if not unimplemented(error):
            raise


def tidy(client: Any, place: Place, build: Build) -> None:
    """Delete the builds of a line but the one of the folder and the one that is served."""
    current = replaced(Path(build.target), place)
    if current is None or current.line != build.line:
        return
    kept = {build.index, current.index, _served(client, place)}
    for name in client.list_collections(timeout=place.timeout):
        if name not in kept and _line(client, place, name) == build.line:
            client.drop_collection(name, timeout=place.timeout)


def drop(client: Any, place: Place, build: Build) -> None:
    """Delete the collection of a build that will not be finished, unless it is served."""
    if _served(client, place) != build.index:
        client.drop_collection(build.index, timeout=place.timeout)

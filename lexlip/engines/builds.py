"""Builds on distant engines: one is made beside the one that is served, then takes its name.

An engine of a folder on this machine needs none of this: its folder is replaced by a rename.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Protocol, cast

from lexlip.engines.base import Engine

_MODULES = {
    "milvus": "lexlip.engines.milvus.building",
    "opensearch": "lexlip.engines.opensearch.building",
}


class Building(Protocol):
    """What a distant engine does beside the folders of its indexes; `place` is without its name."""

    def check(self, place: str, target: Path) -> None:
        """Raise where no build can take the place of the one of the engine's folder `target`."""

    def begin(self, place: str, folder: Path, target: Path) -> None:
        """Note in the new engine's folder `folder` what it will replace, and tidy up."""

    def serve(self, place: str, folder: Path) -> None:
        """Let the name of the place lead to the build of a folder, at once."""

    def drop(self, place: str, folder: Path) -> None:
        """Delete the build of a folder that will not be served."""


def _of(kind: str) -> tuple[Building | None, str]:
    name, _, place = kind.partition(":")
    module = _MODULES.get(name)
    return cast(Building, importlib.import_module(module)) if module else None, place


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
    building, place = _of(kind)
    if building is not None:
        building.check(place, target)


def begin_build(kind: str, folder: Path, target: Path) -> None:
    """Prepare the folder of a new engine, which will be moved to `target` when it is whole.

    Builds that nobody needs are deleted: those before the served one, and unfinished ones.
    """
    building, place = _of(kind)
    if building is not None:
        building.begin(place, folder, target)


def serve_build(kind: str, folder: Path) -> None:
    """Let the name of a place lead to the engine of a folder, in one step.

    Raises
    ------
    LexLIPError
        When it cannot. The engine answers all the same: its folder knows where it is.
    """
    building, place = _of(kind)
    if building is not None:
        building.serve(place, folder)


def drop_build(kind: str, folder: Path) -> None:
    """Delete what was made for a folder that will not be an index."""
    building, place = _of(kind)
    if building is not None:
        building.drop(place, folder)


def where(engine: Engine) -> dict[str, str]:
    """Return the name that the build of an engine has in its cluster; nothing without one."""
    name = getattr(getattr(engine, "place", None), "name", None)
    return {} if name is None else {"cluster_index": str(name)}

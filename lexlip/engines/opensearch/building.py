"""Builds from their beginning to their end, as `lexlip.engines.builds` asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lexlip.engines.opensearch import builds
from lexlip.engines.opensearch.builds import Build
from lexlip.engines.opensearch.checks import check_version
from lexlip.engines.opensearch.errors import readable
from lexlip.engines.opensearch.place import Place


@contextmanager
def _cluster(place: Place) -> Iterator[Any]:
    with readable(place), place.client() as client:
        check_version(client, place)
        yield client


def check(text: str, target: Path) -> None:
    """Raise where no index can be made at a place: before an hour of encoding, not after it."""
    place = Place.parse(text)
    with _cluster(place) as client:
        builds.check_free(client, place, builds.replaced(target, place))


def begin(text: str, folder: Path, target: Path) -> None:
    """Note in a new folder which build it will have, and delete those that nobody needs."""
    place = Place.parse(text)
    with _cluster(place) as client:
        old = builds.replaced(target, place)
        builds.check_free(client, place, old)
        build = Build.begin(place, target, old)
        builds.tidy(client, place, build)
        folder.mkdir(parents=True, exist_ok=True)
        build.write(folder)


def serve(text: str, folder: Path) -> None:
    """Let the name of a place lead to the build of a folder."""
    place = Place.parse(text)
    build = Build.read(folder, place)
    if build is not None:
        with _cluster(place) as client:
            builds.serve(client, place, build)


def drop(text: str, folder: Path) -> None:
    """Delete the build of a folder, unless the name of the place leads to it."""
    place = Place.parse(text)
    build = Build.read(folder, place)
    if build is not None:
        with _cluster(place) as client:
            if build.index not in builds.served(client, place):
                builds.drop(client, build)

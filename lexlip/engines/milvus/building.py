"""Builds from their beginning to their end, as `lexlip.engines.builds` asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lexlip.engines.milvus import builds
from lexlip.engines.milvus.builds import Build
from lexlip.engines.milvus.checks import check_installed, lite_version
from lexlip.engines.milvus.errors import readable
from lexlip.engines.milvus.place import Place


@contextmanager
def _server(place: Place) -> Iterator[Any]:
    check_installed(place)
    with readable(place):
        client = place.client()
        try:
            lite_version(client.milvus, place)
            yield client.milvus
        finally:
            client.close()


def check(text: str, target: Path) -> None:
    """Raise where no index can be made at a place: before an hour of encoding, not after it."""
    place = Place.parse(text)
    with _server(place) as client:
        builds.check_free(client, place, builds.replaced(target, place))


def begin(text: str, folder: Path, target: Path) -> None:
    """Note in a new folder which build it will have, and delete those that nobody needs."""
    place = Place.parse(text)
    with _server(place) as client:
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
        with _server(place) as client:
            builds.serve(client, place, build)


def drop(text: str, folder: Path) -> None:
    """Delete the build of a folder, unless the name of the place leads to it."""
    place = Place.parse(text)
    build = Build.read(folder, place)
    if build is not None:
        with _server(place) as client:
            builds.drop(client, place, build)

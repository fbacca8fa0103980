"""The service behind one server's routes: an index, its pictures, and the workers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

from lexlip.data.originals import Originals
from lexlip.data.url_folders import UrlFolder
from lexlip.server.answers.browsing import Browsing
from lexlip.server.answers.compare import ComparedSystems
from lexlip.server.following import Follower
from lexlip.server.growing import Grower, Job
from lexlip.server.metrics import Metrics
from lexlip.server.picture_files import Pictures
from lexlip.server.served_index import ServedIndex
from lexlip.server.settings import Settings
from lexlip.server.work import Workers

if TYPE_CHECKING:
    from lexlip.models.speaker import Speaker


@dataclass(frozen=True)
class Service:
    """An index, its pictures, and the workers that answer requests."""

    served: ServedIndex
    pictures: Pictures
    settings: Settings
    workers: Workers
    compared: ComparedSystems
    browsing: Browsing
    grower: Grower
    metrics: Metrics = field(default_factory=Metrics)

    @classmethod
    def open(
        cls,
        path: Path,
        model: Speaker | None,
        settings: Settings,
        grow: Job | None = None,
        follower: Follower | None = None,
    ) -> Service:
        """Open an index and its pictures."""
        grower = Grower(grow)
        served = ServedIndex(path, model, grower, follower)
        with served.reading() as index:
            originals = Originals.of(path, index.manifest)
        if settings.pictures is not None or settings.split is not None:
            originals = originals.at(settings.pictures, settings.split)
        posted = None if follower is None else UrlFolder(follower.url)
        pictures = Pictures(path, originals, settings, served.facts_of, posted)
        compared = ComparedSystems(path, originals)
        service = cls(
            served, pictures, settings, Workers(settings), compared, Browsing(served), grower
        )
        service.metrics.up.set_function(lambda: float(not served.watch.away))
        return service

    def close(self) -> None:
        """Start no new work, stop what adds pictures, and close the files."""
        self.workers.close()
        self.grower.stop()
        self.served.close()


def _of(request: Request) -> Service:
    return request.app.state.service


ServiceOf = Annotated[Service, Depends(_of)]
"""The service that a request is for."""

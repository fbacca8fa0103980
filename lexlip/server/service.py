"""What the addresses of one server work with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

from lexlip.data.originals import Originals
from lexlip.server.answers.compare import Others
from lexlip.server.live import Live
from lexlip.server.metrics import Metrics
from lexlip.server.picture_files import Pictures
from lexlip.server.settings import Settings
from lexlip.server.work import Workers

if TYPE_CHECKING:
    from lexlip.models.lexlip import LexLIP


@dataclass(frozen=True)
class Service:
    """An index, its pictures, and who works on requests."""

    live: Live
    pictures: Pictures
    settings: Settings
    workers: Workers
    others: Others
    metrics: Metrics = field(default_factory=Metrics)

    @classmethod
    def open(cls, path: Path, model: LexLIP | None, settings: Settings) -> Service:
        """Open an index and what belongs to it."""
        live = Live(path, model)
        with live.reading() as index:
            originals = Originals.of(index.manifest)
        if settings.pictures is not None or settings.split is not None:
            originals = Originals(settings.pictures or originals.path, settings.split)
        pictures, others = Pictures(path, originals, settings), Others(path, originals)
        return cls(live, pictures, settings, Workers(settings), others)

    def close(self) -> None:
        """Start nothing new, and let go of the files."""
        self.workers.close()
        self.live.close()


def _of(request: Request) -> Service:
    return request.app.state.service


Here = Annotated[Service, Depends(_of)]
"""The service that a request is for."""

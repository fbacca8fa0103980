"""The routes /stats, /status, /livez, /healthz and /metrics."""

from __future__ import annotations

import dataclasses
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from lexlip.server import browsing_schemas, description, health, schemas
from lexlip.server.answers import search
from lexlip.server.failures import without_places
from lexlip.server.service import ServiceOf

router = APIRouter(tags=[description.SERVER])
_PRIVATE = ("checkpoint", "source")
"""Keys of the manifest that name places of this machine."""

_LIMITS = ("max_body", "max_pixels", "max_query", "max_hits", "max_depth")


@router.get("/stats", response_model=schemas.Stats)
async def get_stats(service: ServiceOf) -> Any:
    """Return the size of the index, facts of its build, and rights and limits of the server."""

    def work() -> dict[str, Any]:
        compare = bool(service.compared)
        with service.served.reading() as index:
            facts = {name: it for name, it in index.stats().items() if name not in _PRIVATE}
            return facts | {
                "generation": str(index.engine.generation),
                "rerankers": search.rerankers(service.served, index),
                "read_only": service.settings.read_only,
                "pictures": service.pictures.problem is None,
                "compare": compare,
                "max_upload_bytes": service.settings.max_body,
                "limits": {name: getattr(service.settings, name) for name in _LIMITS},
            }

    return await service.workers.run(work)


@router.get("/status", response_model=browsing_schemas.Status)
def get_status(service: ServiceOf) -> Any:
    """Say how many documents there are, and how far the others are that are being added."""
    growth = service.grower.growth
    with service.served.reading(asks=False) as index:
        documents, generation = len(index), str(index.engine.generation)
    told = growth and dataclasses.asdict(growth)
    if told and told["message"]:
        told["message"] = without_places(told["message"], service.served.path)
    return {"documents": documents, "generation": generation, "growth": told}


@router.get("/livez", response_model=schemas.Alive)
async def get_alive() -> Any:
    """Say that the process answers, whatever else works; needs no API key."""
    return schemas.Alive()


@router.get("/healthz", response_model=schemas.Health)
def get_health(service: ServiceOf, response: Response) -> Any:
    """Say whether searches work, and pictures can be added; needs no API key.

    503 when no worker is free any more, the index is gone or cannot be read, or its engine is
    away.
    """
    with service.served.reading(asks=False) as index:
        documents, generation = len(index), str(index.engine.generation)
    found = health.examine(service)
    if found.failing:
        response.status_code = 503
    lines = [without_places(it, service.served.path) for it in (*found.failing, *found.impaired)]
    status = "failing" if found.failing else "impaired" if found.impaired else "ok"
    return {
        "status": status, "problems": lines, "documents": documents, "generation": generation,
    }  # fmt: skip


@router.get("/metrics", response_class=PlainTextResponse)
def get_metrics(service: ServiceOf) -> Response:
    """Metrics in Prometheus' text format."""
    return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

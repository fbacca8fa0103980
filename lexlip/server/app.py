"""The application: an index, its routes, and the page."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.staticfiles import StaticFiles

from lexlip.build.shared import Shared
from lexlip.models import load
from lexlip.models.speaker import Speaker
from lexlip.server import schemas
from lexlip.server.description import FACTS, describe, operation_id
from lexlip.server.failures import answer_errors
from lexlip.server.following import Follower
from lexlip.server.growing import Job
from lexlip.server.guard import Guard
from lexlip.server.metrics import Measured
from lexlip.server.request_log import Logged
from lexlip.server.routes import browsing, images, search, status
from lexlip.server.service import Service
from lexlip.server.settings import Settings
from lexlip.storage.remote import is_remote

log = logging.getLogger(__name__)
STATIC = Path(__file__).parent / "static"

_ERRORS = {
    400: "not understood",
    401: "the API key is missing or wrong",
    403: "not allowed here",
    404: "no such image",
    408: "the body came too slowly",
    409: "another process writes the index",
    413: "too large",
    415: "a body of another kind",
    422: "not understood",
    429: "too many wrong API keys",
    503: "busy, or the engine is away",
    504: "took too long",
    507: "the disk is full",
}


def create_app(
    index_path: str | os.PathLike[str],
    model: Speaker | str | os.PathLike[str] | None = None,
    settings: Settings | None = None,
    grow: Job | None = None,
) -> FastAPI:
    """Return an ASGI application that serves one index.

    It sees commits of other processes, and closes the index when it is shut down.

    Parameters
    ----------
    index_path : path or URL
        Behind a URL it is copied to this machine, followed, and only read.
    model : Speaker or path, optional
        By default the checkpoint that the index names.
    settings : Settings, optional
        Rights and limits; safe ones by default.
    grow : Job, optional
        Adds pictures while the index is served (`lexlip.server.growing`): it is started with the
        application, in a thread, and asked to stop with it. Meanwhile requests change nothing.

    Raises
    ------
    LexLIPError
        When the index or its model cannot be opened.

    Examples
    --------
    >>> import uvicorn                                          # doctest: +SKIP
    >>> uvicorn.run(create_app("photos.lex"), port=8000)        # doctest: +SKIP
    """
    settings, follower = settings or Settings(), None
    if is_remote(index_path):
        follower = Follower(Shared(str(index_path)))
        settings = replace(settings, read_only=True)
    path = Path(index_path) if follower is None else follower.open()
    speaker = load(model) if isinstance(model, str | os.PathLike) else model
    service = Service.open(path, speaker, settings, grow, follower)
    if service.pictures.problem:
        log.warning(
            "pictures cannot be shown (%s): give --pictures, --split", service.pictures.problem
        )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.grower.start()
        yield
        await asyncio.to_thread(service.close)

    app = FastAPI(
        **FACTS,
        version=metadata.version("lexlip"),
        lifespan=lifespan,
        docs_url=None,  # its page loads code from elsewhere
        redoc_url=None,
        generate_unique_id_function=operation_id,
        responses={
            code: {"model": schemas.Error, "description": said} for code, said in _ERRORS.items()
        },
    )
    app.state.service = service
    answer_errors(app, path)
    app.add_middleware(Guard, settings=settings)
    app.add_middleware(Measured, metrics=service.metrics)
    if settings.log_requests or settings.log_queries:
        app.add_middleware(Logged, queries=settings.log_queries)
    for routes in (search, images, browsing, status):
        app.include_router(routes.router)
    describe(app, settings)
    _add_page(app)
    return app


class _Page(StaticFiles):
    """The page's files; browsers ask each time whether theirs is the last one (ETag)."""

    async def get_response(self, path: str, scope: Any) -> Response:
        answer = await super().get_response(path, scope)
        answer.headers["Cache-Control"] = "no-cache"
        return answer


def _add_page(app: FastAPI) -> None:
    page = _Page(directory=STATIC)
    app.mount("/static", page)

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def get_page(request: Request) -> Response:
        return await page.get_response("index.html", request.scope)

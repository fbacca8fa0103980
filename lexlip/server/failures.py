"""Failed requests: each is answered as ``{"error": "what happened, what to do"}``."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from lexlip.engines.distant import Unavailable
from lexlip.errors import LexLIPError
from lexlip.server.guard import HEADERS

_KNOWN = {
    404: "no such address: /openapi.json lists them",
    405: "no such method at this address: /openapi.json lists them",
}


_AWAY = "the search engine does not answer: try again in a moment"
"""In place of the engine's own line, which names machines that a client has no business with."""

_RUN_OUT = {(errno.ENOSPC, errno.EDQUOT): 507, (errno.EMFILE, errno.ENFILE): 503}


class Refused(LexLIPError):
    """A refused request with its own HTTP status; other LexLIPErrors are a 400.

    Parameters
    ----------
    status : int
        Of HTTP.
    message : str
        One line.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def no_such_image() -> Refused:
    """Return the answer to an image id that names no document."""
    return Refused(404, "no such image: it was deleted, or the id is not from this server")


def status_of(error: BaseException, otherwise: int = 400) -> int:
    """Return the HTTP status for an error; what the system ran out of is not the client's fault.

    Returns
    -------
    int
        507 for a full disk or quota, 503 for too many open files and an engine that is away,
        whether this is the error or one behind it.

    Examples
    --------
    >>> status_of(OSError(errno.ENOSPC, "No space left on device")), status_of(OSError())
    (507, 400)
    """
    if isinstance(error, Refused):
        return error.status
    if _is_away(error):
        return 503
    for behind in _chain(error):
        for numbers, status in _RUN_OUT.items():
            # By its text too: engines have kinds of errors of their own.
            if getattr(behind, "errno", None) in numbers or any(
                os.strerror(number) in str(behind) for number in numbers
            ):
                return status
    return otherwise


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those behind it."""
    seen: set[int] = set()
    behind: BaseException | None = error
    while behind is not None and id(behind) not in seen:
        yield behind
        seen.add(id(behind))
        behind = behind.__cause__ or behind.__context__


def _is_away(error: BaseException) -> bool:
    """Return whether an engine that is away is behind an error."""
    return any(isinstance(behind, Unavailable) for behind in _chain(error))


def without_places(line: str, index: Path) -> str:
    """Return a line that does not name the place of the index on this machine."""
    for place in (str(index.absolute()), str(index)):
        line = line.replace(place, "the index")
    return " ".join(line.split()).encode(errors="replace").decode()


def answer_errors(app: FastAPI, index: Path) -> None:
    """Let an application answer every error with one line.

    Parameters
    ----------
    app : FastAPI
    index : Path
        Its place on this machine, which no answer names.
    """

    def failed(status: int, line: str, headers: Any = None) -> JSONResponse:
        return JSONResponse({"error": without_places(line, index)}, status, headers=headers)

    @app.exception_handler(LexLIPError)
    async def refused(request: Request, error: LexLIPError) -> JSONResponse:
        if not _is_away(error):
            return failed(status_of(error), str(error))
        service = request.app.state.service
        service.metrics.unavailable.inc()
        service.served.watch.doubt()
        return failed(503, _AWAY, {"Retry-After": "1"})

    @app.exception_handler(OSError)
    async def system(request: Request, error: OSError) -> JSONResponse:
        status = status_of(error, 500)
        if status == 500:
            raise error
        return failed(status, f"{error.strerror}: make room, then try again")

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        line = _KNOWN.get(error.status_code, str(error.detail))
        return failed(error.status_code, line, error.headers)

    @app.exception_handler(RequestValidationError)
    @app.exception_handler(ValidationError)
    async def invalid(request: Request, error: Any) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the request"
        return failed(422, f"{place[:200]}: {first['msg'][:200]}")

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        return failed(500, "the server failed: its log says why", HEADERS)

"""A log of requests, a JSON object a line; what was asked is there only if somebody wants it."""

from __future__ import annotations

import json
import logging
import time
from datetime import UTC, datetime

from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)
_FIELDS = "lexlip"
"""Attribute of a record that holds its fields."""


class JsonLines(logging.Formatter):
    """Formats every record as one line: ``time``, ``level``, ``logger``, ``message``, more fields.

    Examples
    --------
    >>> record = logging.LogRecord("a", logging.INFO, "a.py", 1, "two\\nlines", (), None)
    >>> sorted(json.loads(JsonLines().format(record)))
    ['level', 'logger', 'message', 'time']
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": when, "level": record.levelname.lower(), "logger": record.name}
        line["message"] = record.getMessage()
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line | getattr(record, _FIELDS, {}))


class Logged:
    """Middleware that writes a line for each request.

    Parameters
    ----------
    app : ASGI application
    queries : bool
        Whether lines hold the query of an address: what people look for.
    """

    def __init__(self, app: ASGIApp, queries: bool) -> None:
        self.app, self.queries = app, queries

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status, sent, start = 500, 0, time.perf_counter()

        async def noting(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            sent += len(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, receive, noting)
        finally:
            fields = {
                "client": (scope.get("client") or [""])[0],
                "method": scope["method"],
                # Of an unknown path not even a part is told: it may hold what somebody typed.
                "route": getattr(scope.get("route"), "path", "") or "other",
                "status": status,
                "bytes": sent,
                "ms": round(1000 * (time.perf_counter() - start), 1),
            }
            if self.queries:
                fields["query"] = scope.get("query_string", b"").decode("latin-1")
            log.info("request", extra={_FIELDS: fields})


def log_requests() -> None:
    """Write all logs of this process as JSON lines to the standard error, requests included."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    log.setLevel(logging.INFO)
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True

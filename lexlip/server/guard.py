"""The guard before every request: keys, hosts, origins and lengths; and safe headers."""

from __future__ import annotations

import hmac
import re
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lexlip.server.settings import LOOPBACK, Settings

CSP = (
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)

HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


_OPEN = re.compile(r"/(?:static/.*|healthz)?\Z", re.DOTALL)
"""Paths without an API key: the page, which asks for the key, and the health check."""


class _TooLarge(Exception):
    """More came than a request may have."""


class Guard:
    """Middleware: judges a request by its first lines, and counts its body as it comes."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app, self.settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def safely(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                sent = MutableHeaders(scope=message)
                sent.update(HEADERS)
                sent.setdefault("Cache-Control", "no-store")
            await send(message)

        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self.settings.max_body:
                raise _TooLarge
            return message

        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal is None and _length(headers) > self.settings.max_body:
            refusal = self._too_large
        if refusal is None:
            try:
                await self.app(scope, counted, safely)
                return
            except _TooLarge:
                if started:
                    raise
                refusal = self._too_large
        status, line = refusal
        answer = JSONResponse({"error": line}, status, headers={"Connection": "close"})
        await answer(scope, receive, safely)

    @property
    def _too_large(self) -> tuple[int, str]:
        return 413, f"the request is over {self.settings.max_body:,} bytes: send less at a time"

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        """Return status and line for a request that may not pass."""
        hosts, key = self.settings.hosts, self.settings.api_key
        host = headers.get("host", "")
        if "*" not in hosts and _hostname(f"//{host}") not in hosts:
            return 400, "this server has another name: lexlip serve --host NAME"
        if scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            origin = headers.get("origin")
            foreign = headers.get("sec-fetch-site") in ("cross-site", "same-site")
            if foreign or (origin is not None and _netloc(origin) != host):
                return 403, "the request comes from another site's page: open this server's own"
        if key is not None and not _OPEN.match(scope["path"]):
            given = headers.get("x-api-key", "")
            if not hmac.compare_digest(given.encode("latin-1"), key.encode()):
                return 401, "an API key is needed: send it in the header X-API-Key"
        return None


_FORWARDED = ("forwarded", "via", "x-real-ip")
"""Headers that proxies add, besides those that begin with x-forwarded."""


def is_local(scope: Scope, settings: Settings) -> bool:
    """Return whether a request comes from this machine to a server that lets no other in.

    A request that came through a proxy does not: the proxy may let anybody in.
    """
    client, names = scope.get("client"), Headers(scope=scope).keys()
    proxied = any(name in _FORWARDED or name.startswith("x-forwarded") for name in names)
    near = client is not None and client[0] in LOOPBACK
    return near and not proxied and settings.local


def _length(headers: Headers) -> int:
    """Return the declared length of a request; its actual length is counted in any case."""
    told = headers.get("content-length", "")
    return int(told) if told.isascii() and told.isdigit() else 0


def _netloc(url: str) -> str | None:
    """Return host and port of an address, None where it has none."""
    try:
        return urlsplit(url).netloc or None
    except ValueError:
        return None


def _hostname(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None

"""The guard before every request: keys, hosts, origins and lengths; and safe headers."""

from __future__ import annotations

import asyncio
import hmac
import re
import time
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lexlip.server.guesses import Guesses
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


_OPEN = re.compile(r"/(?:static/.*|healthz|livez)?\Z", re.DOTALL)
"""Paths without an API key: the page, which asks for the key, and the health checks."""


def needs_key(path: str) -> bool:
    """Return whether requests to a path need the API key, where the server has one."""
    return not _OPEN.match(path)


_RATE = 32 * 2**10  # bytes of a body a second that give it more time
_SMALL = 2**20  # bytes of a body that are read however many others are


class _Cut(Exception):
    """The body of a request is read no further.

    Parameters
    ----------
    status : int
    line : str
    """

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status, self.line = status, line


class Guard:
    """Middleware: judges a request by its first lines, and counts its body as it comes."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app, self.settings = app, settings
        self._guesses = Guesses(settings.guesses, settings.guess_seconds)
        self._held = 0  # bytes of all bodies

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

        body = _Body(receive, self.settings)

        async def counted() -> Message:
            before = body.read
            message = await body.next()
            self._held += body.read - before
            if body.read > _SMALL and self._held > self.settings.max_bodies:
                raise _Cut(503, "the server is busy with other uploads: try again in a moment")
            return message

        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal is None and _length(headers) > self.settings.max_body:
            refusal = 413, body.too_large
        if refusal is None:
            try:
                await self.app(scope, counted, safely)
                return
            except ClientDisconnect:  # in the middle of its body: nobody waits for an answer
                return
            except _Cut as cut:
                if started:
                    raise
                refusal = cut.status, cut.line
            finally:
                self._held -= body.read
        status, line = refusal
        answer = JSONResponse({"error": line}, status, headers={"Connection": "close"})
        if status == 429:
            answer.headers["Retry-After"] = f"{self._wait(scope):.0f}"
        await answer(scope, receive, safely)

    def _wait(self, scope: Scope) -> float:
        return self._guesses.wait((scope.get("client") or [""])[0])

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        """Return status and line for a request that may not pass."""
        hosts, key = self.settings.hosts, self.settings.api_key
        host = headers.get("host", "")
        if "*" not in hosts and _hostname(f"//{host}") not in hosts:
            return 400, "this server has another name: lexlip serve --name NAME"
        if scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            origin = headers.get("origin")
            foreign = headers.get("sec-fetch-site") in ("cross-site", "same-site")
            if foreign or (origin is not None and _netloc(origin) != host):
                return 403, "the request comes from another site's page: open this server's own"
        if key is not None and needs_key(scope["path"]):
            return self._of_key(scope, headers.get("x-api-key", ""), key)
        return None

    def _of_key(self, scope: Scope, given: str, key: str) -> tuple[int, str] | None:
        """Return status and line for a request without the key.

        A client that sent many wrong ones is not told whether the next is right.
        """
        if given and (left := self._wait(scope)):
            return 429, f"too many wrong API keys: wait {left:.0f} s"
        if hmac.compare_digest(given.encode("latin-1"), key.encode()):
            return None
        if given:
            self._guesses.wrong((scope.get("client") or [""])[0])
        return 401, "an API key is needed: send it in the header X-API-Key"


class _Body:
    """The body of one request as it comes: counted, and with a deadline.

    Attributes
    ----------
    read : int
        Bytes that came.
    """

    def __init__(self, receive: Receive, settings: Settings) -> None:
        self._receive, self._settings = receive, settings
        self._begun = time.monotonic()
        self._ended = False
        self.read = 0

    @property
    def too_large(self) -> str:
        most = self._settings.max_body
        return f"the request is over {most:,} bytes: send less at a time"

    async def next(self) -> Message:
        """Return the next message.

        Raises
        ------
        _Cut
            408 when the body is slow, 413 when it is too long.
        """
        if self._ended:  # what waits now waits for the client to leave
            return await self._receive()
        seconds = self._settings.body_seconds + self.read / _RATE
        try:
            async with asyncio.timeout(self._begun + seconds - time.monotonic()):
                message = await self._receive()
        except TimeoutError:
            line = f"the request did not come within {seconds:.0f} s: send it again"
            raise _Cut(408, line) from None
        self.read += len(message.get("body", b""))
        self._ended = not message.get("more_body", False)
        if self.read > self._settings.max_body:
            raise _Cut(413, self.too_large)
        return message


_FORWARDED = ("forwarded", "via", "x-real-ip")
"""Headers that proxies add, besides those that begin with x-forwarded."""


def is_local(scope: Scope, settings: Settings) -> bool:
    """Return whether a request comes from this machine to a server that lets no other in.

    A request that came through a proxy does not: the proxy may let anybody in.
    """
    client, names = scope.get("client"), Headers(scope=scope).keys()
    proxied = any(name in _FORWARDED or name.startswith("x-forwarded") for name in names)
    return client is not None and client[0] in LOOPBACK and not proxied and settings.local


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

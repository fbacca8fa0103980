"""Connections of the server: limited in number, and closed when nothing comes or goes.

uvicorn closes a kept connection some seconds after an answer, and no other: one that sends nothing,
half a request, or that does not read its answer would stay until the client leaves.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from functools import partial
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

_SPARE = 4
"""One of so many descriptors of the process is for a connection; others are for the index, whose
columns are three files each, for a reader and a writer."""

_MOST = 512
_QUEUE = 1024  # connections that the system holds until the server takes them
_SOME = 4096  # bytes of its answer that a client reads in that time


@dataclass(frozen=True)
class Limits:
    """How many connections there may be, and how long each may wait.

    Attributes
    ----------
    most : int
        Connections at a time. For one more, that which waits the longest without a request is
        closed; where all have one, the new one is.
    header : float
        Seconds from the beginning of a connection, or the end of an answer, until the next request
        has come as far as its body.
    reading : float
        Seconds in which the client reads some of its answer.
    """

    most: int = _MOST
    header: float = 10.0
    reading: float = 30.0


def most_connections() -> int:
    """Return how many connections leave enough file descriptors for the index."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return _MOST
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _MOST if limit == resource.RLIM_INFINITY else max(8, min(_MOST, limit // _SPARE))


class Connection(H11Protocol):
    """A connection with deadlines.

    Parameters
    ----------
    limits : Limits
    given
        What uvicorn gives.
    """

    def __init__(self, *given: Any, limits: Limits, **named: Any) -> None:
        super().__init__(*given, **named)
        self._limits = limits
        self._deadline: asyncio.TimerHandle | None = None
        self._since = 0.0
        self._unread = 0

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or close it where there are too many."""
        super().connection_made(transport)
        self._wait()
        if len(self.connections) > self._limits.most:
            others = [it for it in self.connections if isinstance(it, Connection) and not it.busy]
            min(others, key=lambda it: it._since, default=self).drop()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read; once the request is whole as far as its body, the application has its deadline."""
        super().data_received(data)
        if self.busy and not self.flow.write_paused:
            self._stop()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._wait()
        super().on_response_complete()  # which may go on with the next one at once
        if self.busy:
            self._stop()

    def pause_writing(self) -> None:
        """Wait until the client has read some of its answer."""
        super().pause_writing()
        self._start(self._limits.reading, self._read_some)

    def resume_writing(self) -> None:
        """Go on with the answer."""
        super().resume_writing()
        if self.busy:
            self._stop()
        else:
            self._wait()

    def drop(self) -> None:
        """Close the connection now, whatever was still to be sent."""
        self._stop()
        self.connections.discard(self)
        self.transport.abort()

    def _wait(self) -> None:
        self._since = self.loop.time()
        self._start(self._limits.header, self._read_some)

    def _read_some(self) -> None:
        """Drop the connection, unless there is an answer that the client reads meanwhile."""
        unread = self.transport.get_write_buffer_size()
        if unread and abs(unread - self._unread) >= min(unread, _SOME):
            self._start(self._limits.reading, self._read_some)
        else:
            self.drop()

    def _start(self, seconds: float, end: Any) -> None:
        self._stop()
        self._unread = self.transport.get_write_buffer_size()
        self._deadline = self.loop.call_later(seconds, end)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class Server(uvicorn.Server):
    """A server whose connections have limits.

    Parameters
    ----------
    application : ASGI application
    limits : Limits
    options
        Others of `uvicorn.Config`.
    """

    def __init__(self, application: Any, limits: Limits, **options: Any) -> None:
        # asyncio takes up to `backlog` connections in one go, before any of them is counted, and
        # logs as often when there are no descriptors left.
        http: Any = partial(Connection, limits=limits)
        at_once = max(8, limits.most // 4)
        super().__init__(uvicorn.Config(application, http=http, backlog=at_once, **options))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; the queue of the system is longer than what is taken in one go."""
        await super().startup(sockets)
        for listening in sockets or ():
            listening.listen(_QUEUE)

"""Clients that wait for a bounded time, retries on other nodes included.

A client of opensearch-py tries a request on up to four nodes, and each try may take its whole
timeout. Here all tries together take that, and no more than the thread may wait
(`lexlip.engines.distant.within`).
"""

from __future__ import annotations

import functools
import time
from typing import Any

from lexlip.engines.distant import seconds_left, within

CONNECT = 3.0
"""Seconds in which a node takes a connection; one that drops packets is passed over then."""

PAUSES = (0.1, 0.4)
"""Seconds before a request is tried anew on all nodes."""

PASSING = (500, 502, 503, 504)
"""Statuses of what may be right on another node: 500 is a shard whose node has just died."""


@functools.cache
def patient() -> tuple[Any, Any]:
    """Return the class of connections, and that of transports which only read.

    Both exist where opensearch-py is.
    """
    from opensearchpy import Transport, Urllib3HttpConnection
    from opensearchpy.exceptions import ConnectionError, ConnectionTimeout, TransportError
    from urllib3 import Timeout

    class Connection(Urllib3HttpConnection):
        """Connections to one node; the first of several nodes leaves time for the next."""

        def __init__(self, *args: Any, only: bool = True, **options: Any) -> None:
            super().__init__(*args, **options)
            self._only = only

        def perform_request(
            self, method: str, url: str, params: Any = None, body: Any = None, timeout: Any = None,
            ignore: Any = (), headers: Any = None,
        ) -> Any:  # fmt: skip
            """Send a request; see `Urllib3HttpConnection.perform_request`."""
            whole = timeout or self.timeout
            left = seconds_left(whole)
            if left <= 0:
                raise ConnectionTimeout("TIMEOUT", "no time is left", None)
            read = left if self._only else max(left / 2, min(left, CONNECT))
            wait: Any = Timeout(connect=min(CONNECT, left), read=read)
            return super().perform_request(method, url, params, body, wait, ignore, headers)

    class Reading(Transport):
        """A transport of requests that may be repeated, since they change nothing."""

        def perform_request(
            self, method: str, url: str, params: Any = None, body: Any = None, timeout: Any = None,
            ignore: Any = (), headers: Any = None,
        ) -> Any:  # fmt: skip
            """Send a request, to other nodes too where one fails; see `Transport.perform_request`.

            Once all have failed it pauses and tries again: while a cluster notices that a node
            died, all others may say that shards are missing, which have copies.
            """
            with within(timeout or self.kwargs["timeout"]):
                for pause in (*PAUSES, None):
                    try:
                        again = None if params is None else dict(params)  # it takes some out
                        return super().perform_request(
                            method, url, again, body, timeout, ignore, headers
                        )
                    except TransportError as error:
                        passes = isinstance(error, ConnectionError) or (
                            error.status_code in self.retry_on_status
                        )
                        if pause is None or not passes or isinstance(error, ConnectionTimeout):
                            raise
                        time.sleep(min(pause, seconds_left(pause)))
            raise AssertionError

    return Connection, Reading

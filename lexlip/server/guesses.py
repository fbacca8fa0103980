"""A brake on guessing the API key: after some wrong ones a client has to wait."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

_CLIENTS = 10_000  # that are remembered; the one that was seen last the longest ago is forgotten


class Guesses:
    """Counts wrong keys of each client, by its address; of IPv6 by its network of 64 bits.

    Parameters
    ----------
    most : int
        Wrong keys that a client may send in that time.
    seconds : float
        From the first wrong key on.
    clock : callable
        Seconds.

    Examples
    --------
    >>> guesses = Guesses(1, 60, lambda: 0.0)
    >>> guesses.wait("10.0.0.1"), guesses.wrong("10.0.0.1"), guesses.wait("10.0.0.1")
    (0.0, None, 60.0)
    """

    def __init__(
        self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most, self._seconds, self._clock = most, seconds, clock
        self._seen: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def wait(self, client: str) -> float:
        """Return the seconds until a key of this client is looked at again; 0 for now."""
        since, count = self._seen.get(_network(client), (0.0, 0))
        left = since + self._seconds - self._clock()
        return max(0.0, left) if count >= self._most else 0.0

    def wrong(self, client: str) -> None:
        """Count a wrong key."""
        name, now = _network(client), self._clock()
        since, count = self._seen.pop(name, (now, 0))
        if now - since >= self._seconds:
            since, count = now, 0
        self._seen[name] = since, count + 1
        if len(self._seen) > _CLIENTS:
            self._seen.popitem(last=False)


def _network(client: str) -> str:
    try:
        address = ipaddress.ip_address(client.partition("%")[0])
    except ValueError:
        return client
    if address.version == 4:
        return client
    return str(ipaddress.ip_network((address, 64), strict=False))

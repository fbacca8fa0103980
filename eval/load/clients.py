"""Clients over HTTP: requests on kept connections or new ones, and how long answers took."""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

QUERIES = (
    "a heart in the snow", "red + moon", "two blue hearts", "a green triangle", "bow at night",
    "a yellow diamond", "a black star", "orange arrow -heart", "purple square", "3:moon + red",
)  # fmt: skip

SEARCHES = tuple(f"/search?k=10&q={quote(text)}" for text in QUERIES)


@dataclass
class Answers:
    """What came back.

    Attributes
    ----------
    seconds : list of float
        Of each answer.
    statuses : Counter
        By HTTP status.
    errors : list of str
        Requests without an answer.
    wall : float
        Seconds from the first request to the last answer.
    """

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    wall: float = 0.0

    def share(self, part: float) -> float:
        """Return the milliseconds within which a share of the answers came."""
        ordered = sorted(self.seconds)
        return 1000 * ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.seconds) / self.wall if self.wall else 0.0


class Client:
    """One client; a connection that breaks is begun again at the next request."""

    def __init__(self, port: int, kept: bool = True, timeout: float = 60.0) -> None:
        self._port, self._kept, self._timeout = port, kept, timeout
        self._connection: http.client.HTTPConnection | None = None

    def ask(
        self, path: str, method: str = "GET", body: bytes | None = None, kind: str = ""
    ) -> tuple[int, bytes, float]:
        """Send a request; return status, body and seconds.

        Raises
        ------
        OSError, http.client.HTTPException
            Without an answer.
        """
        begun = time.perf_counter()
        if self._connection is None:
            self._connection = http.client.HTTPConnection(
                "127.0.0.1", self._port, timeout=self._timeout
            )
        try:
            headers = {"Content-Type": kind} if kind else {}
            self._connection.request(method, path, body, headers)
            answer = self._connection.getresponse()
            read = answer.read()
        except BaseException:
            self.close()
            raise
        seconds = time.perf_counter() - begun
        if not self._kept:
            self.close()
        return answer.status, read, seconds

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def form(file: bytes, metadata: str = "") -> tuple[bytes, str]:
    """Return the body of a form with a picture, and its kind."""
    parts = [b'name="file"; filename="a.png"\r\n\r\n' + file]
    if metadata:
        parts.append(b'name="metadata"\r\n\r\n' + metadata.encode())
    begin = b"--pictures\r\nContent-Disposition: form-data; "
    body = b"".join(begin + part + b"\r\n" for part in parts) + b"--pictures--\r\n"
    return body, "multipart/form-data; boundary=pictures"


def load(
    port: int, clients: int, count: int, kept: bool, paths: Sequence[str] = SEARCHES
) -> Answers:
    """Let clients send requests at the same time, each as soon as it has its last answer.

    Parameters
    ----------
    port : int
    clients : int
    count : int
        Requests of all of them.
    kept : bool
        On one connection each; else on a new one each time.
    paths : sequence of str
        What is asked, in turn.
    """
    answers, lock = Answers(), threading.Lock()
    left = iter(range(count))

    def ask(client: Client) -> None:
        while True:
            with lock:
                number = next(left, None)
            if number is None:
                break
            try:
                status, _, seconds = client.ask(paths[number % len(paths)])
            except (OSError, http.client.HTTPException) as error:
                with lock:
                    answers.errors.append(repr(error))
                continue
            with lock:
                answers.statuses[status] += 1
                answers.seconds.append(seconds)
        client.close()

    begun = time.perf_counter()
    together([lambda: ask(Client(port, kept)) for _ in range(clients)])
    answers.wall = time.perf_counter() - begun
    return answers


def together(jobs: Sequence[Callable[[], None]]) -> None:
    """Run jobs in threads, and wait for all of them."""
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

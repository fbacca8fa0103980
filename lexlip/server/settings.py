"""Rights and limits of a server; the defaults are safe."""

from __future__ import annotations

from dataclasses import dataclass, field

from lexlip.data.limits import max_pixels

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Settings:
    """Rights and limits of a server.

    Attributes
    ----------
    api_key : str, optional
        The key that every request carries in the header ``X-API-Key``; the page itself and
        ``/healthz`` and ``/livez`` are open.
    read_only : bool
        Refuse to add and delete pictures.
    hosts : tuple of str
        Names that this server answers to; others are refused, so that no foreign name can be made
        to point here. ``"*"`` answers to any.
    pictures : str, optional
        Place of the indexed pictures: a folder, table or data set, as ``lexlip index`` took it.
        By default where the index says.
    split : str, optional
        Of that data set.
    log_requests : bool
        Log a line for each request, without what was asked.
    log_queries : bool
        With the query of the address.
    max_body : int
        Bytes of a request.
    max_bodies : int
        Bytes of all requests that are read or worked on at a time; where there are more, one of
        over a megabyte is answered with 503.
    body_seconds : float
        A body has these seconds, and one more for every 32 KiB of it that have come; then it is
        answered with 408.
    guesses : int
        Wrong API keys that one client may send in `guess_seconds`; then it is answered with 429,
        whatever it sends.
    guess_seconds : float
        Of one client's wrong keys.
    max_file : int
        Bytes of a picture file that is sent as it is.
    max_pixels : int
        Of a posted picture, width times height, at the scale that it is decoded at; by default
        that of the environment variable LEXLIP_MAX_PIXELS, or 64 million.
    max_columns : int
        Columns of metadata that posted pictures may bring an index to; each takes three open files
        of a reader, and of a writer.
    max_query : int
        Characters of a query or a filter.
    max_hits : int
        Hits of one answer.
    max_depth : int
        Hits that can be paged through, and that can be reranked.
    seconds : float
        A request that takes longer is answered with 504.
    threads : int
        Requests that are worked on at a time.
    waiting : int
        Requests that may wait for a thread; more are answered with 503.
    thumbnail : int
        Longer side of a thumbnail, pixels.
    thumbnails : int
        How many are kept in memory, some 10 KB each.
    """

    api_key: str | None = field(default=None, repr=False)
    read_only: bool = False
    hosts: tuple[str, ...] = LOOPBACK
    pictures: str | None = None
    split: str | None = None
    log_requests: bool = False
    log_queries: bool = False
    max_body: int = 32 * 2**20
    max_bodies: int = 256 * 2**20
    body_seconds: float = 30.0
    guesses: int = 10
    guess_seconds: float = 60.0
    max_file: int = 256 * 2**20
    max_pixels: int = field(default_factory=max_pixels)
    max_columns: int = 64
    max_query: int = 2000
    max_hits: int = 200
    max_depth: int = 1000
    seconds: float = 20.0
    threads: int = 8
    waiting: int = 64
    thumbnail: int = 320
    thumbnails: int = 2000

    @property
    def local(self) -> bool:
        """Whether only programs of this machine are let in."""
        return set(self.hosts) <= set(LOOPBACK)

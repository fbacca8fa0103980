"""Parts that were found sound: checked once by a process that reads them again and again."""

from __future__ import annotations

from collections.abc import Iterable

from lexlip.storage.generations import Generation


class Sound:
    """Parts whose digests were found right by this process: a part never changes.

    For what reads the same parts again and again, as copies of documents do.
    """

    def __init__(self) -> None:
        self._names: set[str] = set()

    def check(self, generation: Generation, parts: Iterable[str]) -> None:
        """Check the digests of those parts that were not checked yet."""
        new = set(parts) - self._names
        generation.check_digests(sorted(new))
        self._names |= new

"""Answers without a query: the wall, facts of a picture, columns, words to try."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from lexlip.build.identity import Mark, mark
from lexlip.build.manifest import has_said
from lexlip.engines.browsing import Facet, facets, newest
from lexlip.filters.where import Where
from lexlip.index import Index
from lexlip.query.frequent import FrequentWord, frequent_words, near, pairs, telling
from lexlip.server.answers.facets import shown
from lexlip.server.failures import Refused, no_such_image
from lexlip.server.picture_files import Pictures, token_of
from lexlip.server.served_index import ServedIndex

T = TypeVar("T")

_DEEPEST = 20_000
"""Pictures of the wall that can be paged through: a filter leads to the others."""


@dataclass(frozen=True)
class _Words:
    """Words of one commit."""

    every: list[FrequentWord]
    telling: list[FrequentWord]
    pairs: list[tuple[str, str]]


class Once:
    """Keeps what was worked out of a commit until there is another one.

    Parameters
    ----------
    work : callable
        From the index.
    """

    def __init__(self, work: Callable[[Index], T]) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._of: tuple[Mark | None, int] | None = None
        self._found: Any = None

    def __call__(self, index: Index) -> Any:
        """Return what is worked out of the commit that the index shows."""
        now = mark(index.path), index.engine.generation
        with self._lock:
            if self._of != now:
                self._found, self._of = self._work(index), now
            return self._found


class Browsing:
    """What can be said of an index as a whole; worked out once for each commit.

    Parameters
    ----------
    served : ServedIndex
    """

    def __init__(self, served: ServedIndex) -> None:
        self._served = served
        self._facets = Once(lambda index: facets(index.engine))
        self._words = Once(self._worked_out)

    def _worked_out(self, index: Index) -> _Words:
        lexicon, said = self._served.model.lexicon, has_said(index.manifest)
        every = frequent_words(index.engine, lexicon, said)
        chosen = telling(every, len(index))
        return _Words(every, chosen, pairs(index.engine, lexicon, chosen, said))

    def columns(self) -> dict[str, Any]:
        """Return the columns, as `lexlip.server.browsing_schemas.Columns`."""
        with self._served.reading() as index:
            found: list[Facet] = self._facets(index)
            generation = str(index.engine.generation)
        return {"columns": list(shown(found)), "generation": generation}

    def words(self) -> dict[str, Any]:
        """Return words to try, as `lexlip.server.browsing_schemas.FrequentWords`."""
        with self._served.reading() as index:
            found: _Words = self._words(index)
            return {
                "words": [one._asdict() for one in found.telling],
                "pairs": [list(pair) for pair in found.pairs],
                "total": len(index),
                "generation": str(index.engine.generation),
            }

    def near(self, text: str) -> list[str]:
        """Return words of the index that are written much like those of a text."""
        with self._served.reading() as index:
            found: _Words = self._words(index)
        return near(text, found.every)


def wall(served: ServedIndex, offset: int, limit: int, where: str) -> dict[str, Any]:
    """Return a page of pictures, newest first, as `lexlip.server.browsing_schemas.Wall`.

    Raises
    ------
    LexLIPError
        For a filter that does not fit, and too far from the beginning.
    """
    if offset + limit > _DEEPEST:
        raise Refused(400, f"the newest {_DEEPEST:,} pictures are listed: narrow them by a filter")
    kept = Where.parse(where) if where.strip() else None
    with served.reading() as index:
        ids = newest(index.engine, limit + 1, offset, kept)
        more, ids = len(ids) > limit, ids[:limit]
        total, generation = len(index), str(index.engine.generation)
        metadata = index.engine.fetch(ids)
    last = offset + limit
    return {
        "images": [
            {"id": id, "image": token_of(id), "metadata": facts or {}}
            for id, facts in zip(ids, metadata, strict=True)
        ],
        "total": total,
        "next_offset": last if more and last < _DEEPEST else None,
        "generation": generation,
    }


def picture_facts(served: ServedIndex, pictures: Pictures, id: str, local: bool) -> dict[str, Any]:
    """Return what is known of a picture, as `lexlip.server.browsing_schemas.Facts`.

    Parameters
    ----------
    served, pictures
    id : str
    local : bool
        Whether the path of its file may be told.

    Raises
    ------
    Refused
        404 for a picture that is not in the index.
    """
    with served.reading() as index:
        metadata = index.engine.fetch([id])[0]
    if metadata is None:
        raise no_such_image()
    size = pictures.size(id)
    return {
        "id": id,
        "image": token_of(id),
        "metadata": metadata,
        "width": size.width,
        "height": size.height,
        "bytes": size.bytes,
        "path": size.path if local else None,
    }

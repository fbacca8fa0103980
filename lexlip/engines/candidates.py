"""Candidates: the hits of a search as arrays, whose ids are read only for what is returned."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lexlip.engines.base import Condition, Engine, Hit
from lexlip.errors import LexLIPError

if TYPE_CHECKING:
    from lexlip.filters.where import Where
    from lexlip.storage.vectors import Span
    from lexlip.storage.views import Vectors


_new_hit = partial(tuple.__new__, Hit)
"""Half the time of calling `Hit`, which unpacks and packs its arguments."""


def as_hits(names: Sequence[str], scores: NDArray[Any]) -> list[Hit]:
    """Return ids and scores as hits."""
    return list(map(_new_hit, zip(names, scores.tolist(), strict=True)))


class Candidates(ABC):
    """Documents that a search found, in no promised order.

    Attributes
    ----------
    scores : integers [n]
        Of the search.
    """

    scores: NDArray[np.integer]

    def __len__(self) -> int:
        return self.scores.size

    @abstractmethod
    def names(self, places: NDArray[np.int64] | None = None) -> list[str]:
        """Return the ids at some places, 0..n-1; all by default."""

    @property
    def spans(self) -> Sequence[Span] | None:
        """Where the engine keeps their dense vectors; None for an engine that keeps none."""
        return None

    def best(self, scores: NDArray[Any], k: int) -> tuple[NDArray[np.int64], list[str]]:
        """Return places and ids of the best k by other scores [n]; equal ones by id.

        Examples
        --------
        >>> found = Listed([Hit("b", 9), Hit("a", 8), Hit("c", 7)])
        >>> places, names = found.best(np.array([0.5, 0.5, 0.7]), 2)
        >>> places.tolist(), names
        ([2, 1], ['c', 'a'])
        """
        if k < scores.size:
            cut = np.partition(scores, scores.size - k)[scores.size - k]
            places = np.flatnonzero(scores >= cut)
        else:
            places = np.arange(scores.size)
        places = places[np.argsort(-scores[places], kind="stable")]
        names, ranked = self.names(places), scores[places]
        if (ranked[1:] == ranked[:-1]).any():
            wanted = zip((-ranked).tolist(), names, range(places.size), strict=True)
            order = [place for _, _, place in sorted(wanted)]
            places, names = places[order], [names[place] for place in order]
        return places[:k], names[:k]

    def hits(self) -> list[Hit]:
        """Return all as hits, by score, then by id."""
        places, names = self.best(self.scores, len(self))
        return as_hits(names, self.scores[places])


class Listed(Candidates):
    """Hits of an engine that has no arrays."""

    def __init__(self, hits: Sequence[Hit]) -> None:
        self._hits = hits
        self.scores = np.fromiter((hit.score for hit in hits), np.int64, len(hits))

    def names(self, places: NDArray[np.int64] | None = None) -> list[str]:
        """Return the ids at some places."""
        if places is None:
            return [hit.id for hit in self._hits]
        return [self._hits[place].id for place in places.tolist()]


class WithoutArrays:
    """Part of an engine that returns hits only, and keeps no vectors."""

    keeps_vectors = False

    def candidates(
        self: Engine,
        terms: Mapping[int, int],
        k: int,
        where: Where | None = None,
        conditions: Sequence[Condition] = (),
    ) -> Candidates:
        """Return the best `k` documents; see `Engine.candidates`."""
        return Listed(self.search(terms, k, where, conditions))

    def locate(self, hits: Sequence[Hit]) -> Candidates:
        """Return hits as they are; see `Engine.locate`."""
        return Listed(hits)

    @staticmethod
    def refuse(vectors: Vectors | None) -> None:
        """Raise when `add` is given vectors."""
        if vectors is not None:
            raise LexLIPError("this engine keeps no vectors: keep them by id, beside it")

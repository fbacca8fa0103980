"""Rows of the postings engine: what a search found, as arrays over the parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexlip.engines.base import Hit
from lexlip.engines.candidates import Candidates, as_hits
from lexlip.engines.postings.parts import Found, Part
from lexlip.storage.vectors import Span


class Rows(Candidates):
    """Candidates as a part and a row each; parts stay mapped as long as this lives.

    Parameters
    ----------
    found : sequence of (Part, int [m], int [m])
        Rows and scores of each part.
    ordered : bool
        Whether each part's rows come by score, then by row, as the kernel gives them.
    """

    def __init__(self, found: Sequence[Found], ordered: bool = True) -> None:
        self._parts = [part for part, rows, _ in found if rows.size]
        rows = [rows for _, rows, _ in found if rows.size]
        scores = [scores for _, rows, scores in found if rows.size]
        self._sizes = [each.size for each in rows]
        self._rows = _joined(rows)
        self.scores: NDArray[Any] = _joined(scores)
        self._ordered = ordered and len(self._parts) < 2

    def cut(self, k: int) -> Rows:
        """Return the best k by score; of equal ones at the cut those with the smallest ids."""
        if len(self) <= k:
            return self
        limit = np.partition(self.scores, len(self) - k)[len(self) - k]
        kept = self.scores > limit
        tied = np.flatnonzero(self.scores == limit)
        names = self.names(tied)
        first = sorted(range(tied.size), key=names.__getitem__)[: k - int(kept.sum())]
        kept[tied[first]] = True
        pieces = (
            (part, self._rows[span][kept[span]], self.scores[span][kept[span]])
            for part, span in self._spans()
        )
        return Rows(list(pieces))

    def _spans(self) -> list[tuple[Part, slice]]:
        ends = np.cumsum(self._sizes).tolist()
        spans = (slice(end - size, end) for end, size in zip(ends, self._sizes, strict=True))
        return list(zip(self._parts, spans, strict=True))

    def names(self, places: NDArray[np.int64] | None = None) -> list[str]:
        """Return the ids at some places."""
        if len(self._parts) == 1:
            return self._parts[0].ids.texts(self._rows if places is None else self._rows[places])
        places = np.arange(len(self)) if places is None else places
        names = [""] * places.size
        for part, span in self._spans():
            which = np.flatnonzero((places >= span.start) & (places < span.stop))
            for at, name in zip(
                which.tolist(), part.ids.texts(self._rows[places[which]]), strict=True
            ):
                names[at] = name
        return names

    @property
    def spans(self) -> Sequence[Span] | None:
        """Where their vectors lie."""
        return [
            (part.vectors, np.arange(span.start, span.stop), self._rows[span])
            for part, span in self._spans()
            if part.vectors is not None
        ]

    def hits(self) -> list[Hit]:
        """Return all as hits, by score, then by id."""
        if self._ordered:
            return as_hits(self.names(), self.scores)
        return super().hits()


def _joined(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    if len(arrays) == 1:
        return arrays[0]
    return np.concatenate(arrays) if arrays else np.empty(0, np.int32)

"""The second stage of an index: its rerankers, and their tuned shares.

``rerank.json`` beside the manifest holds the share that each tuned reranker's score has, and from
which uncertainty on a query counts as ambiguous. Where there is none, both stages have equal shares
and no query is ambiguous.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lexlip.engines.base import Hit
from lexlip.errors import LexLIPError
from lexlip.query.prepared import PreparedQuery
from lexlip.rerank.fuse import fuse
from lexlip.rerank.rerankers import Reranker, open_reranker
from lexlip.storage.files import read_json, write_json
from lexlip.storage.forward import ForwardStore

if TYPE_CHECKING:
    from lexlip.engines.candidates import Candidates
    from lexlip.models.speaker import Speaker

SETTINGS = "rerank.json"
DEPTH = 100
"""Candidates that are reranked; twice as many for an ambiguous query."""

SHARE = 0.5
"""Of a reranker's score, where none was tuned."""


class RerankedHit(NamedTuple):
    """A document that both stages looked at.

    Attributes
    ----------
    id : str
    score : float
        Of both stages together, on a scale per query. Hits are ordered by it.
    words : float
        Score of the first stage, the one that `Index.explain` takes apart.
    likeness : float
        Score of the reranker.
    uncertainty : float or None
        Mean log standard deviation of the document's Gaussian, where one is kept: the larger, the
        vaguer.
    """

    id: str
    score: float
    words: float
    likeness: float
    uncertainty: float | None


class SecondStage:
    """Reorders the hits of an index.

    Parameters
    ----------
    folder : Path
        The index.
    store : ForwardStore or None
        Its views.
    model : Speaker
        Of the index.

    Raises
    ------
    LexLIPError
        When the index keeps no views.
    """

    def __init__(self, folder: Path, store: ForwardStore | None, model: Speaker) -> None:
        if store is None:
            raise LexLIPError(
                f"{folder} keeps nothing to rerank with: build it with --keep-views, by a model "
                "with heads (training needs a clone of lexlip)"
            )
        self.path, self.store, self.model = folder / SETTINGS, store, model
        self.settings: dict[str, Any] = read_json(self.path) if self.path.exists() else {}

    def reranker(self, name: str) -> Reranker:
        """Return a reranker by its name (`lexlip.rerank.rerankers.RERANKERS`)."""
        return open_reranker(name, self.store, self.model)

    def share(self, name: str) -> float:
        """Return the share of a reranker's score against the words' score: tuned, or one half."""
        return float(self.settings.get("shares", {}).get(name, SHARE))

    def ambiguous(self, query: PreparedQuery) -> bool:
        """Say whether a query is among the vaguest tenth of those that the index was tuned with."""
        limit = self.settings.get("ambiguous")
        if limit is None:
            return False
        found = query.uncertainty
        return found is not None and found > limit

    def depth(self, query: PreparedQuery) -> int:
        """Return how many candidates to rerank: `DEPTH`, twice as many for an ambiguous query."""
        return DEPTH * (2 if self.ambiguous(query) else 1)

    def likeness(self, name: str, query: PreparedQuery, ids: Sequence[str]) -> NDArray[np.float32]:
        """Score candidates, float32 [K]; parts that are subtracted count against them."""
        return self.reranker(name).score_sum(query.views, ids)

    def rerank(
        self, hits: Sequence[Hit], query: PreparedQuery, name: str, share: float | None = None
    ) -> list[RerankedHit]:
        """Reorder hits by both stages.

        Parameters
        ----------
        hits : sequence of Hit
            The hits of the first stage.
        query : PreparedQuery
        name : str
            One of `lexlip.rerank.RERANKERS`.
        share : float, optional
            Of the reranker's score, 0..1; the tuned one by default.
        """
        ids, words = [hit.id for hit in hits], np.array([hit.score for hit in hits])
        return self._ordered(ids, words, query, name, len(ids), share)

    def order(
        self, found: Candidates, query: PreparedQuery, name: str, k: int
    ) -> list[RerankedHit]:
        """Reorder candidates by both stages, and return the best k.

        Parameters
        ----------
        found : Candidates
            What the first stage found.
        query, name
            As for `rerank`.
        k : int
        """
        places, ids = found.best(found.scores, len(found))
        return self._ordered(ids, found.scores[places], query, name, k)

    def _ordered(
        self,
        ids: Sequence[str],
        words: NDArray[Any],
        query: PreparedQuery,
        name: str,
        k: int,
        share: float | None = None,
    ) -> list[RerankedHit]:
        likeness = self.likeness(name, query, ids)
        both = fuse(words, likeness, self.share(name) if share is None else share)
        order = np.argsort(-both, kind="stable")[:k]  # ties stay in the order of the first stage
        best = [ids[place] for place in order.tolist()]
        vague: list[float | None] = [None] * len(best)
        if self.store.gaussian_size:
            found = self.store.gaussians(best)
            spread = (found.log_variance.mean(1, dtype=np.float32) / 2).tolist()
            vague = [u if held else None for u, held in zip(spread, found.held, strict=True)]
        scores = (array[order].tolist() for array in (both, words, likeness))
        return [RerankedHit(*row) for row in zip(best, *scores, vague, strict=True)]

    def save(self, shares: dict[str, float], ambiguous: float | None) -> None:
        """Save tuned shares; those of these rerankers are overwritten."""
        kept = {**self.settings.get("shares", {}), **shares}
        self.settings = {"format": 1, "shares": kept, "ambiguous": ambiguous}
        write_json(self.path, self.settings, follow=False)

"""The second stage of an index: its rerankers, and what was chosen for them.

``rerank.json`` beside the manifest holds the share that each tuned reranker's score has, and from
which uncertainty on a query counts as ambiguous. Where there is none, both stages have equal shares
and no query is ambiguous.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lexlip.engines.base import Hit
from lexlip.errors import LexLIPError
from lexlip.files import read_json, write_json
from lexlip.forward import ForwardStore
from lexlip.query import Part, Query
from lexlip.rerank.fuse import fuse
from lexlip.rerank.rerankers import Reranker, open_reranker
from lexlip.views import Views

if TYPE_CHECKING:
    from lexlip.model import LexLIP

SETTINGS = "rerank.json"
DEPTH = 100
"""Candidates that are reranked; twice as many for an ambiguous query."""

SHARE = 0.5
"""Of a reranker's score, where none was tuned."""

Asked = Sequence[tuple[float, Views]]
"""A query as a weighted sum of texts and pictures, each with its views."""


class RerankedHit(NamedTuple):
    """A document that both stages looked at.

    Attributes
    ----------
    id : str
    score : float
        Of both stages together, on a scale of its own for each query: what hits are ordered by.
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


def views_of(model: LexLIP, item: Any) -> Asked:
    """Look at a query as rerankers do.

    Parameters
    ----------
    model : LexLIP
    item : str, picture or Query
        Of a query its texts and pictures are looked at, with their weights; words that were given
        as words count in the first stage only.

    Raises
    ------
    LexLIPError
        When there is nothing to look at.
    """
    parts = item.parts if isinstance(item, Query) else (Part(item),)
    found = []
    for part in parts:
        if isinstance(part.content, str):
            found.append((part.weight, model.represent_text([part.content])[1]))
        elif not isinstance(part.content, tuple | Mapping):
            found.append((part.weight, model.represent_image([part.content])[1]))
    if not found:
        raise LexLIPError("weighted words cannot be reranked: ask with a text or a picture")
    return found


def uncertainty(views: Views) -> float | None:
    """Mean log standard deviation of the first of some views; None without a Gaussian head."""
    return float(views.log_variance[0].mean()) / 2 if views.has_gaussians else None


class SecondStage:
    """Reorders the hits of an index.

    Parameters
    ----------
    folder : Path
        The index.
    store : ForwardStore or None
        Its views.
    model : LexLIP
        Of the index.

    Raises
    ------
    LexLIPError
        When the index keeps no views.
    """

    def __init__(self, folder: Path, store: ForwardStore | None, model: LexLIP) -> None:
        if store is None:
            raise LexLIPError(
                f"{folder} keeps nothing to rerank with: build it with --keep-views, by a model "
                "with heads (make pretrain-heads)"
            )
        self.path, self.store, self.model = folder / SETTINGS, store, model
        self.settings: dict[str, Any] = read_json(self.path) if self.path.exists() else {}
        self._rerankers: dict[str, Reranker] = {}

    def reranker(self, name: str) -> Reranker:
        """Return a reranker by its name (`lexlip.rerank.rerankers.RERANKERS`)."""
        if name not in self._rerankers:
            self._rerankers[name] = open_reranker(name, self.store, self.model)
        return self._rerankers[name]

    def share(self, name: str) -> float:
        """Return the share of a reranker's score beside that of the words: tuned, or one half."""
        return float(self.settings.get("shares", {}).get(name, SHARE))

    def ambiguous(self, asked: Asked) -> bool:
        """Say whether a query is among the vaguest tenth of those that the index was tuned with."""
        limit = self.settings.get("ambiguous")
        found = [uncertainty(views) for weight, views in asked if weight > 0]
        return limit is not None and any(u is not None and u > limit for u in found)

    def depth(self, asked: Asked) -> int:
        """Return how many candidates to rerank: `DEPTH`, twice as many for an ambiguous query."""
        return DEPTH * (2 if self.ambiguous(asked) else 1)

    def look_at(self, item: Any) -> Asked:
        """Look at a query as rerankers do; see `views_of`."""
        return views_of(self.model, item)

    def likeness(self, name: str, asked: Asked, ids: Sequence[str]) -> NDArray[np.float32]:
        """Score candidates, float32 [K]; what is subtracted from a query counts against them."""
        reranker, total = self.reranker(name), np.zeros(len(ids), np.float32)
        for weight, views in asked:
            total += np.float32(weight) * reranker.score(views, ids)
        return total

    def rerank(
        self, hits: Sequence[Hit], asked: Asked, name: str, share: float | None = None
    ) -> list[RerankedHit]:
        """Reorder hits by both stages.

        Parameters
        ----------
        hits : sequence of Hit
            What the first stage found.
        asked : sequence of (float, Views)
        name : str
        share : float, optional
            Of the reranker's score, 0..1; the tuned one by default.
        """
        ids = [hit.id for hit in hits]
        likeness = self.likeness(name, asked, ids)
        words = [hit.score for hit in hits]
        both = fuse(words, likeness, self.share(name) if share is None else share)
        vague: list[float | None] = [None] * len(ids)
        if self.store.gaussian_size:
            known = self.store.held(ids)
            spread = self.store.gaussians(ids)[1].mean(1) / 2
            vague = [float(u) if k else None for u, k in zip(spread, known, strict=True)]
        order = np.argsort(-both, kind="stable")  # ties stay in the order of the first stage
        return [
            RerankedHit(ids[i], float(both[i]), words[i], float(likeness[i]), vague[i])
            for i in order
        ]

    def save(self, shares: dict[str, float], ambiguous: float | None) -> None:
        """Keep what was chosen, in the place of what was there for these rerankers."""
        kept = {**self.settings.get("shares", {}), **shares}
        self.settings = {"format": 1, "shares": kept, "ambiguous": ambiguous}
        write_json(self.path, self.settings)

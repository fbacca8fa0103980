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
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lexlip.engines.base import Hit
from lexlip.errors import LexLIPError
from lexlip.query.query import Part, Query, ask
from lexlip.query.search import Asked
from lexlip.rerank import gaussian
from lexlip.rerank.fuse import fuse
from lexlip.rerank.rerankers import Reranker, open_reranker
from lexlip.storage.files import read_json, write_json
from lexlip.storage.forward import ForwardStore
from lexlip.views import Views

if TYPE_CHECKING:
    from lexlip.models.lexlip import LexLIP

SETTINGS = "rerank.json"
DEPTH = 100
"""Candidates that are reranked; twice as many for an ambiguous query."""

SHARE = 0.5
"""Of a reranker's score, where none was tuned."""

Seen = Sequence[tuple[float, Views]]
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


def views_of(model: LexLIP, item: Any) -> Seen:
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
    texts = [part for part in parts if isinstance(part.content, str)]
    pictures = [part for part in parts if not isinstance(part.content, str | tuple | Mapping)]
    found: list[tuple[float, Views]] = []
    looks: tuple[Any, Any] = model.represent_text, model.represent_image
    for some, look in zip((texts, pictures), looks, strict=True):
        if some:
            views = look([part.content for part in some])[1]
            found += [(part.weight, views.take([row])) for row, part in enumerate(some)]
    if not found:
        raise LexLIPError("weighted words cannot be reranked: ask with a text or a picture")
    return found


class _OnePass:
    """A model that encodes what one query asks with once, for the words and for the views."""

    def __init__(self, model: LexLIP) -> None:
        self._model = model
        self._done: dict[tuple[int, ...], tuple[csr_array, Views]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def _once(self, items: Sequence[Any]) -> tuple[csr_array, Views]:
        key = tuple(map(id, items))  # the query keeps them alive
        if key not in self._done:
            text = isinstance(items[0], str)
            look = self._model.represent_text if text else self._model.represent_image
            self._done[key] = look(items)
        return self._done[key]

    def _words(self, items: Sequence[Any]) -> csr_array:
        return self._once(items)[0]

    represent_text = represent_image = _once
    encode_text = encode_image = encode_document = _words


def uncertainty(views: Views) -> float | None:
    """Mean log standard deviation of the first of some views; None without a Gaussian head."""
    if not views.has_gaussians:
        return None
    return gaussian.uncertainty(torch.from_numpy(views.log_variance[:1])).item()


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

    def reranker(self, name: str) -> Reranker:
        """Return a reranker by its name (`lexlip.rerank.rerankers.RERANKERS`)."""
        return open_reranker(name, self.store, self.model)

    def share(self, name: str) -> float:
        """Return the share of a reranker's score beside that of the words: tuned, or one half."""
        return float(self.settings.get("shares", {}).get(name, SHARE))

    def ambiguous(self, seen: Seen) -> bool:
        """Say whether a query is among the vaguest tenth of those that the index was tuned with."""
        limit = self.settings.get("ambiguous")
        found = [uncertainty(views) for weight, views in seen if weight > 0]
        return limit is not None and any(u is not None and u > limit for u in found)

    def depth(self, seen: Seen) -> int:
        """Return how many candidates to rerank: `DEPTH`, twice as many for an ambiguous query."""
        return DEPTH * (2 if self.ambiguous(seen) else 1)

    def look_at(self, item: Any) -> Seen:
        """Look at a query as rerankers do; see `views_of`."""
        return views_of(self.model, item)

    def ask(self, item: Any, max_terms: int = 64) -> tuple[Asked, Seen]:
        """Turn a query into words for the first stage and views for this one, in one pass.

        Parameters
        ----------
        item, max_terms
            As for `Index.search`.
        """
        model: Any = _OnePass(self.model)
        return ask(item, lambda: model, max_terms), views_of(model, item)

    def likeness(self, name: str, seen: Seen, ids: Sequence[str]) -> NDArray[np.float32]:
        """Score candidates, float32 [K]; what is subtracted from a query counts against them."""
        return self.reranker(name).score_sum(seen, ids)

    def rerank(
        self, hits: Sequence[Hit], seen: Seen, name: str, share: float | None = None
    ) -> list[RerankedHit]:
        """Reorder hits by both stages.

        Parameters
        ----------
        hits : sequence of Hit
            What the first stage found.
        seen : sequence of (float, Views)
            The query, of `ask` or `look_at`.
        name : str
        share : float, optional
            Of the reranker's score, 0..1; the tuned one by default.
        """
        ids = [hit.id for hit in hits]
        likeness = self.likeness(name, seen, ids)
        words = [hit.score for hit in hits]
        both = fuse(words, likeness, self.share(name) if share is None else share)
        vague: list[float | None] = [None] * len(ids)
        if self.store.gaussian_size:
            found = self.store.gaussians(ids)
            spread = gaussian.uncertainty(torch.from_numpy(found.log_variance)).tolist()
            vague = [u if held else None for u, held in zip(spread, found.held, strict=True)]
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

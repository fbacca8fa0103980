"""Rerankers: what the second stage says of the first one's candidates.

Each compares the views of one query (`lexlip.views`) with those of candidates that a forward store
holds, and gives a number each, higher for better. A candidate that the store does not hold, or that
has no token, gets the lowest score that another one got: it loses, and nothing is NaN.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lexlip.errors import LexLIPError
from lexlip.forward import ForwardStore
from lexlip.rerank import gaussian
from lexlip.rerank.kernel import late_scores
from lexlip.rerank.late import late_interaction
from lexlip.rerank.naaf import naaf, scan
from lexlip.views import Views

if TYPE_CHECKING:
    from lexlip.model import LexLIP


class Reranker(ABC):
    """Scores of candidates for a query.

    Parameters
    ----------
    store : ForwardStore
        Views of the documents.

    Raises
    ------
    LexLIPError
        When the store keeps nothing that this reranker compares.
    """

    needs: ClassVar[Literal["tokens", "gaussians"]]

    def __init__(self, store: ForwardStore) -> None:
        kept = store.token_size if self.needs == "tokens" else store.gaussian_size
        if len(store) and not kept:
            raise LexLIPError(
                f"this index keeps no {self.needs}: train that head (make pretrain-heads) and "
                "build the index again"
            )
        self.store = store

    def score(self, query: Views, ids: Sequence[str]) -> NDArray[np.float32]:
        """Score candidates.

        Parameters
        ----------
        query : Views
            Of one text or picture.
        ids : sequence of str
            K candidates.

        Returns
        -------
        float32 [K]
            Finite, higher for better. All equal where the query has no token.
        """
        if not ids:
            return np.zeros(0, np.float32)
        scores, known = self._scores(query, ids)
        lowest = scores[known].min() if known.any() else np.float32(0)
        return np.where(known, scores, lowest).astype(np.float32)

    @abstractmethod
    def _scores(
        self, query: Views, ids: Sequence[str]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Scores, and whose are real."""


class Filip(Reranker):
    """Late interaction: each word's best patch ("t2i"), each patch's best word ("i2t"), or both.

    The means of Yao et al. (FILIP, ICLR 2022), between -1 and 1. The query's tokens are the words,
    whatever they come from.
    """

    needs = "tokens"

    def __init__(self, store: ForwardStore, mode: str = "t2i") -> None:
        super().__init__(store)
        self.mode = mode

    def _scores(
        self, query: Views, ids: Sequence[str]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        words = query.tokens[0, : query.counts[0]]
        if self.store.codec == "float16":  # the reference: nothing is rounded to eight bits
            views, asked = self.store.read(ids), torch.from_numpy(words[None])
            there = torch.ones(asked.shape[:2], dtype=torch.bool)
            both = late_interaction(torch.from_numpy(views.tokens), _mask(views), asked, there)
            i2t, t2i = (scores[:, 0].numpy() for scores in both)
            counts = views.counts
        else:
            found = self.store.gather(ids)
            t2i, i2t = late_scores(found.codes, found.scales, found.counts, words)
            counts = found.counts
        return {"t2i": t2i, "i2t": i2t, "avg": (t2i + i2t) / 2}[self.mode], counts > 0


class Attention(Reranker):
    """NAAF (Zhang et al., CVPR 2022): words that match add, words that are missing subtract.

    SCAN (Lee et al., ECCV 2018) is its baseline, without the negative branch.

    Parameters
    ----------
    store : ForwardStore
    threshold : float, optional
        Cosine under which a word counts as missing from a picture; it comes with the checkpoint.
        None scores as SCAN does.
    """

    needs = "tokens"

    def __init__(self, store: ForwardStore, threshold: float | None = None) -> None:
        super().__init__(store)
        self.threshold = threshold

    def _scores(
        self, query: Views, ids: Sequence[str]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        views = self.store.read(ids)
        width = max(1, int(query.counts[0]))
        patches, here = torch.from_numpy(views.tokens), _mask(views)
        words, there = torch.from_numpy(query.tokens[:, :width]), _mask(query)[:, :width]
        if self.threshold is None:
            scores = scan(patches, here, words, there)
        else:
            scores = naaf(patches, here, words, there, self.threshold, propagate=True)
        return scores[:, 0].numpy(), views.counts > 0


Likeness = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""Means and log-variances of K documents and of a query, [N, D] each, to a likeness [K, 1]."""


class Pcme(Reranker):
    """Likeness of two Gaussians (PCME, Chun et al., CVPR 2021, and PCME++, ICLR 2024)."""

    needs = "gaussians"

    def __init__(self, store: ForwardStore, likeness: Likeness | None = None) -> None:
        super().__init__(store)
        self.likeness = likeness

    def _scores(
        self, query: Views, ids: Sequence[str]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        mean, log_variance, total = self.store.gaussians(ids)
        if self.likeness is None:  # -CSD as one product; the query's own variance moves no rank
            scores = 2 * (mean @ query.mean[0]) - total
        else:
            given = map(torch.from_numpy, (mean, log_variance, query.mean, query.log_variance))
            scores = self.likeness(*given)[:, 0].numpy()
        return scores, self.store.held(ids)


def _mask(views: Views) -> Tensor:
    return torch.from_numpy(np.arange(views.tokens.shape[1]) < views.counts[:, None])


def _near(distance: Likeness) -> Likeness:
    """Turn a distance into a likeness."""
    return lambda *given: -distance(*given)


LIKENESSES: dict[str, Likeness | None] = {
    "csd": None,
    "mu": lambda mean, _, other, __: mean @ other.T,
    "w2": _near(gaussian.squared_wasserstein),
    "elk": gaussian.log_elk,
    "bhattacharyya": _near(gaussian.bhattacharyya),
    "jeffreys": _near(gaussian.jeffreys),
    "hellinger": _near(gaussian.squared_hellinger),
}

RERANKERS = ("filip", "filip-i2t", "filip-avg", "naaf", "scan", *LIKENESSES, "mc")
"""Names for `open_reranker`."""


def open_reranker(name: str, store: ForwardStore, model: LexLIP) -> Reranker:
    """Return a reranker by name.

    Parameters
    ----------
    name : str
        One of `RERANKERS`.
    store : ForwardStore
    model : LexLIP
        Whose heads made the views: NAAF's threshold and the scale of a match are theirs.

    Raises
    ------
    LexLIPError
        Unknown name, or a store or model without what it needs.
    """
    if name not in RERANKERS:
        raise LexLIPError(f"no reranker {name!r}: choose one of {', '.join(RERANKERS)}")
    if name in ("filip", "filip-i2t", "filip-avg"):
        return Filip(store, "t2i" if name == "filip" else name.removeprefix("filip-"))
    if name == "scan":
        return Attention(store)
    if name == "naaf":
        if model.config.naaf_threshold is None:
            raise LexLIPError("this model was trained without NAAF: choose another reranker")
        return Attention(store, model.config.naaf_threshold)
    if name == "mc":
        heads = model.heads
        assert heads is not None, "views are made by a model with heads"
        scale, shift = float(heads.sample_scale), float(heads.sample_shift)
        return Pcme(store, lambda a, b, c, d: gaussian.match_probability(a, b, c, d, scale, shift))
    return Pcme(store, LIKENESSES[name])

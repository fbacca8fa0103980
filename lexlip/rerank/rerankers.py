"""Rerankers: what the second stage says of the first one's candidates.

Each compares the views of a query (`lexlip.views`) with those of candidates that a forward store
holds, and gives a number each, higher for better. A candidate that cannot be compared (the store
does not hold it, it has no token, the numbers overflow) gets the lowest score that another one got:
it loses, and nothing is NaN.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lexlip.errors import LexLIPError
from lexlip.rerank import gaussian
from lexlip.rerank.kernel import late_scores
from lexlip.rerank.late import late_interaction
from lexlip.rerank.naaf import naaf, scan
from lexlip.storage.forward import ForwardStore, Gathered, Spread
from lexlip.views import Views

if TYPE_CHECKING:
    from lexlip.models.lexlip import LexLIP

Mode = Literal["t2i", "i2t", "avg"]


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
        return self.score_sum([(1.0, query)], ids)

    def score_sum(
        self, parts: Sequence[tuple[float, Views]], ids: Sequence[str]
    ) -> NDArray[np.float32]:
        """Score candidates for a sum of texts and pictures, each with its weight; see `score`."""
        total = np.zeros(len(ids), np.float32)
        if not ids:
            return total
        candidates, known = self._find(ids)
        with np.errstate(over="ignore", invalid="ignore"):
            for weight, query in parts:
                total += np.float32(weight) * self._compare(query, candidates)
        known &= np.isfinite(total)
        total[~known] = total[known].min() if known.any() else 0
        return total

    @abstractmethod
    def _find(self, ids: Sequence[str]) -> tuple[Any, NDArray[np.bool_]]:
        """Read what the store holds of candidates, and say of which that is enough."""

    @abstractmethod
    def _compare(self, query: Views, candidates: Any) -> NDArray[np.float32]:
        """Score all of them; what the others get means nothing."""


class Filip(Reranker):
    """Late interaction: each word's best patch ("t2i"), each patch's best word ("i2t"), or both.

    The means of Yao et al. (FILIP, ICLR 2022), between -1 and 1. The query's tokens are the words,
    whatever they come from.
    """

    needs = "tokens"

    def __init__(self, store: ForwardStore, mode: Mode = "t2i") -> None:
        super().__init__(store)
        if mode not in get_args(Mode):
            raise LexLIPError(f"no mode {mode!r}: use t2i, i2t or avg")
        self.mode = mode

    def _find(self, ids: Sequence[str]) -> tuple[Views | Gathered, NDArray[np.bool_]]:
        # Of float16, the reference, nothing is rounded to eight bits.
        found = (self.store.read if self.store.codec == "float16" else self.store.gather)(ids)
        return found, found.counts > 0

    def _compare(self, query: Views, candidates: Views | Gathered) -> NDArray[np.float32]:
        words = query.tokens[:, : query.counts[0]]
        if isinstance(candidates, Gathered):
            codes, scales, counts = candidates.codes, candidates.scales, candidates.counts
            t2i, i2t = late_scores(codes, scales, counts, words[0])
        else:
            there = torch.ones(words.shape[:2], dtype=torch.bool)
            both = late_interaction(*_tokens(candidates), torch.from_numpy(words), there)
            i2t, t2i = (scores[:, 0].numpy() for scores in both)
        if self.mode == "avg":
            return (t2i + i2t) * np.float32(0.5)
        return t2i if self.mode == "t2i" else i2t


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

    def _find(self, ids: Sequence[str]) -> tuple[Views, NDArray[np.bool_]]:
        found = self.store.read(ids)
        return found, found.counts > 0

    def _compare(self, query: Views, candidates: Views) -> NDArray[np.float32]:
        width = max(1, int(query.counts[0]))
        words, there = (each[:, :width] for each in _tokens(query))
        patches, here = _tokens(candidates)
        if self.threshold is None:
            scores = scan(patches, here, words, there)
        else:
            scores = naaf(patches, here, words, there, self.threshold, propagate=True)
        return scores[:, 0].numpy()


Likeness = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""Means and log-variances of K documents and of a query, [N, D] each, to a likeness [K, 1]."""


class Pcme(Reranker):
    """Likeness of two Gaussians (PCME, Chun et al., CVPR 2021, and PCME++, ICLR 2024)."""

    needs = "gaussians"

    def __init__(self, store: ForwardStore, likeness: Likeness | None = None) -> None:
        super().__init__(store)
        self.likeness = likeness

    def _find(self, ids: Sequence[str]) -> tuple[Spread, NDArray[np.bool_]]:
        found = self.store.gaussians(ids)
        return found, found.held

    def _compare(self, query: Views, candidates: Spread) -> NDArray[np.float32]:
        mean = _widened(candidates.mean)
        if self.likeness is None:  # -CSD as one product; the query's own variance moves no rank
            return 2 * (mean.numpy() @ query.mean[0]) - candidates.total_variance
        other = map(torch.from_numpy, (query.mean, query.log_variance))
        return self.likeness(mean, _widened(candidates.log_variance), *other)[:, 0].numpy()


def _tokens(views: Views) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(views.tokens), torch.from_numpy(views.mask)


def _widened(halves: NDArray[np.float16]) -> Tensor:
    return torch.from_numpy(halves).float()  # numpy takes ten times as long


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

MODES: dict[str, Mode] = {"filip": "t2i", "filip-i2t": "i2t", "filip-avg": "avg"}

RERANKERS = (*MODES, "naaf", "scan", *LIKENESSES, "mc")
"""Names for `open_reranker` and ``Index.search(rerank=...)``."""


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
    if getattr(model, "heads", None) is None:  # also of a query table
        raise LexLIPError("no heads to rerank with: use the model that the index was built by")
    if name in MODES:
        return Filip(store, MODES[name])
    if name == "scan":
        return Attention(store)
    if name == "naaf":
        if model.config.naaf_threshold is None:
            raise LexLIPError("this model was trained without NAAF: choose another reranker")
        return Attention(store, model.config.naaf_threshold)
    if name == "mc":
        heads: Any = model.heads
        scale, shift = heads.sample_scale.item(), heads.sample_shift.item()
        return Pcme(store, lambda a, b, c, d: gaussian.match_probability(a, b, c, d, scale, shift))
    return Pcme(store, LIKENESSES[name])

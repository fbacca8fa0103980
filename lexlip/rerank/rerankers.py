"""Rerankers: scores of the first stage's candidates from the views of both sides.

Each compares the views of a query (`lexlip.storage.views`) with those of candidates that a forward
store holds, and gives a number each, higher for better. A candidate that cannot be compared (the
store does not hold it, it has no token, the numbers overflow) gets the lowest score of the others:
it loses, and nothing is NaN.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lexlip.errors import LexLIPError, require
from lexlip.models.speaker import HasViews, Speaker, require_views
from lexlip.rerank.kernel import late_scores, widened
from lexlip.storage.forward import ForwardStore, Gathered, Spread
from lexlip.storage.views import Views

Mode = Literal["t2i", "i2t", "avg"]


def _formulas() -> Any:
    """Return the formulas of `lexlip.models.scores.arrays`, which need torch."""
    require("torch")
    from lexlip.models.scores import arrays

    return arrays


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
                f"this index keeps no {self.needs}: train that head (training needs a clone of "
                "lexlip) and build the index again"
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
    of a text or of a picture.
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
            i2t, t2i = _formulas().late(candidates, words)
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
        return _formulas().attention(query, candidates, self.threshold)


class Pcme(Reranker):
    """Likeness of two Gaussians (PCME, Chun et al., CVPR 2021, and PCME++, ICLR 2024)."""

    needs = "gaussians"

    def __init__(
        self, store: ForwardStore, likeness: str = "csd", curve: tuple[float, float] | None = None
    ) -> None:
        super().__init__(store)
        self.likeness, self.curve = likeness, curve

    def _find(self, ids: Sequence[str]) -> tuple[Spread, NDArray[np.bool_]]:
        found = self.store.gaussians(ids)
        return found, found.held

    def _compare(self, query: Views, candidates: Spread) -> NDArray[np.float32]:
        if self.likeness == "csd":  # as one product; the query's own variance moves no rank
            return 2 * (widened(candidates.mean) @ query.mean[0]) - candidates.total_variance
        spread = candidates.mean, candidates.log_variance
        return _formulas().likeness(self.likeness, *spread, query, self.curve)


Likeness = Literal["csd", "mu", "w2", "elk", "bhattacharyya", "jeffreys", "hellinger"]
LIKENESSES: tuple[str, ...] = get_args(Likeness)
"""Ways to compare Gaussians by their means and variances alone."""

MODES: dict[str, Mode] = {"filip": "t2i", "filip-i2t": "i2t", "filip-avg": "avg"}

RerankerName = Literal["filip", "filip-i2t", "filip-avg", "naaf", "scan", Likeness, "mc"]
RERANKERS: tuple[str, ...] = get_args(RerankerName)
"""Names for `open_reranker` and ``Index.search(rerank=...)``."""


def check_name(name: str) -> None:
    """Raise a LexLIPError for a name that is not one of `RERANKERS`."""
    if name not in RERANKERS:
        raise LexLIPError(f"no reranker {name!r:.60}: choose one of {', '.join(RERANKERS)}")


def open_reranker(name: str, store: ForwardStore, speaker: Speaker | HasViews) -> Reranker:
    """Return a reranker by name.

    Parameters
    ----------
    name : str
        One of `RERANKERS`.
    store : ForwardStore
    speaker : Speaker
        The model whose heads made the views: NAAF's threshold and the scale of a match are theirs.

    Raises
    ------
    LexLIPError
        Unknown name, or a store or model without what it needs.
    """
    check_name(name)
    model = require_views(speaker)
    if name in MODES:
        return Filip(store, MODES[name])
    if name == "scan":
        return Attention(store)
    if name == "naaf":
        if model.naaf_threshold is None:
            raise LexLIPError("this model was trained without NAAF: choose another reranker")
        return Attention(store, model.naaf_threshold)
    return Pcme(store, name, model.match_curve() if name == "mc" else None)

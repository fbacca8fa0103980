"""Learned word codes: a head that distillation trained, in numpy.

``log(1 + relu(W x + b))`` for documents and queries alike, as in D2S (Nguyen et al., ECIR 2024), so
that a query has few words, all of them positive. ``python -m pretrain.distil`` trains one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from lexlip.impacts import top_terms, unit_normalise
from lexlip.models.lexical.code import BATCH, Array, WordCode


@dataclass(frozen=True, eq=False)
class LearnedCode(WordCode):
    """A word code whose weights a head gives.

    Attributes
    ----------
    rows : float32 [V, d]
        W.
    bias : float32 [V]
        b.
    """

    rows: Array
    bias: Array

    def encode(self, centred: Array, terms: int = 64) -> csr_array:
        """Code documents: unit rows of the heaviest words, float32 [N, V]."""
        parts = [
            self.project(centred[start : start + BATCH]) for start in range(0, len(centred), BATCH)
        ]
        weights = csr_array(np.concatenate([np.zeros((0, len(self)), np.float32), *parts]))
        return unit_normalise(top_terms(weights, terms))

    def project(self, centred: Array) -> Array:
        """Return the weights of queries, none negative, float32 [..., V]."""
        return np.log1p(np.maximum(centred @ self.rows.T + self.bias, 0))

    def choose(self, projections: Array, count: int) -> np.ndarray:
        """Return the numbers of the `count` heaviest words, heaviest first."""
        best = np.argsort(-projections, kind="stable")[:count]
        return best[projections[best] > 0]

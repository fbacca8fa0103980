"""Views of the second stage: tokens of pictures and texts for late interaction, and Gaussians.

`Vectors` are dense vectors of documents, which order what the words found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_GAUSSIAN = ("mean", "log_variance")


@dataclass(frozen=True)
class Views:
    """Dense views of N pictures or N texts.

    A model without a token head gives tokens of width 0, one without a Gaussian head Gaussians of
    width 0; N is the same in all four.

    Attributes
    ----------
    tokens : float32 [N, P, d]
        Unit vectors of patches or words, an item's own ones first, zeros after them.
    counts : int32 [N]
        How many tokens each item has, 0..P.
    mean : float32 [N, D]
        Unit vectors: the place of each item.
    log_variance : float32 [N, D]
        Natural logarithm of the variance in each direction.

    Examples
    --------
    >>> views = Views.empty(2)
    >>> len(views), views.has_tokens, views.has_gaussians
    (2, False, False)
    """

    tokens: NDArray[np.float32]
    counts: NDArray[np.int32]
    mean: NDArray[np.float32]
    log_variance: NDArray[np.float32]

    def __post_init__(self) -> None:
        lengths = {len(a) for a in (self.tokens, self.counts, self.mean, self.log_variance)}
        if len(lengths) != 1 or self.tokens.ndim != 3 or self.mean.shape != self.log_variance.shape:
            raise ValueError("tokens [N, P, d], counts [N], and twice [N, D] are needed")

    @classmethod
    def empty(cls, count: int) -> Views:
        """`count` items of which nothing is known."""
        nothing = np.zeros((count, 0), np.float32)
        return cls(np.zeros((count, 0, 0), np.float32), np.zeros(count, np.int32), nothing, nothing)

    @classmethod
    def concatenate(cls, parts: Sequence[Views]) -> Views:
        """Join the views of several batches; shorter ones are filled up with zeros."""
        width = max(part.tokens.shape[1] for part in parts)
        tokens = [np.pad(p.tokens, ((0, 0), (0, width - p.tokens.shape[1]), (0, 0))) for p in parts]
        others = ([getattr(part, name) for part in parts] for name in ("counts", *_GAUSSIAN))
        return cls(np.concatenate(tokens), *map(np.concatenate, others))

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """True at an item's own tokens, bool [N, P]."""
        return np.arange(self.tokens.shape[1]) < self.counts[:, None]

    @property
    def has_tokens(self) -> bool:
        """Whether there is something for late interaction."""
        return self.tokens.shape[2] > 0

    @property
    def has_gaussians(self) -> bool:
        """Whether there are means and variances."""
        return self.mean.shape[1] > 0

    @property
    def uncertainty(self) -> NDArray[np.float32]:
        """Mean log standard deviation of each item's Gaussian, float32 [N]; NaN without one.

        The larger, the vaguer (PCME, Chun et al., CVPR 2021).
        """
        if not self.has_gaussians:
            return np.full(len(self), np.nan, np.float32)
        return self.log_variance.mean(1) / 2

    def take(self, rows: NDArray | list[int] | slice) -> Views:
        """Return the views of these items."""
        return Views(self.tokens[rows], self.counts[rows], self.mean[rows], self.log_variance[rows])


@dataclass(frozen=True)
class Vectors:
    """Dense vectors of N documents, and the numbers that make their scores comparable.

    The score of a query ``q`` and a document ``x``, both of unit length, is ``q.x - constant``.

    Attributes
    ----------
    vectors : float32 [N, d]
        Of unit length, centred on the mean of their kind.
    constant : float32 [N]
        How much queries in general like the document; 0 where nothing is known of queries.
    word_mean, word_spread : float32 [N]
        Mean and standard deviation of the document's cosines with the words of the lexicon.

    Examples
    --------
    >>> vectors = Vectors.empty(3)
    >>> len(vectors), vectors.width
    (0, 3)
    """

    vectors: NDArray[np.float32]
    constant: NDArray[np.float32]
    word_mean: NDArray[np.float32]
    word_spread: NDArray[np.float32]

    def __post_init__(self) -> None:
        marks = (self.constant, self.word_mean, self.word_spread)
        if self.vectors.ndim != 2 or any(a.shape != self.vectors.shape[:1] for a in marks):
            raise ValueError("vectors [N, d] and three times [N] are needed")

    @classmethod
    def empty(cls, width: int) -> Vectors:
        """Vectors of no document."""
        nothing = np.zeros(0, np.float32)
        return cls(np.zeros((0, width), np.float32), nothing, nothing, nothing)

    @classmethod
    def concatenate(cls, parts: Sequence[Vectors]) -> Vectors:
        """Join the vectors of several batches."""
        names = ("vectors", "constant", "word_mean", "word_spread")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def width(self) -> int:
        """Numbers per vector, d."""
        return self.vectors.shape[1]

    def take(self, rows: NDArray | list[int] | slice) -> Vectors:
        """Return the vectors of these documents."""
        return Vectors(
            self.vectors[rows], self.constant[rows], self.word_mean[rows], self.word_spread[rows]
        )

"""Places of words: which patch of a picture, or which word of a text, a weight comes from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, as shares of a picture's width and height."""

WHOLE: Box = (0.0, 0.0, 1.0, 1.0)


def cell(
    size: tuple[int, int], grid: tuple[int, int], patch: int, box: Box = WHOLE
) -> tuple[int, int, int, int]:
    """Return the place of a patch on a picture, in pixels: left, top, right, bottom.

    Parameters
    ----------
    size : (int, int)
        Width and height of the picture.
    grid : (int, int)
        Rows and columns of patches.
    patch : int
        Number, row by row from 0.
    box : Box
        The part of the picture that the patches cover (`Provenance.box`).

    Examples
    --------
    >>> cell((80, 40), (4, 4), 5)
    (20, 10, 40, 20)
    >>> cell((80, 40), (4, 4), 5, (0.25, 0.0, 0.75, 1.0))
    (30, 10, 40, 20)
    """
    (rows, columns), (row, column) = grid, divmod(patch, grid[1])
    left, top, right, bottom = box

    def place(side: int, first: float, last: float, share: float) -> int:
        return round(side * (first + (last - first) * share))

    return (
        place(size[0], left, right, column / columns),
        place(size[1], top, bottom, row / rows),
        place(size[0], left, right, (column + 1) / columns),
        place(size[1], top, bottom, (row + 1) / rows),
    )


@dataclass(frozen=True)
class Provenance:
    """The patches of a picture that some words come from.

    Attributes
    ----------
    grid : (int, int)
        Rows and columns of patches.
    patches : dict of int to int
        Term id -> the patch that won its maximum, numbered row by row from 0; -1 for a word that
        the picture does not have.
    heat : dict of int to float32 [rows, columns]
        Term id -> the weight that each patch alone gives the word: log(1 + relu(logit)). The
        largest is the word's weight in `LexLIP.encode_image`. With crops, the largest over all
        crops that have a patch there: the weight is the mean of their maxima.
    box : Box
        What the model sees of the upright picture: the patches cover that part. (0, 0, 1, 1)
        unless the preprocessor crops.
    """

    grid: tuple[int, int]
    patches: dict[int, int]
    heat: dict[int, NDArray[np.float32]]
    box: Box = WHOLE

    def shares(self, scores: Mapping[int, int]) -> NDArray[np.int64]:
        """Add up the scores of the words that each patch won.

        Parameters
        ----------
        scores : mapping
            Term id -> what it adds to a score (`Contribution.score`).

        Returns
        -------
        int64 [rows, columns]
            Their sum is that of the scores, less those of words that the picture does not have.

        Examples
        --------
        >>> found = Provenance((1, 2), {7: 1, 8: 1, 9: -1}, {})
        >>> found.shares({7: 300, 8: -20, 9: -5}).tolist()
        [[0, 280]]
        """
        shares = np.zeros(self.grid, np.int64)
        for term, score in scores.items():
            if self.patches[term] >= 0:
                shares.flat[self.patches[term]] += score
        return shares


class Raised(NamedTuple):
    """The origin of a text's weight for one term: log(1 + logit + boost).

    Attributes
    ----------
    word : int
        Number of the word of the text that raised the term: the one that won the maximum, or the
        term's own word where that adds more. -1 for a term that the text does not have.
    logit : float
        Logit of the winner of the maximum, 0 or more.
    boost : float
        Added because the text contains the word itself, 0 or more.
    """

    word: int
    logit: float
    boost: float

    @property
    def weight(self) -> float:
        """The term's weight in `LexLIP.encode_text`."""
        return math.log1p(self.logit + self.boost)


@dataclass(frozen=True)
class TextProvenance:
    """The words of a text that raised some terms.

    Attributes
    ----------
    words : tuple of str
        Whole words as written in the text; as many as the model reads.
    raised : dict of int to Raised
        By term id.
    """

    words: tuple[str, ...]
    raised: dict[int, Raised]

    def by_word(self) -> list[tuple[str, dict[int, float]]]:
        """Each word of the text with the {term id: weight} that it raised, heaviest first.

        Examples
        --------
        >>> found = TextProvenance(("a", "cat"), {7: Raised(1, 0.5, 0.0), 9: Raised(1, 1.0, 2.0)})
        >>> [(word, list(terms)) for word, terms in found.by_word()]
        [('a', []), ('cat', [9, 7])]
        """
        found: list[dict[int, float]] = [{} for _ in self.words]
        for term, it in sorted(self.raised.items(), key=lambda pair: (-pair[1].weight, pair[0])):
            if it.word >= 0:
                found[it.word][term] = it.weight
        return list(zip(self.words, found, strict=True))


@dataclass(frozen=True)
class WordPatches:
    """The word of a text that each patch of a picture matches best.

    Attributes
    ----------
    words : tuple of str
        Word pieces, in the order of the text.
    patches : int64 [rows, columns]
        Number of the word that each patch matches best; -1 for a text without words.
    cosines : float32 [rows, columns]
        Cosine of the patch and that word.
    box : Box
        As of `Provenance`.
    """

    words: tuple[str, ...]
    patches: NDArray[np.int64]
    cosines: NDArray[np.float32]
    box: Box = WHOLE

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.patches.shape[0], self.patches.shape[1]

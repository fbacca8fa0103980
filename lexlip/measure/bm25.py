"""BM25, Lucene's formula: documents that share words with a text, rare words counting more."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexlip.errors import require
from lexlip.lexicon import STOP_WORDS, split_words


class BM25:
    """An index in memory over documents that are lists of words, such as `tokens` returns.

    Parameters
    ----------
    documents : sequence of sequence of str
        The words of N documents.
    k1, b : float
        Term saturation and length normalisation, the usual ones of short passages.

    Attributes
    ----------
    postings : int
        Pairs of a document and a word that it has.
    bytes : int
        Size of the index.

    Examples
    --------
    >>> index = BM25([["red", "star"], ["blue", "star"]])
    >>> print(index.scores(["blue"]).round(2), index.postings)
    [-inf 0.36] 4
    """

    def __init__(self, documents: Sequence[Sequence[str]], k1: float = 0.9, b: float = 0.4) -> None:
        require("bm25s")
        import bm25s

        self._count = len(documents)
        self._vocabulary = {word for document in documents for word in document}
        self._index: Any = bm25s.BM25(k1=k1, b=b, method="lucene")
        self.postings = sum(len(set(document)) for document in documents)
        self.bytes = 0
        if self._vocabulary:
            self._index.index(documents, show_progress=False)
            parts = [self._index.scores[part] for part in ("data", "indices", "indptr")]
            self.bytes = sum(part.nbytes for part in parts)

    def scores(self, words: Sequence[str]) -> NDArray[np.float32]:
        """Return the score of each document, float32 [N]; -inf where it has none of the words."""
        known = [word for word in words if word in self._vocabulary]
        if not known:
            return np.full(self._count, -np.inf, np.float32)
        scores = self._index.get_scores(known)
        return np.where(scores > 0, scores, -np.inf).astype(np.float32)


def tokens(text: str, stop_words: Collection[str] = STOP_WORDS) -> list[str]:
    """Return the words of a text, lower-case, without stop words.

    Examples
    --------
    >>> tokens("A dog is on the beach .")
    ['dog', 'beach']
    """
    return [word for word in split_words(text) if word not in stop_words]

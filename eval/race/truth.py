"""Ground truth by scipy and numpy alone, and the recall of an engine's answers against it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from eval.race.base import Vectors
from lexlip.errors import LexLIPError

if TYPE_CHECKING:
    from eval.race.base import Contender

DEPTH = 10  # recall is counted at 10
_DENSE_ERROR = 1e-4  # of an inner product of unit vectors summed in float32
_ROWS = 65_536


class Truth:
    """The best documents of the first `count` queries, by brute force.

    Parameters
    ----------
    vectors
        The documents and queries.
    kind
        ``sparse`` or ``dense``.
    k
        Number of documents wanted.
    count
        Number of queries.

    Attributes
    ----------
    best : list of (documents, scores)
        For each query, by score descending then document ascending; a document that shares no
        term with a sparse query is left out.
    """

    def __init__(self, vectors: Vectors, kind: str, k: int, count: int) -> None:
        self.kind, self.k = kind, k
        if kind == "sparse":
            width = int(vectors.array("width"))
            self._documents: Any = _matrix(vectors, "", width)
            asked = _matrix(vectors, "q_", width)[:count]
            by_term = self._documents.T.tocsr()
            self._asked: Any = asked
            self.best = [_top_sparse(asked[[i]] @ by_term, k) for i in range(asked.shape[0])]
        else:
            self._documents = vectors.array("documents")
            self._asked = np.array(vectors.array("queries")[:count])
            self.best = _top_dense(self._documents, self._asked, k)

    def scores(self, query: int, documents: Sequence[int]) -> NDArray[Any]:
        """Return the true scores of some documents."""
        rows = np.asarray(documents, dtype=np.int64)
        if self.kind == "sparse":
            return (self._documents[rows] @ self._asked[[query]].T).toarray()[:, 0]
        return np.array(self._documents[rows], np.float64) @ self._asked[query].astype(np.float64)

    def recall(self, found: Sequence[Sequence[int]]) -> float:
        """Return the share of the best 10 that was found; of ties any one counts."""
        hits, wanted = 0, 0
        for query, documents in enumerate(found):
            scores = self.best[query][1][:DEPTH]
            wanted += len(scores)
            if len(scores) and len(documents):
                some = list(dict.fromkeys(documents))[:DEPTH]
                least = scores[-1] - (_DENSE_ERROR if self.kind == "dense" else 0)
                hits += min(len(scores), int((self.scores(query, some) >= least).sum()))
        return hits / wanted if wanted else 1.0

    def check(
        self,
        engine: type[Contender],
        found: Sequence[Sequence[int]],
        scores: Sequence[Sequence[float]],
    ) -> None:
        """Refuse an exact engine with wrong answers.

        Raises
        ------
        LexLIPError
            Naming the first query that differs.
        """
        for query, (documents, values) in enumerate(zip(found, scores, strict=True)):
            best, right = self.best[query]
            error = _DENSE_ERROR if self.kind == "dense" else 0
            same = len(values) == len(right) and bool(np.all(np.abs(values - right) <= error))
            # Scores must be those of their documents, and no document may appear twice.
            same = same and len(set(documents)) == len(documents)
            same = same and bool(np.all(np.abs(self.scores(query, documents) - values) <= error))
            if engine.ordered:
                same = same and list(documents) == best.tolist()
            if not same:
                raise LexLIPError(
                    f"{engine.name} is not exact, so it is not timed: query {query} gives "
                    f"{list(zip(documents, values, strict=False))[:3]}..., brute force "
                    f"{list(zip(best.tolist(), right.tolist(), strict=True))[:3]}..."
                )


def _matrix(vectors: Vectors, prefix: str, width: int) -> csr_array:
    ends, terms, values = vectors.csr(prefix)
    return csr_array((np.array(values, np.int64), terms, ends), shape=(len(ends) - 1, width))


def _top_sparse(row: csr_array, k: int) -> tuple[NDArray[Any], NDArray[Any]]:
    order = np.lexsort((row.indices, -row.data))[:k]
    return row.indices[order].astype(np.int64), row.data[order]


def _top_dense(
    documents: NDArray[Any], queries: NDArray[Any], k: int
) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Choose generously in float32, then score and order in float64."""
    many = min(4 * k, len(documents))
    places: list[NDArray[Any]] = []
    values: list[NDArray[Any]] = []
    for start in range(0, len(documents), _ROWS):
        scores = queries @ np.array(documents[start : start + _ROWS]).T
        take = min(many, scores.shape[1])
        part = np.argpartition(-scores, take - 1, axis=1)[:, :take]
        places.append(part + start)
        values.append(np.take_along_axis(scores, part, axis=1))
    found, rough = np.concatenate(places, axis=1), np.concatenate(values, axis=1)
    order = np.argsort(-rough, axis=1)[:, :many]
    result = []
    for query, chosen in zip(queries, np.take_along_axis(found, order, axis=1), strict=True):
        exact = np.array(documents[chosen], np.float64) @ query.astype(np.float64)
        best = np.lexsort((chosen, -exact))[:k]
        result.append((chosen[best], exact[best]))
    return result


def touched_bytes(vectors: Vectors, kind: str) -> float:
    """Return the mean number of bytes that an exact search has to read for one query.

    Sparse: for every query term its postings at three bytes each (a document number within a
    block, an impact), or one byte a document where that is less. Dense: every vector.
    """
    if kind == "dense":
        return float(vectors.array("documents").nbytes)
    ends, terms, _ = vectors.csr()
    frequency = np.bincount(terms, minlength=int(vectors.array("width")))
    cost = np.minimum(3 * frequency, len(ends) - 1)
    asked = vectors.csr("q_")
    return float(cost[asked[1]].sum() / (len(asked[0]) - 1))

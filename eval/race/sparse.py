"""Sparse engines of others in this interpreter: scipy, splade-index, Seismic, BMP."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np

from eval.race.base import Contender, Found, Query, Vectors
from eval.race.ours import impacts

_BLOCK = 64


class SciPy(Contender):
    """Term at a time into one accumulator, with the inner loop of scipy's matrix products."""

    name = "scipy"
    ordered = True
    threads = True
    packages = ("scipy", "numpy")

    def build(self, vectors: Vectors, folder: Path) -> None:
        from scipy.sparse import csc_array

        matrix = csc_array(impacts(vectors))
        arrays = {"indptr": matrix.indptr, "rows": matrix.indices, "impacts": matrix.data}
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array.astype(np.int32), allow_pickle=False)
        np.save(folder / "count.npy", np.int64(matrix.shape[0]), allow_pickle=False)

    def open(self, folder: Path) -> None:
        from scipy.sparse import _sparsetools

        names = ("indptr", "rows", "impacts", "count")
        ends, self._rows, self._impacts, count = (
            np.load(folder / f"{name}.npy", allow_pickle=False) for name in names
        )
        self._ends = ends.tolist()
        self._product = _sparsetools.csc_matvec
        self._count = int(count)
        self._local = threading.local()

    def prepare(self, query: Query) -> Any:
        assert query.terms is not None
        return list(zip(query.terms.tolist(), query.weights[:, None], strict=True))

    def search(self, query: Any, k: int) -> Any:
        scores = getattr(self._local, "scores", None)
        if scores is None:  # whole blocks: rows beyond the last document stay 0
            scores = np.zeros(-(-self._count // _BLOCK) * _BLOCK, dtype=np.int32)
            self._local.scores = scores
        scores.fill(0)
        for term, weight in query:
            start, stop = self._ends[term], self._ends[term + 1]
            span = np.array([0, stop - start], dtype=np.int32)
            rows, values = self._rows[start:stop], self._impacts[start:stop]
            self._product(self._count, 1, span, rows, values, weight, scores)
        # The k-th largest of the blocks' maxima is at most the k-th score.
        blocks = scores.reshape(-1, _BLOCK)
        maxima = blocks.max(axis=1)
        least = 1
        if k < maxima.size:
            least = max(1, int(np.partition(maxima, maxima.size - k)[maxima.size - k]))
        places = np.flatnonzero(maxima >= least)
        near = (places[:, None] * _BLOCK + np.arange(_BLOCK)).ravel()
        near = near[scores[near] >= least]
        near = near[np.argsort(-scores[near], kind="stable")[:k]]
        return near, scores[near]


class SpladeIndex(Contender):
    """splade-index's numba kernel, called behind its encoder and wrapper."""

    name = "splade-index"
    packages = ("splade-index", "numba")

    def load(self) -> None:
        import splade_index  # noqa: F401
        import splade_index.numba.retrieve_utils  # noqa: F401

    def build(self, vectors: Vectors, folder: Path) -> None:
        from scipy.sparse import csc_array

        # Its index() only transposes the encoder's output; these are the arrays.
        matrix = csc_array(impacts(vectors))
        np.save(folder / "indptr.npy", matrix.indptr.astype(np.int32), allow_pickle=False)
        np.save(folder / "indices.npy", matrix.indices.astype(np.int32), allow_pickle=False)
        np.save(folder / "data.npy", matrix.data.astype(np.float32), allow_pickle=False)
        np.save(folder / "count.npy", np.int64(matrix.shape[0]), allow_pickle=False)

    def open(self, folder: Path) -> None:
        names = ("data", "indices", "indptr")
        self._scores = {n: np.load(folder / f"{n}.npy", allow_pickle=False) for n in names}
        self._scores["num_docs"] = int(np.load(folder / "count.npy", allow_pickle=False))

    def prepare(self, query: Query) -> Any:
        return [query.terms], [query.weights.astype(np.float32)]

    def search(self, query: Any, k: int) -> Any:
        from splade_index.numba.retrieve_utils import _retrieve_numba_functional

        return _retrieve_numba_functional(*query, self._scores, k=min(k, self._scores["num_docs"]))

    def read(self, result: Any) -> Found:
        documents, scores = result
        found = scores[0] > 0  # it pads with documents that share no term
        return documents[0][found], scores[0][found]


class Seismic(Contender):
    """Seismic: clustered posting lists behind summaries, approximate."""

    name = "seismic"
    exact = False
    packages = ("pyseismic-lsr",)
    settings = [
        {"query_cut": cut, "heap_factor": factor}
        for cut, factor in (
            *((3, 0.9), (5, 0.9), (5, 0.7), (8, 0.9), (8, 0.7), (10, 0.9), (10, 0.7)),
            *((15, 0.9), (15, 0.7), (25, 0.9), (25, 0.7), (25, 0.5), (25, 0.3)),
        )
    ]

    def load(self) -> None:
        import seismic  # noqa: F401

    def build(self, vectors: Vectors, folder: Path) -> None:
        from seismic import SeismicIndexRaw

        # Its format: a count, then each row's length, terms and values, 4 bytes each.
        collection = folder / "collection.bin"
        with open(collection, "wb") as file:
            file.write(np.uint32(len(vectors.array("indptr")) - 1).tobytes())
            for terms, values in vectors.rows():
                file.write(np.uint32(len(terms)).tobytes())
                file.write(terms.astype(np.uint32).tobytes())
                file.write(values.astype(np.float32).tobytes())
        index = SeismicIndexRaw.build(str(collection))
        collection.unlink()
        index.save(str(folder / "index"))
        np.save(folder / "width.npy", 1 + vectors.array("terms").max(), allow_pickle=False)

    def open(self, folder: Path) -> None:
        from seismic import SeismicIndexRaw

        (path,) = folder.glob("index*")
        self._index = SeismicIndexRaw.load(str(path))
        self._width = int(np.load(folder / "width.npy", allow_pickle=False))

    def prepare(self, query: Query) -> Any:
        assert query.terms is not None
        # It panics on terms beyond those of all documents; query_cut keeps the heaviest.
        known = query.terms < self._width
        return query.terms[known].astype(np.int32), query.weights[known].astype(np.float32)

    def search(self, query: Any, k: int) -> Any:
        cut, factor = self.chosen["query_cut"], self.chosen["heap_factor"]
        return self._index.search(query[0], query[1], k, cut, factor, 0, True)

    def read(self, result: Any) -> Found:
        return [document for _, document in result], [score for score, _ in result]


class BMP(Contender):
    """Block-max pruning in its safe setting; its scores are scaled, so documents are judged."""

    name = "bmp"
    exact = False
    packages = ("bmp",)

    def load(self) -> None:
        import bmp  # noqa: F401

    def build(self, vectors: Vectors, folder: Path) -> None:
        import bmp

        indexer = bmp.Indexer(str(folder / "index.bmp"), bsize=32, compress_range=False)
        for number, (terms, values) in enumerate(vectors.rows()):
            words = map(str, terms.tolist())
            indexer.add_document(str(number), dict(zip(words, values.tolist(), strict=True)))
        indexer.finish()

    def open(self, folder: Path) -> None:
        import bmp

        self._searcher = bmp.Searcher(str(folder / "index.bmp"))

    def prepare(self, query: Query) -> Any:
        return {str(term): float(weight) for term, weight in super().prepare(query).items()}

    def search(self, query: Any, k: int) -> Any:
        return self._searcher.search(query, k=k, alpha=1.0, beta=1.0)

    def read(self, result: Any) -> Found:
        documents, scores = result
        return [int(document) for document in documents], scores

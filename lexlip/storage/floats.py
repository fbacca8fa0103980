"""Float vectors: the document vectors before quantising, with which hits are rescored exactly.

An engine ranks by whole numbers: impacts 1..255, query weights 1..64. This store keeps the exact
vectors by id. They are made durable before the engine commits, so after a kill the two may disagree
about a document; `lexlip.rerank.rescore` notices.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lexlip.errors import LexLIPError
from lexlip.storage.arrays import map_array, save_array
from lexlip.storage.ids import check_ids
from lexlip.storage.part_store import PartStore, Places

_SMALL = 2048
"""Parts up to this many vectors are always merged, as in the postings engine."""

_ARRAYS = ("starts", "terms", "weights")


class _Rows:
    """Sparse vectors one after the other, of a part or on their way into one."""

    def __init__(self, starts: NDArray, terms: NDArray, weights: NDArray) -> None:
        self.starts, self.terms, self.weights = starts, terms, weights
        if not starts[-1] == terms.size == weights.size:
            raise ValueError("terms and weights differ in length")


def _gather(places: Places[_Rows]) -> tuple[NDArray, NDArray, NDArray]:
    """Return starts, terms and weights of the vectors at these places; none is an empty one."""
    starts = np.zeros(len(places) + 1, dtype=np.int64)
    for source, where, rows in places.spans:
        first, last = source.starts[rows], source.starts[rows + 1]
        if first.min() < 0 or (first > last).any() or last.max() > source.terms.size:
            raise ValueError("a vector beyond the last")
        starts[where + 1] = last - first
    starts = np.cumsum(starts)
    terms, weights = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.float32)
    for source, where, rows in places.spans:
        lengths = starts[where + 1] - starts[where]
        # Each vector's numbers: its first place, repeated, and 0, 1, 2, ... from there.
        steps = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        into = np.repeat(starts[where], lengths) + steps
        taken = np.repeat(source.starts[rows], lengths) + steps
        terms[into], weights[into] = source.terms[taken], source.weights[taken]
    return starts, terms, weights


class FloatVectors(PartStore[_Rows]):
    """Sparse float32 vectors by id, in a folder of memory-mapped parts.

    One process may write, any number may read, each seeing one state until `reopen`.

    Parameters
    ----------
    path : path
        The folder.
    mode : {"r", "w"}
        "w" makes the folder if there is none.

    Raises
    ------
    LexLIPError
        The folder is missing (mode "r"), damaged, or open for writing elsewhere (mode "w").

    Examples
    --------
    >>> import tempfile
    >>> vectors = FloatVectors(tempfile.mkdtemp(), "w")
    >>> vectors.write(["b", "a"], csr_array([[0.5, 0.75, 0], [0, 0, 1.0]]))
    >>> vectors.read(["a", "nobody", "b"]).toarray().tolist()
    [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.5, 0.75, 0.0]]
    >>> vectors.close()
    """

    FORMAT = "lexlip-floats-2"

    def __init__(self, path: str | os.PathLike[str], mode: Literal["r", "w"] = "r") -> None:
        super().__init__(path, mode, _SMALL)

    def _open(self, folder: Path, facts: Mapping[str, Any]) -> tuple[_Rows, int]:
        rows = _Rows(*(map_array(folder, name) for name in _ARRAYS))
        return rows, rows.starts.size - 1

    def _save(self, folder: Path, places: Places[_Rows]) -> None:
        starts, terms, weights = _gather(places)
        terms = terms.astype(np.uint16 if terms.max(initial=0) < 2**16 else np.int32)
        for name, array in zip(_ARRAYS, (starts, terms, weights), strict=True):
            save_array(folder, name, array)

    def write(self, ids: Sequence[str], vectors: csr_array) -> None:
        """Store vectors in the place of those with the same ids; durable on return.

        Parameters
        ----------
        ids
            N names.
        vectors
            [N, V], stored as float32.

        Raises
        ------
        LexLIPError
            When the numbers differ, or writing fails, as on a full disk: then all is as it was.
        """
        rows = csr_array(vectors)
        names = [name.encode() for name in check_ids(ids)]
        if len(names) != rows.shape[0]:
            raise LexLIPError(f"{len(names)} ids but {rows.shape[0]} vectors: one row an id")
        width = max(rows.shape[1], self._current().facts.get("width", 0))
        size = int(rows.indptr[-1])
        data = _Rows(rows.indptr, rows.indices[:size], rows.data[:size])
        self._write(names, data, {"width": width})

    def read(self, ids: Sequence[str]) -> csr_array:
        """Return the vectors of N ids, float32 [N, V]; an unknown id has an empty row."""
        snapshot = self._current()
        starts, terms, weights = _gather(snapshot.find(ids))
        if terms.size and not 0 <= terms.min() <= terms.max() < snapshot.facts.get("width", 0):
            raise ValueError("a term beyond the last")  # scipy trusts its numbers
        return csr_array((weights, terms, starts), shape=(len(ids), snapshot.facts.get("width", 0)))

"""The exact engine: postings in memory, no Java. The oracle, and enough for small collections."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.sparse import csc_array, csr_array, vstack

from lexlip.engines.base import Hit, check_documents, check_ids, check_query, closed
from lexlip.errors import LexLIPError
from lexlip.files import MANIFEST, atomic_directory, read_json, write_json

FORMAT = "lexlip-exact-1"
_ARRAYS = ("indptr", "indices", "impacts")


class ExactEngine:
    """An engine that adds up whole posting lists (`lexlip.engines.base.Engine`).

    Documents are held sorted by id, so the order of equal scores is the order of the rows. About
    5 bytes a posting, and 4 bytes a document for each running search.

    Examples
    --------
    >>> engine = ExactEngine()
    >>> engine.add(["b.jpg", "a.jpg"], csr_array([[0, 200], [100, 0]]))
    >>> engine.commit()
    >>> engine.search({0: 2, 1: 1}, k=5)
    [Hit(id='a.jpg', score=200), Hit(id='b.jpg', score=200)]
    """

    def __init__(self) -> None:
        self._open = True
        self._clear()

    def _clear(self) -> None:
        self._ids: list[str] = []
        self._postings = csc_array((0, 0), dtype=np.uint8)
        self._blocks: list[csr_array] = []
        self._changes: dict[str, tuple[int, int] | None] = {}  # id -> (block, row); None: deleted
        self._present: set[str] = set()  # ids as of the last write, committed or not

    def _check_open(self) -> None:
        if not self._open:
            raise closed("the engine")

    def add(self, ids: Sequence[str], impacts: csr_array) -> None:
        """Add documents, replacing those with the same id; see `Engine.add`."""
        self._check_open()
        names, matrix = check_documents(ids, impacts)
        for row, name in enumerate(names):
            self._changes[name] = (len(self._blocks), row)
        self._blocks.append(matrix)
        self._present.update(names)

    def delete(self, ids: Iterable[str]) -> int:
        """Delete by id and return how many were there; see `Engine.delete`."""
        self._check_open()
        found = self._present.intersection(check_ids(ids))
        self._present -= found
        self._changes.update(dict.fromkeys(found))
        return len(found)

    def commit(self) -> None:
        """Make all changes visible; see `Engine.commit`."""
        self._check_open()
        if not self._changes:
            return
        kept = [row for row, name in enumerate(self._ids) if name not in self._changes]
        ids = [self._ids[row] for row in kept]
        starts = np.cumsum([len(self._ids), *(block.shape[0] for block in self._blocks)])
        rows = list(kept)
        for name, place in self._changes.items():
            if place is not None:
                ids.append(name)
                rows.append(int(starts[place[0]]) + place[1])
        parts = [self._postings.tocsr(), *self._blocks]
        width = max(part.shape[1] for part in parts)
        for part in parts:
            part.resize((part.shape[0], width))
        order = sorted(range(len(ids)), key=ids.__getitem__)
        stacked = csr_array(vstack(parts, format="csr"))
        selected = np.array([rows[i] for i in order], dtype=np.int64)
        taken = csc_array(stacked[selected].astype(np.uint8))
        # scipy keeps int64 indices once a caller's matrix brought them: twice the memory.
        index = np.int32 if taken.nnz < 2**31 else np.int64
        taken.indptr, taken.indices = taken.indptr.astype(index), taken.indices.astype(index)
        self._postings = taken
        self._ids = [ids[i] for i in order]
        self._blocks, self._changes = [], {}

    def search(self, terms: Mapping[int, int], k: int) -> list[Hit]:
        """Return the best `k` hits, exactly; see `Engine.search`."""
        self._check_open()
        query, k = check_query(terms, k)
        postings, ids = self._postings, self._ids
        scores = np.zeros(len(ids), dtype=np.int32)
        for term, weight in query.items():
            if term < postings.shape[1]:
                span = slice(postings.indptr[term], postings.indptr[term + 1])
                scores[postings.indices[span]] += postings.data[span].astype(np.int32) * weight
        rows = np.flatnonzero(scores)
        if rows.size > k:  # keep all that tie with the k-th, then let the row order decide
            cut = np.partition(scores[rows], rows.size - k)[rows.size - k]
            rows = rows[scores[rows] >= cut]
        rows = rows[np.argsort(-scores[rows], kind="stable")[:k]]
        return [Hit(ids[row], int(scores[row])) for row in rows.tolist()]

    def __len__(self) -> int:
        """Return the number of committed documents."""
        self._check_open()
        return len(self._ids)

    def stats(self) -> dict[str, int]:
        """Return `documents`, `postings` and `bytes` (of the arrays in memory)."""
        self._check_open()
        arrays = (self._postings.indptr, self._postings.indices, self._postings.data)
        return {
            "documents": len(self._ids),
            "postings": int(self._postings.nnz),
            "bytes": sum(array.nbytes for array in arrays),
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the last commit to a folder, atomically, replacing an earlier save.

        Raises
        ------
        LexLIPError
            When the folder holds something else.
        """
        self._check_open()
        postings = self._postings
        with atomic_directory(path) as folder:
            arrays = (postings.indptr, postings.indices, postings.data)
            for name, array in zip(_ARRAYS, arrays, strict=True):
                np.save(folder / f"{name}.npy", array, allow_pickle=False)
            write_json(folder / "ids.json", self._ids)
            write_json(folder / MANIFEST, {"format": FORMAT, "shape": list(postings.shape)})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ExactEngine:
        """Read a folder that `save` wrote.

        Raises
        ------
        LexLIPError
            When it is missing, of another format, or damaged.
        """
        folder = Path(path)
        manifest = read_json(folder / MANIFEST)
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise LexLIPError(f"{folder} is no saved exact engine ({FORMAT}): build it anew")
        ids = read_json(folder / "ids.json")
        try:
            indptr, indices, impacts = (
                np.load(folder / f"{name}.npy", allow_pickle=False) for name in _ARRAYS
            )
            rows, columns = manifest["shape"]
            postings = csc_array((impacts, indices, indptr), shape=(rows, columns))
            postings.check_format(full_check=True)
            if not isinstance(ids, list) or len(ids) != rows or impacts.dtype != np.uint8:
                raise ValueError("ids and impacts do not fit together")
            if check_ids(ids) != sorted(set(ids)):
                raise ValueError("ids are not sorted and unique")
        except (OSError, ValueError, KeyError, TypeError, EOFError, LexLIPError) as error:
            raise LexLIPError(f"{folder} is damaged ({error}): build it anew") from None
        engine = cls()
        engine._ids, engine._postings, engine._present = ids, postings, set(ids)
        return engine

    def close(self) -> None:
        """Free the memory."""
        self._clear()
        self._open = False

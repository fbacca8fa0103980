"""The vectors of a race: from a generator or a file into a folder of arrays.

A vectors file is an ``.npz`` that `write_file` writes. A benchmark of a trained model writes one
(``python -m eval.bench --run RUN vectors=FILE``) of the impacts it indexed, the query
weights it searched with and, if a dense system was measured too, its vectors.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lexlip.errors import LexLIPError
from lexlip.impacts import MAX_IMPACT, MAX_QUERY_WEIGHT
from lexlip.storage.files import write_bytes

Dense = tuple[NDArray[np.float32], NDArray[np.float32]]  # documents, queries
_PARTS = ("indptr", "terms", "impacts")


def save_sparse(folder: Path, documents: csr_array, queries: csr_array) -> None:
    """Write impacts and query weights as `eval.race.base.Vectors` reads them."""
    for name, array in _sparse(documents, queries).items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)


def save_dense_queries(folder: Path, queries: NDArray[np.float32]) -> None:
    """Write dense queries; their documents are drawn into place."""
    np.save(folder / "queries.npy", queries, allow_pickle=False)


def _sparse(documents: csr_array, queries: csr_array) -> dict[str, NDArray[Any]]:
    """Return the arrays of both matrices, checked.

    Raises
    ------
    LexLIPError
        For impacts or weights out of range, or matrices of different width.
    """
    if documents.shape[1] != queries.shape[1] or not documents.shape[0] or not queries.shape[0]:
        raise LexLIPError(
            f"documents are {documents.shape}, queries {queries.shape}: "
            "both need rows, over the same vocabulary"
        )
    arrays: dict[str, NDArray[Any]] = {"width": np.int64(documents.shape[1])}  # type: ignore[dict-item]
    for prefix, matrix, most in (("", documents, MAX_IMPACT), ("q_", queries, MAX_QUERY_WEIGHT)):
        rows = csr_array(matrix, copy=True)
        rows.sum_duplicates()
        if not np.issubdtype(rows.dtype, np.integer):
            raise LexLIPError(f"{prefix or 'document '}weights are {rows.dtype}: quantise them")
        if rows.nnz and not 1 <= rows.data.min() <= rows.data.max() <= most:
            raise LexLIPError(
                f"weights range from {rows.data.min()} to {rows.data.max()}: they must be 1..{most}"
            )
        parts = (rows.indptr.astype(np.int64), rows.indices.astype(np.int32))
        for name, array in zip(_PARTS, (*parts, rows.data.astype(np.uint8)), strict=True):
            arrays[prefix + name] = array
    return arrays


def write_file(
    path: Path,
    documents: csr_array,
    queries: csr_array,
    dense: Dense | None = None,
    qrels: NDArray[np.int32] | None = None,
) -> None:
    """Write a vectors file.

    Parameters
    ----------
    path
        The ``.npz`` file.
    documents
        [N, V] integer impacts 1..255.
    queries
        [Q, V] integer weights 1..64.
    dense
        Float32 [N, d] documents and [Q, d] queries of a dense system, if there is one.
    qrels
        [R, 2] judgements: the number of a query and that of a relevant document.
        Races do not read them; they help to feed the vectors to another engine.

    Raises
    ------
    LexLIPError
        For vectors that no engine would take; nothing is written then.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "vectors.npz"
    >>> write_file(file, csr_array([[0, 200], [100, 0]]), csr_array([[2, 1]]))
    >>> unpack(file, file.parent)
    2
    """
    arrays = _sparse(documents, queries)
    if dense is not None:
        arrays["documents"], arrays["queries"] = (np.asarray(part, np.float32) for part in dense)
        if len(dense[0]) != documents.shape[0] or len(dense[1]) != queries.shape[0]:
            raise LexLIPError("dense and sparse vectors must be of the same documents and queries")
    if qrels is not None:
        arrays["qrels"] = np.asarray(qrels, np.int32).reshape(-1, 2)
        if (arrays["qrels"] < 0).any() or (
            arrays["qrels"] >= (queries.shape[0], documents.shape[0])
        ).any():
            raise LexLIPError("judgements must be of the queries and documents of the file")
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)  # type: ignore[arg-type]
    write_bytes(path, buffer.getvalue())


def unpack(path: Path, folder: Path) -> int:
    """Write the arrays of a vectors file into a folder and return the number of documents.

    Raises
    ------
    LexLIPError
        When there is no such file, or `write_file` did not write it.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            ends, terms, values = (arrays[name] for name in _PARTS)
            width = int(arrays["width"])
            documents = csr_array((values, terms, ends), shape=(len(ends) - 1, width))
            ends, terms, values = (arrays["q_" + name] for name in _PARTS)
            queries = csr_array((values, terms, ends), shape=(len(ends) - 1, width))
            save_sparse(folder, documents, queries)
            for name in {"documents", "queries"} & set(arrays.files):
                np.save(folder / f"{name}.npy", arrays[name], allow_pickle=False)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise LexLIPError(
            f"{path} is not a file of vectors ({error}): "
            "python -m eval.bench vectors=FILE writes one"
        ) from None
    return int(documents.shape[0])

"""How postings lie on disk, and how they are read.

Documents are cut into blocks of 2**14, so that the sums of a block stay in the processor's cache.
A segment of N documents in B blocks is a folder of numpy arrays:

- `terms` int32 [T]: the terms that occur, ascending.
- `starts` int64 [T + 1]: where a term's postings begin; an empty span is a dense term.
- `documents` uint16 [P], `impacts` uint8 [P]: postings by term, then by document; a document's
  number counts from the beginning of its block.
- `directory` uint16: where the blocks are in a term's postings, df of them. With df >= B the
  row has B numbers, the postings in each block; a rarer term's row has df numbers, the block of
  each posting.
- `dense` uint8 [D, N]: a term of more than a sixth of the documents has a row here instead,
  its impact in every document: adding a whole row beats picking 3 bytes a posting.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexlip.errors import LexLIPError
from lexlip.files import read_json

FORMAT = "lexlip-segment-1"
HEADER = "segment.json"
BLOCK_BITS = 14
BLOCK = 1 << BLOCK_BITS
MAX_DOCUMENTS = BLOCK << 16
"""Block numbers are uint16: a thousand million documents a segment."""

DENSE_SHARE = 6
"""A term in more than one of this many documents is stored as a dense row."""

MAX_WIDTH = 1 << 24
"""More than any vocabulary has: what a damaged header may claim costs no more than this."""

DTYPES: dict[str, np.dtype[Any]] = {
    "terms": np.dtype(np.int32),
    "starts": np.dtype(np.int64),
    "directory": np.dtype(np.uint16),
    "documents": np.dtype(np.uint16),
    "impacts": np.dtype(np.uint8),
    "dense": np.dtype(np.uint8),
}


def directory_rows(starts: NDArray[np.int64], blocks: int) -> NDArray[np.int64]:
    """Return where each term's row of the directory begins, and where the last one ends.

    Examples
    --------
    >>> directory_rows(np.array([0, 5, 5, 7]), blocks=3).tolist()
    [0, 3, 3, 5]
    """
    rows = np.zeros(starts.size, dtype=np.int64)
    np.cumsum(np.minimum(np.diff(starts), blocks), out=rows[1:])
    return rows


def read(folder: Path) -> tuple[dict[str, int], dict[str, NDArray]]:
    """Map the arrays of a segment and check that they fit together; see `Segment.open`."""
    header = read_json(Path(folder) / HEADER)
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise LexLIPError(f"{folder} is no segment of postings ({FORMAT}): build the index anew")
    try:
        arrays = {name: _map(Path(folder), name) for name in DTYPES}
        count, width, postings = (header[key] for key in ("documents", "width", "postings"))
        if not all(type(number) is int and number >= 0 for number in (count, width, postings)):
            raise ValueError("the header's numbers are no numbers")
        _check(arrays, count, width, postings)
    except Exception as error:  # a damaged header of an array fails in ways numpy does not list
        reason = " ".join(str(error).split())
        raise LexLIPError(f"{folder} is damaged ({reason}): build the index anew") from None
    return {"documents": count, "width": width, "postings": postings}, arrays


def _map(folder: Path, name: str) -> NDArray:
    """Map one array file as a plain array, which is cheaper to slice than a memmap."""
    array = np.lib.format.open_memmap(folder / f"{name}.npy", mode="r").view(np.ndarray)
    dimensions = 2 if name == "dense" else 1
    plain = array.flags.c_contiguous and array.flags.aligned
    if array.dtype != DTYPES[name] or array.ndim != dimensions or not plain:
        raise ValueError(f"{name} is {array.dtype} of shape {array.shape}")
    return array


def _check(arrays: dict[str, NDArray], count: int, width: int, postings: int) -> None:
    """Raise ValueError unless every span that a search takes lies within its array."""
    terms, starts, dense = arrays["terms"], arrays["starts"], arrays["dense"]
    lengths = np.diff(starts)
    if count > MAX_DOCUMENTS or width > MAX_WIDTH:
        raise ValueError("the header's numbers are too large")
    if starts.size != terms.size + 1 or starts[0] != 0:
        raise ValueError("terms and starts do not fit")
    if terms.size and not (terms[0] >= 0 and terms[-1] < width and (np.diff(terms) > 0).all()):
        raise ValueError("terms are not ascending")
    if (lengths < 0).any() or (lengths > count).any():
        raise ValueError("starts are not ascending")
    if not arrays["documents"].size == arrays["impacts"].size == starts[-1]:
        raise ValueError("documents and impacts do not fit")
    if arrays["directory"].size != directory_rows(starts, -(-count // BLOCK))[-1]:
        raise ValueError("the directory does not fit")
    if not starts[-1] <= postings <= starts[-1] + dense.size:
        raise ValueError("the number of postings does not fit")
    if dense.shape != (int((lengths == 0).sum()), count):
        raise ValueError("dense rows do not fit")

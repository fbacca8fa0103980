"""The layout of postings on disk, and its reader.

Documents are cut into blocks of 2**14, so that the sums of a block stay in the processor's cache.
A segment of N documents in B blocks is a folder of numpy arrays:

- `terms` [T]: the terms that occur, ascending.
- `sizes` [T]: how many entries a term has in `documents` or in `steps`. The number alone says
  where: with none it is a dense term, with more than N / 128 a common one, else a rare one.
- `documents` uint16, `impacts` uint8: the postings of rare terms, by term, then by document;
  a document's number counts from the beginning of its block.
- `steps` uint16: the postings of common terms. The low byte is the distance from the posting
  before, or from the beginning of the block; the high byte is the impact. A distance beyond 255 is
  bridged by entries with impact 0.
- `dense` uint8 [D, N]: a term of more than a quarter of the documents has a row here instead, its
  impact in every document.
- `directory` uint16: where the blocks are in a term's entries. A term with B entries or more has
  B - 1 numbers here, the entries in each block but the last; a rarer one has a number for each
  entry, its block.

`terms` and `sizes` are uint16 where all their numbers fit, uint32 elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexlip.errors import LexLIPError
from lexlip.storage.files import read_json

FORMAT = "lexlip-segment-2"
HEADER = "segment.json"
BLOCK_BITS = 14
BLOCK = 1 << BLOCK_BITS
MAX_DOCUMENTS = BLOCK << 16
"""Block numbers are uint16: a thousand million documents a segment."""

DENSE_SHARE = 4
"""A term in more than one of this many documents is stored as a dense row. At a third the bytes
would be fewest; but adding a whole row is so fast that searches then take a tenth longer."""

COMMON_SHARE = 128
"""A term in more than one of this many documents is common: 2 bytes a posting instead of 3. The
rarest of these need a bridge for about every seventh posting; at 256 they would gain nothing."""

LONGEST = 255
"""The longest step."""

MAX_WIDTH = 1 << 24
"""More than any vocabulary has: what a damaged header may claim costs no more than this."""

_NUMBERS = (np.dtype(np.uint16), np.dtype(np.uint32))

DTYPES: dict[str, tuple[np.dtype[Any], ...]] = {
    "terms": _NUMBERS,
    "sizes": _NUMBERS,
    "directory": (np.dtype(np.uint16),),
    "documents": (np.dtype(np.uint16),),
    "impacts": (np.dtype(np.uint8),),
    "steps": (np.dtype(np.uint16),),
    "dense": (np.dtype(np.uint8),),
}

RARE, COMMON, DENSE = range(3)


@dataclass(frozen=True, eq=False)
class Table:
    """Spans of each term's entries, which follow from `terms` and `sizes`.

    Examples
    --------
    >>> table = Table.of(np.array([3, 8, 9, 11]), np.array([5, 0, 2, 20]), 20_000)
    >>> table.kinds.tolist() == [RARE, DENSE, RARE, RARE], table.starts.tolist()
    (True, [0, 0, 5, 7])
    >>> table.blocks, table.rows.tolist()
    (2, [0, 1, 1, 2, 3])
    """

    count: int
    """N, the number of documents."""
    blocks: int
    terms: NDArray[np.int32]
    """[T] ascending."""
    sizes: NDArray[np.int64]
    """[T] entries."""
    kinds: NDArray[np.int8]
    """[T] RARE, COMMON or DENSE."""
    starts: NDArray[np.int64]
    """[T] the first entry, counted in the arrays of the term's kind; for a dense term its row."""
    rows: NDArray[np.int64]
    """[T + 1] where each term's row of the directory begins, and where the last one ends."""

    @classmethod
    def of(cls, terms: NDArray[Any], sizes: NDArray[Any], count: int) -> Table:
        """Make the table of a segment of `count` documents."""
        sizes, blocks = sizes.astype(np.int64), -(-count // BLOCK)
        kinds = np.where(sizes * COMMON_SHARE > count, COMMON, RARE).astype(np.int8)
        kinds[sizes == 0] = DENSE
        starts = np.zeros(sizes.size, dtype=np.int64)
        for kind in (RARE, COMMON, DENSE):
            lengths = np.maximum(sizes[kinds == kind], 1)
            starts[kinds == kind] = np.cumsum(lengths) - lengths
        rows = np.zeros(sizes.size + 1, dtype=np.int64)
        np.cumsum(np.where(sizes < blocks, sizes, blocks - 1) * (sizes > 0), out=rows[1:])
        return cls(count, blocks, terms.astype(np.int32), sizes, kinds, starts, rows)

    def entries(self, kind: int) -> int:
        """Return how many entries the terms of a kind have, dense terms one each."""
        return int(np.maximum(self.sizes[self.kinds == kind], 1).sum())


def read(folder: Path) -> tuple[dict[str, int], dict[str, NDArray], Table]:
    """Map the arrays of a segment and check that they fit together; see `Segment.open`."""
    header = read_json(Path(folder) / HEADER)
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise LexLIPError(f"{folder} is no segment of postings ({FORMAT}): build the index anew")
    try:
        arrays = {name: _map(Path(folder), name) for name in DTYPES}
        count, width, postings = (header[key] for key in ("documents", "width", "postings"))
        if not all(type(number) is int and number >= 0 for number in (count, width, postings)):
            raise ValueError("the header's numbers are no numbers")
        table = _check(arrays, count, width, postings)
    except Exception as error:  # a damaged header of an array fails in ways numpy does not list
        reason = " ".join(str(error).split())
        raise LexLIPError(f"{folder} is damaged ({reason}): build the index anew") from None
    return {"documents": count, "width": width, "postings": postings}, arrays, table


def _map(folder: Path, name: str) -> NDArray:
    """Map one array file as a plain array, which is cheaper to slice than a memmap."""
    array = np.lib.format.open_memmap(folder / f"{name}.npy", mode="r").view(np.ndarray)
    dimensions = 2 if name == "dense" else 1
    plain = array.flags.c_contiguous and array.flags.aligned
    if array.dtype not in DTYPES[name] or array.ndim != dimensions or not plain:
        raise ValueError(f"{name} is {array.dtype} of shape {array.shape}")
    return array


def _check(arrays: dict[str, NDArray], count: int, width: int, postings: int) -> Table:
    """Return the table; raise ValueError unless every span that a search takes is there."""
    if count > MAX_DOCUMENTS or width > MAX_WIDTH:
        raise ValueError("the header's numbers are too large")
    terms, sizes = arrays["terms"], arrays["sizes"]
    if terms.size != sizes.size:
        raise ValueError("terms and sizes do not fit")
    if terms.size and not (terms[-1] < width and (terms[1:] > terms[:-1]).all()):
        raise ValueError("terms are not ascending")
    table = Table.of(terms, sizes, count)
    rare, common, dense = map(table.entries, (RARE, COMMON, DENSE))
    if not arrays["documents"].size == arrays["impacts"].size == rare:
        raise ValueError("documents and impacts do not fit")
    if arrays["steps"].size != common or arrays["directory"].size != table.rows[-1]:
        raise ValueError("steps or directory do not fit")
    if arrays["dense"].shape != (dense, count):
        raise ValueError("dense rows do not fit")
    if not rare <= postings <= rare + common + dense * count:
        raise ValueError("the number of postings does not fit")
    return table

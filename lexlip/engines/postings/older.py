"""The layout before this one (``lexlip-postings-1``), read so that an index can be upgraded.

Its ids and words have their starts beside them instead of their lengths. Its segments have
``terms`` int32 [T], ``starts`` int64 [T + 1], ``documents`` uint16 [P] (within a block of 16,384),
``impacts`` uint8 [P], ``dense`` uint8 [D, N] (terms without postings, their impact in every
document) and ``directory`` uint16: of a term with as many postings as there are blocks or more, how
many lie in each block; of a rarer one, the block of each.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

from lexlip.engines.postings.parts import read_mask
from lexlip.errors import LexLIPError
from lexlip.filters.columns import Value
from lexlip.storage.arrays import map_array
from lexlip.storage.files import read_json
from lexlip.storage.generations import Generation

_SEGMENT = "lexlip-segment-1"
_BLOCK = 1 << 14


def older_strings(folder: Path, name: str) -> list[bytes]:
    """Read sorted strings that have their starts beside them.

    Raises
    ------
    ValueError
        When they do not fit together.
    """
    joined, starts = map_array(folder, name).tobytes(), map_array(folder, f"{name}-starts")
    if starts[0] != 0 or starts[-1] != len(joined) or (np.diff(starts) < 0).any():
        raise ValueError(f"{name} do not fit together")
    return [joined[first:last] for first, last in pairwise(starts.tolist())]


def older_parts(
    generation: Generation,
) -> Iterator[tuple[list[str], csr_array, dict[str, list[Value | None]]]]:
    """Yield the living documents of each part: ids [N], impacts int32 [N, V], and columns.

    Parameters
    ----------
    generation : Generation
        Of a folder in this layout.

    Raises
    ------
    LexLIPError
        When its checksums differ, or its files do not fit together.
    """
    generation.check_digests(generation.parts)
    for name, masks in generation.data["parts"].items():
        folder = generation.folder / name
        try:
            ids = [raw.decode() for raw in older_strings(folder, "ids")]
            impacts = _impacts(folder / "postings", len(ids))
            alive = np.arange(len(ids))
            if masks:
                bits = read_mask(generation.folder / masks, name)
                alive = np.flatnonzero(np.unpackbits(bits, count=len(ids)))
            columns = {
                row["name"]: _column(folder, f"column-{number}", row["kind"], alive)
                for number, row in enumerate(read_json(folder / "columns.json"))
            }
        except LexLIPError:
            raise
        except Exception as error:  # a damaged header of an array fails in ways numpy does not list
            reason = " ".join(str(error).split())
            raise LexLIPError(f"{folder} is damaged ({reason}): build the index anew") from None
        yield [ids[row] for row in alive.tolist()], impacts[alive], columns


def _column(folder: Path, stem: str, kind: str, rows: NDArray[np.int64]) -> list[Value | None]:
    data = map_array(folder, f"{stem}-data")[rows].tolist()
    present = map_array(folder, f"{stem}-present")[rows].tolist()
    if kind == "str":
        words = [raw.decode() for raw in older_strings(folder, f"{stem}-words")]
        data = [words[place] if there else None for place, there in zip(data, present, strict=True)]
    return [value if there else None for value, there in zip(data, present, strict=True)]


def _impacts(folder: Path, count: int) -> csr_array:
    """Read a segment, int32 [N, V]."""
    header = read_json(folder / "segment.json")
    if header.get("format") != _SEGMENT or header.get("documents") != count:
        raise ValueError(f"no segment of {count} documents in {_SEGMENT}")
    names = ("terms", "starts", "documents", "impacts", "dense", "directory")
    arrays: dict[str, NDArray[Any]] = {name: map_array(folder, name) for name in names}
    starts, directory, dense = arrays["starts"], arrays["directory"], arrays["dense"]
    blocks, at, dense_row = -(-count // _BLOCK), 0, 0
    rows: list[csr_array] = []
    for first, last in pairwise(starts.tolist()):
        if first == last:
            where = np.flatnonzero(dense[dense_row])
            values, dense_row = dense[dense_row][where], dense_row + 1
        else:
            size = min(last - first, blocks)
            listed, at = directory[at : at + size].astype(np.int64), at + size
            within = np.repeat(np.arange(blocks), listed) if last - first >= blocks else listed
            where = within * _BLOCK + arrays["documents"][first:last]
            values = arrays["impacts"][first:last]
        rows.append(csr_array((values, where, [0, len(where)]), shape=(1, count), dtype=np.int32))
    width = header["width"]
    if not rows:
        return csr_array((count, width), dtype=np.int32)
    by_term = vstack(rows, format="csc")  # [T, N]; its terms are moved to their places
    placed = csr_array(by_term.T.tocsr())
    columns = arrays["terms"][placed.indices]
    return csr_array((placed.data, columns, placed.indptr), shape=(count, width))

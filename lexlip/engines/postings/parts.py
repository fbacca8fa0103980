"""One part of a postings engine: documents sorted by id, with their postings and metadata.

A part is a folder that never changes: a segment of postings, the ids and the columns, all
memory-mapped. Which documents were deleted or replaced since is said by the `alive` mask beside it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

from lexlip.engines.base import Columns, Condition, check_documents
from lexlip.engines.postings import Segment
from lexlip.errors import LexLIPError
from lexlip.filters.columns import Column, Kind, Value, read_columns
from lexlip.storage.arrays import Strings, map_array, save_smallest
from lexlip.storage.files import read_json, write_json
from lexlip.storage.vectors import CodedVectors


def _save_values(folder: Path, name: str, values: NDArray[Any]) -> None:
    """Save the values of a column, one of them where all are the same."""
    save_smallest(folder, name, values[:1] if (values == values[0]).all() else values)


def _map_values(folder: Path, name: str, count: int) -> NDArray[Any]:
    values = map_array(folder, name)
    return np.broadcast_to(values, count) if values.size == 1 else values


class _Words(Sequence[str]):
    """The words of a text column, read from the disk one by one."""

    def __init__(self, strings: Strings) -> None:
        self._strings = strings

    def __len__(self) -> int:
        return len(self._strings)

    def __getitem__(self, place: Any) -> Any:
        return self._strings[place].decode()

    def __iter__(self) -> Any:
        return (word.decode() for word in self._strings.take(np.arange(len(self))))


@dataclass(frozen=True)
class Documents:
    """Documents in memory, on their way into a part.

    Ids in UTF-8, impacts [N, V], columns, and dense vectors where they are kept.
    """

    names: list[bytes]
    impacts: csr_array
    columns: Mapping[str, Column]
    vectors: CodedVectors | None = None

    @classmethod
    def of(
        cls, ids: Sequence[str], impacts: csr_array, columns: Columns, coded: CodedVectors | None
    ) -> Documents:
        """Check documents, as `Engine.add` takes them."""
        names, matrix = check_documents(ids, impacts)
        metadata = read_columns(columns, len(names))
        if coded is not None and len(coded) != len(names):
            raise LexLIPError(f"{len(names)} ids but {len(coded)} vectors: one each")
        encoded = [name.encode() for name in names]
        return cls(encoded, matrix.astype(np.uint8), metadata, coded)

    def take(self, rows: NDArray[np.int64]) -> Documents:
        """Return some documents."""
        columns = {name: column.take(rows) for name, column in self.columns.items()}
        names = [self.names[row] for row in rows.tolist()]
        vectors = None if self.vectors is None else self.vectors.take(rows)
        return Documents(names, self.impacts[rows], columns, vectors)

    @staticmethod
    def sorted_together(blocks: Sequence[Documents]) -> Documents:
        """Return the documents of all blocks, sorted by id.

        No id may come twice, and all blocks have vectors, or none.
        """
        width = max(block.impacts.shape[1] for block in blocks)
        for block in blocks:
            block.impacts.resize((block.impacts.shape[0], width))
        columns = {
            name: Column.concat(
                [block.columns.get(name, Column.missing(len(block.names))) for block in blocks]
            )
            for name in dict.fromkeys(name for block in blocks for name in block.columns)
        }
        vectors = [block.vectors for block in blocks if block.vectors is not None]
        every = Documents(
            [name for block in blocks for name in block.names],
            csr_array(vstack([block.impacts for block in blocks], format="csr")),
            columns,
            CodedVectors.concat(vectors) if vectors else None,
        )
        order = sorted(range(len(every.names)), key=every.names.__getitem__)
        return every.take(np.array(order, dtype=np.int64))

    def write(self, folder: Path) -> None:
        """Write sorted documents as a part; columns without any value are left out."""
        Segment.write(folder / "postings", self.impacts)
        Strings.write(folder, "ids", self.names)
        if self.vectors is not None:
            self.vectors.save(folder)
        table: list[dict[str, Any]] = []
        for name, column in self.columns.items():
            if not column.present.any():
                continue
            data, stem = column.data, f"column-{len(table)}"
            if column.kind == "str":  # keep the words that are still in use
                used = np.unique(data[column.present])
                data = np.where(column.present, np.searchsorted(used, data), 0).astype(np.int32)
                words = [column.words[place].encode() for place in used.tolist()]
                Strings.write(folder, f"{stem}-words", words)
            _save_values(folder, f"{stem}-data", data)
            _save_values(folder, f"{stem}-present", column.present)
            table.append({"name": name, "kind": column.kind})
        write_json(folder / "columns.json", table)


def _open_columns(folder: Path, count: int) -> dict[str, Column]:
    columns = {}
    for number, row in enumerate(read_json(folder / "columns.json")):
        stem = f"column-{number}"
        if row["kind"] not in get_args(Kind) or not isinstance(row["name"], str):
            raise ValueError(f"a column {row!r:.40}")
        words: Any = ()
        if row["kind"] == "str":
            words = _Words(Strings(folder, f"{stem}-words"))
        data, present = (
            _map_values(folder, f"{stem}-{part}", count) for part in ("data", "present")
        )
        columns[row["name"]] = Column(row["kind"], data, present, words)
    return columns


class Part:
    """A part that is open for searching.

    Parameters
    ----------
    folder
        What `Documents.write` wrote.
    bits
        The mask of the living, one bit a document; None where all live.

    Raises
    ------
    LexLIPError
        When files do not fit together.
    """

    def __init__(self, folder: Path, bits: NDArray[np.uint8] | None = None) -> None:
        self.name = folder.name
        try:
            self.segment = Segment.open(folder / "postings")
            self.ids = Strings(folder, "ids")
            self.columns = _open_columns(folder, len(self.segment))
            self.vectors = CodedVectors.open(folder) if CodedVectors.there(folder) else None
            lengths = {len(self.ids), *map(len, self.columns.values())}
            if self.vectors is not None:
                lengths.add(len(self.vectors))
            if lengths != {len(self.segment)}:
                raise ValueError("ids, columns, vectors and postings differ in length")
            self.alive = None if bits is None else np.unpackbits(bits, count=len(self.segment))
        except (LexLIPError, OSError):
            raise
        except Exception as error:  # a damaged header of an array fails in ways numpy does not list
            reason = " ".join(str(error).split())
            raise LexLIPError(f"{folder} is damaged ({reason}): build the index anew") from None
        self.living = len(self.ids) if self.alive is None else int(self.alive.sum())

    def find(self, names: Collection[bytes]) -> dict[bytes, int]:
        """Return {id: row} of the documents that are here and alive."""
        found = self.ids.find(names)
        if self.alive is None:
            return found
        return {name: row for name, row in found.items() if self.alive[row]}

    def alive_ids(self) -> list[bytes]:
        """Return the ids of the documents that are alive."""
        every = np.arange(len(self.ids)) if self.alive is None else np.flatnonzero(self.alive)
        return self.ids.take(every)

    def metadata(self, rows: Sequence[int], kinds: Mapping[str, Kind]) -> list[dict[str, Value]]:
        """Return {column: value} of some rows, missing values left out.

        Whole numbers are fractions where the column's kind, over all parts, says so.
        """
        found: list[dict[str, Value]] = [{} for _ in rows]
        for name, column in self.columns.items():
            fractions = kinds[name] == "float"
            for document, value in zip(found, column.take(rows).values(), strict=True):
                if value is not None:
                    document[name] = float(value) if fractions else value
        return found

    def documents(self, alive: NDArray[np.uint8] | None) -> Documents:
        """Read the documents of a mask into memory, all of them without one."""
        rows = np.arange(len(self.ids)) if alive is None else np.flatnonzero(alive)
        columns = {name: column.take(rows) for name, column in self.columns.items()}
        impacts = self.segment.impacts()[rows].astype(np.uint8)
        vectors = None if self.vectors is None else self.vectors.take(rows)
        return Documents(self.ids.take(rows), impacts, columns, vectors)

    def column(self, name: str, kind: Kind) -> Column:
        """Return a column, one of missing values where this part has none of that name."""
        if name in self.columns:
            return self.columns[name]
        zeros = np.zeros(len(self.ids), dtype=np.int32 if kind == "str" else np.int64)
        return Column(kind, zeros, zeros.astype(np.bool_))

    def fulfils(self, condition: Condition) -> NDArray[np.uint8]:
        """Return where a condition is true, one byte a document."""
        every = np.ones(len(self.ids), dtype=np.bool_)
        for term in set(condition.terms):
            every &= self.segment.having(term, condition.at_least)
        return (every == condition.present).view(np.uint8)

    def dead(self, rows: Iterable[int]) -> NDArray[np.uint8] | None:
        """Return the alive mask when some more rows die."""
        gone = np.fromiter(rows, dtype=np.int64)
        if not gone.size:
            return self.alive
        alive = np.ones(len(self.ids), np.uint8) if self.alive is None else self.alive.copy()
        alive[gone] = 0
        return alive


Found = tuple[Part, NDArray[np.int32], NDArray[Any]]
"""Hits of a search in a part: rows and scores."""


def check_width(
    path: Path, kept: Iterable[CodedVectors | None], added: CodedVectors | None
) -> None:
    """Refuse vectors whose width differs from the index's; one without vectors has width 0."""
    width = 0 if added is None else added.width
    for vectors in kept:
        held = 0 if vectors is None else vectors.width
        if held != width:
            raise LexLIPError(
                f"{path} holds vectors of {held} numbers, these documents have {width}: "
                "add documents of the same model, or build the index anew"
            )


def write_masks(folder: Path, masks: Mapping[str, NDArray[np.uint8]]) -> None:
    """Write masks of the living, one bit a document, named by their part."""
    for name, alive in masks.items():
        save_smallest(folder, name, np.packbits(alive))


def read_mask(folder: Path, name: str) -> NDArray[np.uint8]:
    """Read the packed mask of a part.

    Raises
    ------
    LexLIPError
        When it is damaged.
    """
    try:
        bits: NDArray[np.uint8] = np.load(folder / f"{name}.npy", allow_pickle=False)
        if bits.dtype != np.uint8 or bits.ndim != 1:
            raise ValueError(f"{bits.dtype} of shape {bits.shape}")
        return bits
    except OSError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise LexLIPError(f"{folder} is damaged ({reason}): build the index anew") from None

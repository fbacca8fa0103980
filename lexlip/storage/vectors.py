"""Dense vectors of documents in one byte a number, by row or by id, and how queries meet them.

The postings engine keeps them in the order of its rows (`CodedVectors` in each part). For an engine
that cannot, `VectorStore` keeps the same rows by id.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lexlip.errors import LexLIPError
from lexlip.storage.arrays import map_array
from lexlip.storage.codecs import Int8Token
from lexlip.storage.fields import save
from lexlip.storage.ids import check_ids
from lexlip.storage.part_store import PartStore, Places
from lexlip.storage.products import products
from lexlip.storage.views import Vectors

_SMALL = 2048
"""Parts up to this many vectors are always merged, as in the postings engine."""

_CODES, _SCALES = "vector-codes", "vector-scales"
_MARKS = ("constant", "word-mean", "word-spread")


class Compared(NamedTuple):
    """A query and n documents.

    Attributes
    ----------
    cosine : float32 [n]
        Products of the unit vectors; a document's constant is not subtracted yet.
    constant, word_mean, word_spread : float32 [n]
        As in `lexlip.storage.views.Vectors`.
    held : bool [n]
        Which documents have a vector; the others have zeros.
    """

    cosine: NDArray[np.float32]
    constant: NDArray[np.float32]
    word_mean: NDArray[np.float32]
    word_spread: NDArray[np.float32]
    held: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class CodedVectors:
    """Vectors of N documents as they are kept: d + 8 bytes each.

    Attributes
    ----------
    fields : mapping
        ``vector-codes`` int8 [N, d], and float16 [N]: ``vector-scales``, what a step of each vector
        is worth, ``constant``, ``word-mean``, ``word-spread``.

    Examples
    --------
    >>> one = np.ones(1, np.float32)
    >>> coded = CodedVectors.encode(Vectors(np.array([[0.6, -0.8]], np.float32), 0 * one, one, one))
    >>> coded.fields["vector-codes"].tolist(), coded.decode().vectors.round(2).tolist()
    ([[95, -127]], [[0.6000000238418579, -0.800000011920929]])
    """

    fields: Mapping[str, NDArray[Any]]

    @classmethod
    def encode(cls, vectors: Vectors) -> CodedVectors:
        """Quantise vectors, each with its own step.

        Raises
        ------
        LexLIPError
            When they are not finite, or too large for half precision.
        """
        marks = (vectors.constant, vectors.word_mean, vectors.word_spread)
        with np.errstate(over="ignore"):
            halves = [mark.astype(np.float16) for mark in marks]
        numbers: list[NDArray[Any]] = [vectors.vectors, *halves]
        if not all(np.isfinite(array).all() for array in numbers):
            raise LexLIPError("some vectors are not finite: check the model's output")
        rows = Int8Token({}).encode(vectors.vectors.astype(np.float32))
        fields = {_CODES: rows["codes"], _SCALES: rows["scales"][:, 0]}
        return cls(fields | dict(zip(_MARKS, halves, strict=True)))

    @classmethod
    def open(cls, folder: Path) -> CodedVectors:
        """Map what `save` wrote; ValueError where files do not fit."""
        fields = {name: map_array(folder, name) for name in (_CODES, _SCALES, *_MARKS)}
        codes = fields[_CODES]
        if codes.ndim != 2 or codes.dtype != np.int8 or not codes.flags.c_contiguous:
            raise ValueError("vectors have another shape")
        if any(fields[name].shape != codes.shape[:1] for name in (_SCALES, *_MARKS)):
            raise ValueError("vectors differ in number")
        return cls(fields)

    @staticmethod
    def there(folder: Path) -> bool:
        """Return whether a part has vectors."""
        return (folder / f"{_CODES}.npy").exists()

    def __len__(self) -> int:
        return len(self.fields[_CODES])

    @property
    def width(self) -> int:
        """Numbers per vector, d."""
        return self.fields[_CODES].shape[1]

    @property
    def bytes(self) -> int:
        """Size of all fields."""
        return sum(field.nbytes for field in self.fields.values())

    def take(self, rows: NDArray[np.integer]) -> CodedVectors:
        """Return the vectors of some rows."""
        return CodedVectors({name: field[rows] for name, field in self.fields.items()})

    @staticmethod
    def concat(blocks: Sequence[CodedVectors]) -> CodedVectors:
        """Return all rows, one block after the other."""
        return CodedVectors(
            {
                name: np.concatenate([block.fields[name] for block in blocks])
                for name in blocks[0].fields
            }
        )

    def save(self, folder: Path) -> None:
        """Write the vectors of a part."""
        every = np.arange(len(self))
        save(folder, Places([self], np.zeros(len(self), np.int64), every))

    def decode(self) -> Vectors:
        """Return the vectors that the codes stand for."""
        rows = {"codes": self.fields[_CODES], "scales": self.fields[_SCALES][:, None]}
        marks = (self.fields[name].astype(np.float32) for name in _MARKS)
        return Vectors(Int8Token({}).decode(rows), *marks)

    def _compare(self, query: NDArray[np.float32], rows: NDArray[np.integer]) -> list[NDArray]:
        """Return cosine, constant, word mean and word spread of some rows, float32 [n]."""
        if query.shape != (self.width,):
            raise LexLIPError(
                f"the index holds vectors of {self.width} numbers, the query has {query.size}: "
                "ask with the model that made it"
            )
        cosine = products(self.fields[_CODES], rows, query)
        scale, *marks = (self.fields[name][rows].astype(np.float32) for name in (_SCALES, *_MARKS))
        return [cosine * scale, *marks]


Span = tuple[CodedVectors, NDArray[np.int64], NDArray[Any]]
"""Some of n documents: where they are kept, which of the n they are, and their rows there."""


def compare(spans: Iterable[Span], count: int, query: NDArray[np.float32]) -> Compared:
    """Compare a query with n documents.

    Parameters
    ----------
    spans : iterable of Span
        Documents that no span has are not held.
    count : int
        n.
    query : float32 [d]
        A unit vector.

    Raises
    ------
    LexLIPError
        When widths differ.
    """
    found, held = np.zeros((4, count), np.float32), np.zeros(count, np.bool_)
    for vectors, where, rows in spans:
        found[:, where] = vectors._compare(query, rows)
        held[where] = True
    cosine, *marks = found
    return Compared(cosine, marks[0], marks[1], marks[2], held)


class VectorStore(PartStore[CodedVectors]):
    """Dense vectors by id, in a folder of memory-mapped parts, for engines that keep none.

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
        The folder is missing (mode "r"), corrupted, or open for writing elsewhere (mode "w").

    Examples
    --------
    >>> import tempfile
    >>> store = VectorStore(tempfile.mkdtemp(), "w")
    >>> zero = np.zeros(2, np.float32)
    >>> store.write(["b", "a"], Vectors(np.eye(2, dtype=np.float32), zero, zero, zero))
    >>> found = compare(store.spans(["a", "nobody"]), 2, np.array([0.6, 0.8], np.float32))
    >>> found.cosine.round(3).tolist(), found.held.tolist()
    ([0.800000011920929, 0.0], [True, False])
    >>> store.close()
    """

    FORMAT = "lexlip-vectors-1"

    def __init__(self, path: str | os.PathLike[str], mode: Literal["r", "w"] = "r") -> None:
        super().__init__(path, mode, _SMALL)

    def _open(self, folder: Path, facts: Mapping[str, Any]) -> tuple[CodedVectors, int]:
        vectors = CodedVectors.open(folder)
        if vectors.width != facts["width"]:
            raise ValueError("vectors have another width")
        return vectors, len(vectors)

    def _save(self, folder: Path, places: Places[CodedVectors]) -> None:
        save(folder, places)

    def write(self, ids: Sequence[str], vectors: Vectors) -> None:
        """Store vectors in the place of those with the same ids; durable on return.

        Raises
        ------
        LexLIPError
            When numbers or widths differ, vectors are not finite, or writing fails, as on a full
            disk: then all is as it was.
        """
        names = [name.encode() for name in check_ids(ids)]
        if len(names) != len(vectors):
            raise LexLIPError(f"{len(names)} ids but {len(vectors)} vectors: one each")
        width = self._current().facts.get("width", vectors.width)
        if width != vectors.width:
            raise LexLIPError(
                f"{self.path} holds vectors of {width} numbers, these have {vectors.width}: use "
                "the model that it was made with"
            )
        if names:
            self._write(names, CodedVectors.encode(vectors), {"width": width})

    def take_spans(self, ids: Sequence[str], spans: Sequence[Span]) -> None:
        """Store the vectors of n documents from where an engine keeps them, bit for bit."""
        if not ids:
            return
        order = np.argsort(np.concatenate([which for _, which, _ in spans]), kind="stable")
        coded = CodedVectors.concat([vectors.take(rows) for vectors, _, rows in spans])
        names = [name.encode() for name in ids]
        self._write(names, coded.take(order), {"width": coded.width})

    def spans(self, ids: Sequence[str]) -> Sequence[Span]:
        """Return where the vectors of n documents lie; unknown ids are in no span."""
        return self._current().find(ids).spans

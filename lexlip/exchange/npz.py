"""Numpy archives: a scipy matrix with ids and words, without pickle.

`scipy.sparse.load_npz` reads the matrix, `numpy.load` the rest: `ids`, `words`, `scale`, `model`
and `vocabulary`. The member ``metadata.jsonl`` has an object for each document.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lexlip.data.readers import why_not_json
from lexlip.errors import LexLIPError
from lexlip.exchange.documents import Documents, plain
from lexlip.storage.spool import Spool

METADATA = "metadata.jsonl"
_ENTRIES = 1 << 20
_ROWS = 4096
_FREE, _RATIO = 2**28, 200
"""Bytes, and times its size, to which an archive may expand. Vectors expand 2 to 20 times."""


def write(
    path: Path, documents: Iterable[Documents], words: Sequence[str], facts: dict[str, Any]
) -> int:
    """Write documents, and return how many.

    Parameters
    ----------
    path : Path
    documents : iterable of Documents
    words : sequence of str [V]
    facts : dict
        Strings and numbers that are kept as arrays without dimensions.
    """
    ids: list[str] = []
    with TemporaryDirectory(prefix="lexlip-", dir=path.parent) as folder:
        spool, beside = Spool(Path(folder), np.uint8), Path(folder) / METADATA
        with open(beside, "wb") as file:
            for some in documents:
                spool.append(some.rows)
                ids += some.ids
                for row in some.metadata:
                    file.write(json.dumps(plain(row), ensure_ascii=False).encode() + b"\n")
        wrong = [name for name in (*ids, *words) if name.endswith("\0")]
        if wrong:
            raise LexLIPError(f"{wrong[0]!r} ends with NUL, which numpy cuts off: take anserini")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            whole = {
                "format": np.array(b"csr"), "shape": np.array([len(ids), len(words)]),
                "_is_array": np.array(True), "indptr": spool.ends,
                **{name: np.array(value) for name, value in facts.items()},
                "words": np.array(list(words), np.str_), "ids": np.array(ids, np.str_),
            }  # fmt: skip
            for name, array in whole.items():
                with _member(archive, name) as file:
                    npy.write_array(file, np.asarray(array), allow_pickle=False)
            for place, name in enumerate(("indices", "data")):
                with _member(archive, name) as file:
                    npy.write_array_header_1_0(file, _header(spool.entries))
                    for start in range(0, spool.entries, _ENTRIES):
                        stop = min(start + _ENTRIES, spool.entries)
                        file.write(spool.entry(start, stop)[place].astype("<i4").tobytes())
            archive.write(beside, METADATA)
        spool.close()
    return len(ids)


def _member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    return archive.open(f"{name}.npy", "w", force_zip64=True)


def _header(count: int) -> dict[str, Any]:
    return {"descr": "<i4", "fortran_order": False, "shape": (count,)}


class Archive:
    """An archive that is open for reading, some rows at a time.

    Attributes
    ----------
    words : list of str or None
    ids : list of str
    scale : float or None
        Impacts per unit of weight, where the archive says so.
    width : int

    Raises
    ------
    LexLIPError
        When it is no such archive, or its parts do not go together.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except FileNotFoundError:
            raise LexLIPError(f"{path} does not exist: check its name") from None
        except (OSError, zipfile.BadZipFile) as error:
            raise LexLIPError(f"{path} is no archive of numpy ({error}): export it again") from None
        expanded = sum(member.file_size for member in self._zip.infolist())
        if expanded > _FREE + _RATIO * path.stat().st_size:
            raise self._wrong(f"it would expand to {expanded / 2**30:.0f} GiB")
        self._names = set(self._zip.namelist())
        try:
            self._open()
        except LexLIPError:
            raise
        except (ValueError, TypeError, IndexError, OverflowError) as error:  # of another shape
            raise self._wrong(str(error)) from None

    def _open(self) -> None:
        kind = self._single("format")
        if kind not in (b"csr", "csr"):
            raise self._wrong(f"its matrix is {kind!r:.20}, not csr")
        shape, self._ends = self._row("shape", "iu"), self._row("indptr", "iu").astype(np.int64)
        if len(shape) != 2 or not len(self._ends) or self._ends[0] != 0:
            raise self._wrong("its matrix has another shape than rows and columns")
        self.width = int(shape[1])
        if "ids.npy" not in self._names:
            raise self._wrong("it has no ids")
        self.ids = [str(id) for id in self._row("ids", "Uiu").tolist()]
        named = "words.npy" in self._names
        self.words = [str(word) for word in self._row("words", "U").tolist()] if named else None
        said = self._single("scale") if "scale.npy" in self._names else None
        self.scale = float(said) if isinstance(said, int | float) and said > 0 else None
        if self.words is not None and len(set(self.words)) < len(self.words):
            twice = next(word for word, n in Counter(self.words).items() if n > 1)
            raise self._wrong(f"it has the word {twice!r:.60} twice")
        lengths = {int(shape[0]), len(self.ids), len(self._ends) - 1}
        widths = {self.width} if self.words is None else {self.width, len(self.words)}
        if len(lengths) > 1 or len(widths) > 1 or (np.diff(self._ends) < 0).any():
            raise self._wrong("its parts differ in length")

    def _wrong(self, what: str) -> LexLIPError:
        return LexLIPError(f"{self.path} cannot be read: {what}")

    def _single(self, name: str) -> Any:
        found = self._whole(name)
        if found.size != 1:
            raise self._wrong(f"{name} is {found.size:,} values, not one")
        return found.item()

    def _row(self, name: str, kinds: str) -> NDArray[Any]:
        found = self._whole(name)
        if found.ndim != 1 or found.dtype.kind not in kinds:
            what = "whole numbers" if kinds == "iu" else "texts"
            raise self._wrong(f"{name} is no row of {what}")
        return found

    def _whole(self, name: str) -> NDArray[Any]:
        if f"{name}.npy" not in self._names:
            raise self._wrong(f"it has no {name}")
        try:
            with self._zip.open(f"{name}.npy") as file:
                return npy.read_array(file, allow_pickle=False)
        except MemoryError:
            raise self._wrong(f"{name} is larger than memory") from None
        except (KeyError, ValueError, OSError, zipfile.BadZipFile, EOFError, zlib.error) as error:
            objects = "allow_pickle" in str(error)
            what = "Python objects, which are not read" if objects else error
            raise self._wrong(f"{name}: {what}") from None

    def __iter__(self) -> Iterator[tuple[list[str], csr_array, list[dict[str, Any]]]]:
        """Yield (N ids, weights [N, V], metadata), some thousand documents at a time."""
        there = METADATA in self._names
        count = len(self.ids)
        if missing := [it for it in ("indices", "data") if f"{it}.npy" not in self._names]:
            raise self._wrong(f"it has no {missing[0]}")
        try:
            with self._zip.open("indices.npy") as first, self._zip.open("data.npy") as second:
                kinds = [self._begin(file, int(self._ends[-1])) for file in (first, second)]
                told = self._zip.open(METADATA) if there else None
                for start in range(0, count, _ROWS):
                    stop = min(start + _ROWS, count)
                    ends = self._ends[start : stop + 1]
                    size = int(ends[-1] - ends[0])
                    terms, values = (
                        np.frombuffer(self._read(file, size * kind.itemsize), kind)
                        for file, kind in zip((first, second), kinds, strict=True)
                    )
                    if terms.size and not 0 <= terms.min() <= terms.max() < self.width:
                        raise self._wrong("indices beyond its words")
                    shape = (stop - start, self.width)
                    rows = csr_array((values, terms, ends - ends[0]), shape=shape)
                    some = [self._facts(told, row) for row in range(start, stop)]
                    yield self.ids[start:stop], rows, some
                if told and told.read(1):
                    raise self._wrong(f"{METADATA} has more lines than there are documents")
        except (KeyError, ValueError, OSError, zipfile.BadZipFile, EOFError, zlib.error) as error:
            raise self._wrong(str(error)) from None

    def _read(self, file: IO[bytes], size: int) -> bytes:
        data = file.read(size)
        if len(data) < size:
            raise self._wrong("it ends early")
        return data

    def _facts(self, told: IO[bytes] | None, row: int) -> Any:
        """Read the metadata of the next document."""
        line = told.readline() if told else b"{}"
        if not line:
            raise self._wrong(f"{METADATA} has {row:,} lines for {len(self.ids):,} documents")
        try:
            return json.loads(line)
        except UnicodeDecodeError:
            raise self._wrong(f"{METADATA}, line {row + 1} is not UTF-8") from None
        except (ValueError, RecursionError) as error:
            why = why_not_json(error)
            raise self._wrong(f"{METADATA}, line {row + 1} is not JSON ({why})") from None

    def _begin(self, file: IO[bytes], count: int) -> np.dtype[Any]:
        """Read the header of an array."""
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, kind = read(file)
        if shape != (count,) or kind.kind not in "iuf":
            raise self._wrong(f"an array of shape {shape} and type {kind}")
        return kind

    def close(self) -> None:
        """Close the file."""
        self._zip.close()

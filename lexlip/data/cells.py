"""Parquet files behind URLs: pictures in their cells, read a group of rows at a time.

The column `image` holds the bytes of a picture, ``{bytes, path}``, a path beside the file, or a
URL; so may `path`, `filename`, `file_name`, `filepath` and `url`.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

from lexlip.data import limits
from lexlip.data.left_out import LeftOut
from lexlip.data.metadata import FILE_METADATA, kept_apart, not_columns, rows_to_columns
from lexlip.data.readers import CAPTION_COLUMNS, FILE_COLUMNS, ID_COLUMNS, Records, pick, texts_of
from lexlip.errors import LexLIPError, require
from lexlip.filters.columns import nfc
from lexlip.storage.remote import Facts, Remote, is_remote, telling
from lexlip.storage.stored import Stored, place

IMAGE_COLUMNS = (*FILE_COLUMNS, "url")
_READING = threading.Lock()  # one group of rows at a time, and once


@dataclass(frozen=True)
class Cell(Stored):
    """A picture in a cell of a parquet file.

    Attributes
    ----------
    column : str
    group : int
        Number of the group of rows.
    row : int
        Number in the group.
    """

    column: str = ""
    group: int = 0
    row: int = 0

    def _bytes(self) -> bytes:
        with _READING:
            values = _group(self.url, self.modified, self.etag, self.column, self.group)
            value = values[self.row].as_py() if self.row < len(values) else None
        if isinstance(value, Mapping):
            value = value.get("bytes") or value.get("path")
        if isinstance(value, str) and value:
            return _beside(self.url, value).read()
        if not isinstance(value, bytes):
            raise LexLIPError(f"{self}: no picture in this row")
        return value


def _beside(url: str, written: str) -> Stored:
    """Return the picture that a cell names, beside its file or anywhere on the web."""
    if is_remote(written):
        if written.lower().startswith(("file:", "local:", "memory:")):
            raise LexLIPError(f"{Remote(url)} names {written!r:.80}: a table names no local files")
        return Stored(written)
    if written.startswith("/") or ".." in written.replace("\\", "/").split("/"):
        raise LexLIPError(f"{Remote(url)} names {written!r:.80}, which is not below its folder")
    return Stored(f"{url.rpartition('/')[0]}/{written}")


class _Watched:
    """A file that remembers whether its service failed: else it is the file that is damaged."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.failed = file, False

    def read(self, *size: int) -> bytes:
        try:
            return self._file.read(*size)
        except BaseException:
            self.failed = True
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextmanager
def _opened(url: str) -> Iterator[Any]:
    """Open a parquet file."""
    require("pyarrow")
    import pyarrow
    import pyarrow.parquet as pq

    with telling(url), place(url).open() as file:
        watched = _Watched(file)
        try:
            yield pq.ParquetFile(pyarrow.PythonFile(watched, mode="r"))
        except Exception as error:
            if watched.failed or isinstance(error, LexLIPError):
                raise
            why = limits.reason(error)
            raise LexLIPError(
                f"{place(url)} is no parquet file, or damaged ({why}): fetch it again"
            ) from None


@functools.lru_cache(2)
def _group(url: str, modified: int, etag: str, column: str, group: int) -> Any:
    """Return the cells of a group of rows; two groups are kept."""
    with _opened(url) as table:
        return table.read_row_group(group, columns=[column]).column(column)


def read_cells(files: Sequence[Facts], names: Sequence[str]) -> Records:
    """Read parquet files without their pictures.

    Parameters
    ----------
    files : sequence of Facts
    names : sequence of str
        How ids begin where the files have no column `image_id` or `id`: a row's number follows.

    Raises
    ------
    LexLIPError
        When a file is no parquet, or has no column of pictures.
    """
    left_out = LeftOut()
    ids, captions, pictures, rows = [], [], list[Any](), list[dict[str, Any]]()
    for facts, start in zip(files, names, strict=True):
        where = place(facts.url)
        with _opened(facts.url) as table:
            columns = table.schema_arrow.names
            column = pick(columns, IMAGE_COLUMNS)
            if column is None:
                raise LexLIPError(f"{where} has no column 'image': it has {', '.join(columns)}")
            others = [name for name in columns if name != column]
            told = table.read(columns=others).to_pylist() if others else []
            groups = range(table.metadata.num_row_groups)
            sizes = [table.metadata.row_group(group).num_rows for group in groups]
        named = pick(columns, ID_COLUMNS)
        number = 0
        for group, size in enumerate(sizes):
            for row in range(size):
                cells = told[number] if told else {}
                own = f"{start}-{number}"
                ids.append(nfc(str(cells[named])) if named else own)
                captions.append(texts_of(cells))
                rows.append({name: it for name, it in cells.items() if name != named})
                pictures.append(
                    Cell(
                        facts.url, None, facts.modified, facts.etag, str(number), column, group, row
                    )
                )
                number += 1
    apart = {*CAPTION_COLUMNS, *FILE_METADATA}
    columns_ = rows_to_columns(rows, apart)
    found = {name for row_ in rows for name in row_}
    left_out.notes += kept_apart(found, "the parquet files")
    left_out.notes += not_columns(found - apart, columns_, "the parquet files")
    return Records(ids, captions, pictures, columns=columns_, left_out=left_out)

"""Readers: a function for each kind of table of pictures; folders are in `lexlip.data.folders`.

Each returns `Records`, in which pictures are still files or bytes: nothing is decoded here, and a
missing or broken picture is found when it is asked for.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from lexlip.data.left_out import LeftOut
from lexlip.data.metadata import FILE_METADATA, kept_apart, not_columns, rows_to_columns
from lexlip.errors import LexLIPError, require
from lexlip.filters.columns import nfc
from lexlip.storage.files import read_json
from lexlip.storage.remote import is_remote
from lexlip.storage.stored import Stored

FILE_COLUMNS = ("image", "path", "filename", "file_name", "filepath")
ID_COLUMNS = ("image_id", "id")
CAPTION_COLUMNS = ("captions", "caption", "sentences", "text", "raw")
_BYTE = re.compile("[\udc80-\udcff]")
"""A byte that is not UTF-8, as "surrogateescape" reads it."""


class Pictures(Protocol):
    """Pictures by number, as a file, as the bytes of one, or where they are stored."""

    def __getitem__(self, i: int, /) -> Path | bytes | Stored:
        """Return picture number i, not decoded."""
        ...


@dataclass
class Records:
    """The result of a reader: ids, captions as they are (empty ones too), pictures, metadata.

    Ids are in Unicode's composed form, whatever form they have in a file.
    """

    ids: list[str]
    captions: list[list[str]]
    pictures: Pictures
    qrels: list[Path] = field(default_factory=list)
    columns: dict[str, list[Any]] = field(default_factory=dict)
    left_out: LeftOut = field(default_factory=LeftOut)

    def __post_init__(self) -> None:
        self.ids = [nfc(name) for name in self.ids]


def texts_of(value: Any) -> list[str]:
    """Return the captions in a value: a string, a list, or an object with a caption field.

    Examples
    --------
    >>> texts_of({"sentences": [{"raw": "a dog"}, {"raw": "a cat"}]})
    ['a dog', 'a cat']
    """
    if value is None:
        return []
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        named = [value[name] for name in CAPTION_COLUMNS if value.get(name) is not None]
        return texts_of(named[0]) if named else []
    if isinstance(value, Iterable):
        return [text for item in value for text in texts_of(item)]
    return []


def pick(columns: Iterable[str], wanted: Sequence[str]) -> str | None:
    """Return the first wanted column that is there."""
    present = set(columns)
    return next((name for name in wanted if name in present), None)


def no_split(where: Path, wanted: Iterable[str], found: Iterable[str]) -> LexLIPError:
    """Return the error for a split that is not there; `found` are those that are."""
    names = ", ".join(sorted(found)) or "none"
    return LexLIPError(f"{where} has no split {'+'.join(wanted)!r}: it has {names}")


def _is_plain(feature: Any) -> bool:
    """Whether a column holds texts, numbers, truth values, dates or times."""
    kind = str(getattr(feature, "dtype", ""))
    return kind in ("bool", "string", "large_string") or kind.startswith(
        ("int", "uint", "float", "timestamp", "date", "time32", "time64")
    )


# --- parquet --------------------------------------------------------------------------------------


class _Rows:
    """The image column of a memory-mapped table."""

    def __init__(self, table: Any, folder: Path) -> None:
        self.table, self.folder = table, folder

    def __getitem__(self, i: int) -> Path | bytes | Stored:
        image = self.table[i]["image"]
        if isinstance(image, Mapping):
            image = image.get("bytes") or image.get("path")
        if is_remote(image):
            return Stored(image)
        return image if isinstance(image, bytes) else self.folder / (image or "")


def _shards(folder: Path, splits: Sequence[str] | None) -> tuple[list[str], list[Path]]:
    """Return the chosen splits of a folder and their files; refuse an incomplete set of shards."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.parquet")):
        found.setdefault(re.sub(r"-.*", "", path.stem), []).append(path)
    if splits is None:
        if len(found) > 1:
            raise LexLIPError(f"{folder} has the splits {', '.join(found)}: say which one to read")
        splits = list(found)
    if not set(splits) <= set(found):
        raise no_split(folder, splits, found)
    paths = [path for split in splits for path in found[split]]
    for path in paths:
        shard = re.fullmatch(r"(.+-)(\d+)-of-(\d+)", path.stem)
        if shard and len(list(folder.glob(f"{shard[1]}*-of-{shard[3]}.parquet"))) != int(shard[3]):
            raise LexLIPError(f"{folder} lacks some of the {int(shard[3])} files of {path.name}")
    return list(splits), paths


def read_parquet(source: Path, splits: Sequence[str] | None, cache: Path) -> Records:
    """Read ``<split>-*.parquet`` in a folder or its ``data/``, or one file, through `datasets`.

    Rows are memory-mapped from a copy in `cache`: access is cheap in any order and size.
    """
    require("datasets", "pyarrow")
    import datasets
    import pyarrow.parquet as pq

    folder = source.parent if source.is_file() else source
    if source.is_file():
        held = [source.stem.split("-")[0]]
        if splits not in (None, held):
            raise no_split(source, splits or (), held)
        splits, paths = held, [source]
    else:
        folder = folder if any(folder.glob("*.parquet")) else folder / "data"
        splits, paths = _shards(folder, splits)
    for path in paths:
        try:
            columns = pq.read_schema(path).names
        except Exception as error:
            raise LexLIPError(f"{path} is no parquet file, or damaged: fetch it again") from error
        if "image" not in columns:
            raise LexLIPError(f"{path} has no column 'image': it has {', '.join(columns)}")
    bars = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        table: Any = datasets.Dataset.from_parquet([str(p) for p in paths], cache_dir=str(cache))
        if isinstance(table.features["image"], datasets.Image):
            table = table.cast_column("image", datasets.Image(decode=False))
    except Exception as error:
        message = " ".join(str(error).split())
        raise LexLIPError(f"{source}: its parquet files cannot be read ({message})") from error
    finally:
        if not bars:
            datasets.enable_progress_bars()
    named = pick(table.column_names, (*ID_COLUMNS, "filename"))
    told = pick(table.column_names, CAPTION_COLUMNS)
    stem = "+".join(splits)
    ids = [str(v) for v in table[named]] if named else [f"{stem}-{i}" for i in range(len(table))]
    captions = [texts_of(v) for v in table[told]] if told else [[] for _ in ids]
    judged = [p for s in splits if (p := folder / f"qrels-{s}.tsv").is_file()]
    plain = [name for name in table.column_names if name not in ("image", named, told)]
    notes = kept_apart(plain, source)
    plain = [name for name in plain if name not in FILE_METADATA]
    columns = {n: table[n][:] for n in plain if _is_plain(table.features[n])}
    notes += not_columns(plain, columns, source)
    pictures = _Rows(table, folder)
    return Records(ids, captions, pictures, judged, columns, LeftOut(notes=notes))


# --- tables and JSON ------------------------------------------------------------------------------


def csv_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, row) of a table with a header; a cell may hold a JSON list."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            file.seek(0)
            delimiter = max("\t,;|", key=header.count)
            reader = csv.DictReader(file, delimiter=delimiter, skipinitialspace=True)
            reader.fieldnames = [name.strip() for name in reader.fieldnames or []]
            for row in reader:
                yield reader.line_num, {k: _cell(v) for k, v in row.items() if k is not None}
    except UnicodeDecodeError:
        raise LexLIPError(f"{path} is not UTF-8: save the table in UTF-8") from None
    except (OSError, csv.Error) as error:
        raise LexLIPError(f"{path} cannot be read as a table: {error}") from error


def _cell(value: str | None) -> Any:
    if value and value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            pass
    return value


def read_csv(source: Path, splits: Sequence[str] | None) -> Records:
    """Read a table of pictures and captions; several rows of one picture are joined.

    Columns: `image`, `path`, `filename` or `file_name` (relative to the table), `caption` or
    `captions` (a cell may be a JSON list), optionally `image_id` (else the id is the file's cell)
    and `split`. Every other column is metadata, that of a picture's first row.
    """
    captions: dict[str, list[str]] = {}
    files: dict[str, Path] = {}
    told: dict[str, dict[str, Any]] = {}
    seen = set()
    for number, row in csv_rows(source):
        if splits is not None:
            seen.add(row.get("split"))
            if row.get("split") not in splits:
                continue
        column = pick(row, FILE_COLUMNS)
        if column is None:
            raise LexLIPError(f"{source} has no column {' or '.join(FILE_COLUMNS)}: add a header")
        if not isinstance(row[column], str) or not row[column].strip():
            raise LexLIPError(f"{source}, line {number}: no file name in column {column!r}")
        file = _file(source.parent, row[column].strip())
        named = pick(row, ID_COLUMNS)
        name = nfc(str((row[named] if named else None) or row[column]).strip())
        if files.setdefault(name, file) != file:
            raise LexLIPError(f"{source}, line {number}: two files have the id {name!r}")
        captions.setdefault(name, []).extend(texts_of(row))
        told.setdefault(name, row)
    if splits is not None and not captions:
        raise no_split(source, splits, (str(s) for s in seen if s))
    names = {name for row in told.values() for name in row}
    left_out = (*FILE_COLUMNS, *ID_COLUMNS, *CAPTION_COLUMNS, *FILE_METADATA)
    plain = rows_to_columns(told.values(), left_out)
    notes = kept_apart(names, source) + not_columns(names - set(left_out), plain, source)
    records = list(captions), list(captions.values()), list(files.values())
    return Records(*records, columns=plain, left_out=LeftOut(notes=notes))


def _file(folder: Path, written: str) -> Path:
    """Return the file that a cell names, also where Windows wrote it: ``sub\\a.png``."""
    path = folder / written
    return path if "\\" not in written or path.exists() else folder / written.replace("\\", "/")


def read_karpathy(source: Path, splits: Sequence[str] | None) -> Records:
    """Read a file of Karpathy's splits (``dataset_coco.json``); `restval` belongs to `train`.

    Pictures lie beside it, with or without their `filepath` and with or without a folder
    ``images``. The id is the file name without its suffix.
    """
    content = read_json(source)
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list):
        raise LexLIPError(f"{source} has no list 'images': give a file such as dataset_coco.json")
    records = Records([], [], files := [])
    seen = set()
    for number, image in enumerate(images):
        if not isinstance(image, dict) or not isinstance(image.get("filename"), str):
            raise LexLIPError(f"{source}: image number {number} has no 'filename'")
        split = "train" if image.get("split") == "restval" else str(image.get("split"))
        seen.add(split)
        if splits is None or split in splits:
            records.ids.append(Path(image["filename"]).stem)
            records.captions.append(texts_of(image.get("sentences")))
            files.append(_beside(source.parent, str(image.get("filepath", "")), image["filename"]))
    if splits is not None and not set(splits) <= seen:
        raise no_split(source, splits, seen)
    return records


def _beside(folder: Path, filepath: str, name: str) -> Path:
    bases = [folder / filepath, folder, folder / "images" / filepath, folder / "images"]
    return next((base / name for base in bases if (base / name).is_file()), bases[0] / name)


def json_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield (line number, value) of a file with a JSON value a line."""
    for number, line in lines(path):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                why = why_not_json(error)
                raise LexLIPError(f"{path}, line {number}: not JSON ({why})") from error


def why_not_json(error: Exception) -> str:
    """Return what is wrong with a text that is not JSON, without Python's own advice."""
    if isinstance(error, json.JSONDecodeError):
        return str(error)
    deep = isinstance(error, RecursionError)
    return "nested too deeply" if deep else "a number of too many digits"


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line) of a UTF-8 text file, gzipped if its name ends in ``.gz``."""
    try:
        opened: Any = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rb") as file:
            yield from lines_of(file, path)
    except FileNotFoundError:
        raise LexLIPError(f"{path} does not exist: check its name") from None
    except (OSError, EOFError, zlib.error) as error:
        raise LexLIPError(f"{path} cannot be read as text: {error}") from error


def lines_of(file: IO[bytes], name: str | Path) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line) of an open file of UTF-8, `lines`; `name` is for errors."""
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape")
    try:
        for number, line in enumerate(text, start=1):
            if not line.isascii() and _BYTE.search(line):
                raise LexLIPError(f"{name} cannot be read as text: line {number} is not UTF-8")
            yield number, line.rstrip("\r\n")
    finally:
        text.detach()


def read_texts(path: str | Path) -> list[str]:
    """Read captions without pictures.

    Parameters
    ----------
    path : str or Path
        ``.txt`` (a caption a line) or ``.jsonl`` (each row a string, a list, or an object with
        `captions`, `caption`, `sentences`, `text` or `raw`), either also as ``.gz``.

    Returns
    -------
    list of str
        Captions in the order of the file, without the empty ones.

    Raises
    ------
    LexLIPError
        If the file cannot be read, or a row is not JSON or holds no caption field.
    """
    path = Path(path)
    kind = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if kind == ".txt":
        return [line.strip() for _, line in lines(path) if line.strip()]
    if kind != ".jsonl":
        raise LexLIPError(f"{path}: captions are read from .txt, .jsonl, .txt.gz and .jsonl.gz")
    found: list[str] = []
    for number, row in json_rows(path):
        if isinstance(row, dict) and pick(row, CAPTION_COLUMNS) is None:
            raise LexLIPError(f"{path}, line {number}: no {', '.join(CAPTION_COLUMNS)}")
        found.extend(text.strip() for text in texts_of(row) if text.strip())
    return found

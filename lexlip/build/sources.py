"""Sources that people give in Python: mappings, lists and pairs; tables are in `tables`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from lexlip.build.tables import NAMES, Names, Texts, of_table, table_of
from lexlip.data.collection import Collection
from lexlip.data.given import as_path, as_picture, names_file, names_picture, one_picture
from lexlip.data.readers import CAPTION_COLUMNS, FILE_COLUMNS
from lexlip.errors import LexLIPError
from lexlip.filters.columns import plain
from lexlip.storage.remote import is_remote
from lexlip.storage.stored import Stored

Source = Collection | Mapping[str, str]
AnySource = str | os.PathLike[str] | Collection | Iterable[Any]
"""What `given` and `lexlip.build.encode.as_source` take."""

_WANTED = "give a folder or file, {id: picture}, {id: text}, a list of paths, or a table"


def given(source: Any, split: str | None = None, names: Names = NAMES) -> Source | None:
    """Return what was given as a collection of pictures, or as texts by id.

    Parameters
    ----------
    source : Any
        A mapping of ids to pictures (paths, bytes, arrays, PIL), to texts, or to rows; pairs of
        these; an iterable of paths, whose ids are the paths as given; a table (a pandas or polars
        frame, a pyarrow table, a `datasets.Dataset`, a mapping of names to lists, or an iterable of
        rows) with a column `image`
        or `path`, or with `id` and `text`, other columns being metadata. Ids may be whole numbers.
        A `str` that names a picture (``a.jpg``) is its path.
    split : str, optional
        Of a `datasets.DatasetDict`.
    names : Names
        What columns of a table are called.

    Returns
    -------
    Collection or mapping of str to str
        None for a name or a path, which `lexlip.data.collection.load_collection` reads.

    Raises
    ------
    LexLIPError
        For anything else, with what to give.

    Examples
    --------
    >>> given({1: "two hearts", 2: "two stars"})
    {'1': 'two hearts', '2': 'two stars'}
    >>> given(["trip/a.jpg", "trip/b.jpg"]).ids
    ['trip/a.jpg', 'trip/b.jpg']
    """
    if isinstance(source, Mapping):
        if source and all(hasattr(part, "column_names") for part in source.values()):
            return given(_split(source, split), None, names)
        if source and all(map(_is_row, source.values())):
            if names.id is not None:
                raise LexLIPError("the ids are the keys of the mapping: leave out id_column")
            rows = [{**row, "id": name} for name, row in source.items()]
            return given(rows, None, names._replace(id="id"))
        if _has_columns(source, names):
            return _of_table({name: list(values) for name, values in source.items()}, names)
    elif (table := table_of(source)) is not None:
        return _of_table(table, names)
    elif isinstance(source, Iterable) and not isinstance(source, str) and not one_picture(source):
        source = list(source)
        if not source:
            raise LexLIPError(f"nothing to index, the source is empty: {_WANTED}")
        if all(map(_is_row, source)):
            columns = dict.fromkeys(name for row in source for name in row)
            return _of_table({it: [row.get(it) for row in source] for it in columns}, names)
    if names != NAMES:
        raise LexLIPError("id_column and image_column go with a table: leave them out here")
    if isinstance(source, str | os.PathLike):
        return None
    if isinstance(source, Mapping):
        return _by_id(list(source.items()))
    if not isinstance(source, list):
        raise LexLIPError(f"{type(source).__name__} is no source to index: {_WANTED}")
    if all(isinstance(item, tuple) and len(item) == 2 for item in source):
        return _by_id(source)
    if all(isinstance(item, os.PathLike) or _named(item) for item in source):
        return _by_id([(_named_by(it), it) for it in map(_file, source)])
    kind = "texts" if all(isinstance(it, str) for it in source) else type(source[0]).__name__
    raise LexLIPError(f"a list of {kind} has no ids: {_WANTED}")


def _has_columns(source: Mapping[Any, Any], names: Names) -> bool:
    """Say whether a mapping is of names to columns, one of them with pictures or texts."""
    wanted = {*FILE_COLUMNS, *CAPTION_COLUMNS, names.image}
    lists = (list, tuple, np.ndarray)
    return not wanted.isdisjoint(source) and all(isinstance(it, lists) for it in source.values())


def _is_row(item: Any) -> bool:
    return isinstance(item, Mapping) and as_picture(item) is None


def _named(item: Any) -> bool:
    return isinstance(item, str) and (names_picture(item) or names_file(item))


def _file(item: Any) -> Path | Stored:
    """Return a path that is no folder, or a URL."""
    if is_remote(item):
        return Stored(item)
    if Path(item).is_dir():
        raise LexLIPError(f"{item} is a folder: give one folder at a time, each with add")
    return as_path(item)


def _named_by(picture: Path | Stored) -> str:
    """Return the id of a picture that was given without one: its path, or its URL."""
    return picture.as_posix() if isinstance(picture, Path) else picture.url


def _split(parts: Mapping[str, Any], split: str | None) -> Any:
    if split is None and len(parts) == 1:
        return next(iter(parts.values()))
    if split is None or split not in parts:
        raise LexLIPError(f"the data set has the splits {', '.join(parts)}: give split=")
    return parts[split]


def _id(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Integral) and not isinstance(value, bool):
        return str(int(value))
    raise LexLIPError(f"id {value!r:.60} is {type(value).__name__}: give str or int")


def _ids(values: Iterable[Any]) -> list[str]:
    """Return ids as texts, all different."""
    values = list(values)
    for number, value in enumerate(values, 1):
        if value is not None and plain(value) is None:
            raise LexLIPError(f"document {number} has no id ({value!r}): give each one an id")
    ids = [_id(value) for value in values]
    if len(set(ids)) < len(ids):
        double = Counter(ids).most_common(1)[0][0]
        raise LexLIPError(f"two documents have the id {double!r}: rename one")
    return ids


def _by_id(pairs: Sequence[tuple[Any, Any]]) -> Source:
    """Return texts by id, or a collection of pictures."""
    ids = _ids(name for name, _ in pairs)
    texts: dict[str, str] = {}
    pictures: list[Any] = []
    for name, (_, value) in zip(ids, pairs, strict=True):
        named = isinstance(value, str) and names_picture(value)
        picture = as_path(value) if named else as_picture(value)
        if picture is not None:
            pictures.append(picture)
        elif isinstance(value, str):
            if names_file(value):
                raise LexLIPError(
                    f"{name!r} is {value!r:.80}, which looks like a file and is no picture that "
                    "exists: give a Path of a picture, or texts in a table with `id` and `text`"
                )
            texts[name] = value
        else:
            kind = type(value).__name__
            raise LexLIPError(f"{name!r} is {kind}, no text and no picture: give a path or image")
        if texts and pictures:
            raise LexLIPError(
                f"{name!r} is of another kind, a source holds texts and pictures: index them "
                "separately"
            )
    if texts:
        return texts
    return Collection(ids, [[] for _ in ids], pictures, source="pictures given")


def _of_table(table: Mapping[str, Sequence[Any]], names: Names) -> Source:
    """Return the pictures of a table with their captions and metadata, or its texts by id."""
    if table and not any(len(values) for values in table.values()):
        raise LexLIPError(f"nothing to index, the table is empty: {_WANTED}")
    if len({len(values) for values in table.values()}) > 1:
        raise LexLIPError("the columns of the table differ in length: give one value a document")
    read = of_table(table, names)
    ids = None if read.ids is None else _ids(read.ids)
    if read.pictures is None:
        assert ids is not None
        for name, text in zip(ids, read.texts, strict=True):
            if not isinstance(text, str):
                raise LexLIPError(f"{name!r} has {text!r:.60} for a text: give text")
        return Texts(zip(ids, read.texts, strict=True), read.columns, read.notes)
    pictures = read.pictures
    if isinstance(pictures, list):
        pictures = [_shown(value, row) for row, value in enumerate(pictures)]
    if (
        ids is None
        and isinstance(pictures, list)
        and all(isinstance(p, Path | Stored) for p in pictures)
    ):
        ids = _ids(map(_named_by, pictures))
    ids = [str(row) for row in range(len(pictures))] if ids is None else ids
    return Collection(
        ids, read.captions or [[] for _ in ids], pictures, source="a table given",
        columns=read.columns, left_out=read.notes,
    )  # fmt: skip


def _shown(value: Any, row: int) -> Any:
    picture = as_path(value) if isinstance(value, str) and value else as_picture(value)
    if picture is None:
        raise LexLIPError(f"row {row} of the table has {value!r:.60} for a picture: give a path")
    return picture

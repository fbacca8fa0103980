"""Sources that people give in Python: mappings, lists, pairs, frames and data sets."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

from lexlip.data.collection import Collection
from lexlip.data.given import as_picture, names_picture, one_picture
from lexlip.data.metadata import rows_to_columns
from lexlip.data.readers import CAPTION_COLUMNS, FILE_COLUMNS, ID_COLUMNS, texts_of
from lexlip.errors import LexLIPError

Source = Collection | Mapping[str, str]

_WANTED = "give a folder or file, {id: picture}, {id: text}, a list of paths, or a table"


def given(source: Any, split: str | None = None) -> Source | None:
    """Return what was given as a collection of pictures, or as texts by id.

    Parameters
    ----------
    source : Any
        A mapping of ids to pictures (paths, bytes, arrays, PIL) or to texts; pairs of these; an
        iterable of paths, whose ids are the paths as given; a table (a pandas or polars frame, a
        pyarrow table, a `datasets.Dataset`, or an iterable of rows) with a column `image` or
        `path`, or with `id` and `text`, other columns being metadata. Ids may be whole numbers. A
        `str` that names a picture (``a.jpg``) is its path.
    split : str, optional
        Of a `datasets.DatasetDict`.

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
    if isinstance(source, str | os.PathLike):
        return None
    if isinstance(source, Mapping):
        if source and all(hasattr(part, "column_names") for part in source.values()):
            return given(_split(source, split))
        return _by_id(list(source.items()))
    if (table := _table(source)) is not None:
        return _of_table(table)
    if not isinstance(source, Iterable) or one_picture(source):
        raise LexLIPError(f"{type(source).__name__} is no source to index: {_WANTED}")
    items = list(source)
    if not items:
        raise LexLIPError(f"nothing to index, the source is empty: {_WANTED}")
    if all(isinstance(item, Mapping) for item in items):
        names = dict.fromkeys(name for item in items for name in item)
        return _of_table({name: [item.get(name) for item in items] for name in names})
    if all(isinstance(item, tuple) and len(item) == 2 for item in items):
        return _by_id(items)
    if all(isinstance(item, os.PathLike) or _named(item) for item in items):
        return _by_id([(Path(item).as_posix(), Path(item)) for item in items])
    kind = "texts" if all(isinstance(item, str) for item in items) else type(items[0]).__name__
    raise LexLIPError(f"a list of {kind} has no ids: {_WANTED}")


def _named(item: Any) -> bool:
    return isinstance(item, str) and names_picture(item)


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


def _by_id(pairs: Sequence[tuple[Any, Any]]) -> Source:
    """Return texts by id, or a collection of pictures."""
    ids = [_id(name) for name, _ in pairs]
    if len(set(ids)) < len(ids):
        double = next(name for at, name in enumerate(ids) if name in ids[:at])
        raise LexLIPError(f"two documents have the id {double!r}: rename one")
    texts: dict[str, str] = {}
    pictures: list[Any] = []
    for name, (_, value) in zip(ids, pairs, strict=True):
        picture = Path(value) if _named(value) else as_picture(value)
        if picture is not None:
            pictures.append(picture)
        elif isinstance(value, str):
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


# --- tables ---------------------------------------------------------------------------------------


def _table(source: Any) -> dict[str, Sequence[Any]] | None:
    """Return the columns of a frame or a data set; None for anything else."""
    if hasattr(source, "column_names") and hasattr(source, "cast_column"):  # datasets
        return _dataset(source)
    if hasattr(source, "to_pydict"):  # pyarrow
        return dict(source.to_pydict())
    if hasattr(source, "columns") and hasattr(source, "to_dict"):
        return {str(name): _plain(source[name].to_list()) for name in source.columns}
    return None


def _plain(values: Sequence[Any]) -> list[Any]:
    """Return values of a frame: missing ones as None, dates as text."""
    found = []
    for value in values:
        missing = value is None or type(value).__name__ in ("NAType", "NaTType")
        if not missing and isinstance(value, float):
            missing = value != value
        dated = not missing and hasattr(value, "isoformat")
        found.append(None if missing else value.isoformat() if dated else value)
    return found


class _Column(Sequence[Any]):
    """A column of pictures in a data set, read when asked for."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, i: Any) -> Any:
        return as_picture(self.values[i])


def _dataset(source: Any) -> dict[str, Sequence[Any]]:
    import datasets

    features = source.features
    if features is None:  # of a stream that was never looked into
        raise LexLIPError(f"{type(source).__name__} has no features: give a datasets.Dataset")
    pictures = [name for name, kind in features.items() if isinstance(kind, datasets.Image)]
    for name in pictures:
        source = source.cast_column(name, datasets.Image(decode=False))
    if not hasattr(source, "__len__"):
        rows = list(source)
        source = {name: [row[name] for row in rows] for name in features}
    return {
        name: _Column(source[name]) if name in pictures else source[name][:] for name in features
    }


def _pick(table: Mapping[str, Any], wanted: Sequence[str]) -> str | None:
    return next((name for name in wanted if name in table), None)


def _of_table(table: Mapping[str, Sequence[Any]]) -> Source:
    """Return the pictures of a table with their captions and metadata, or its texts by id."""
    named, told = _pick(table, ID_COLUMNS), _pick(table, CAPTION_COLUMNS)
    shown = _pick(table, FILE_COLUMNS)
    if shown is None:
        if named is None or told is None:
            raise LexLIPError(
                f"the table has the columns {', '.join(map(str, table))}: it needs `image` or "
                "`path`, or `id` and `text`"
            )
        return _by_id(list(zip(table[named], table[told], strict=True)))
    pictures = table[shown]
    if not isinstance(pictures, _Column):
        pictures = [_shown(value, row) for row, value in enumerate(pictures)]
    if named is not None:
        ids = [_id(value) for value in table[named]]
    elif isinstance(pictures, list) and all(isinstance(it, Path) for it in pictures):
        ids = [it.as_posix() for it in pictures]
    else:
        ids = [str(row) for row in range(len(pictures))]
    captions = [texts_of(value) for value in table[told]] if told else [[] for _ in ids]
    captions = [[text.strip() for text in texts if text.strip()] for texts in captions]
    others = [name for name in table if name not in (named, told, shown)]
    rows = [dict(zip(others, row, strict=True)) for row in zip(*(table[o] for o in others))]  # noqa: B905
    columns = rows_to_columns(rows, ()) if rows else {}
    return Collection(ids, captions, pictures, source="a table given", columns=columns)


def _shown(value: Any, row: int) -> Any:
    picture = Path(value) if isinstance(value, str) else as_picture(value)
    if picture is None:
        raise LexLIPError(f"row {row} of the table has {value!r:.60} for a picture: give a path")
    return picture

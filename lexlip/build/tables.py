"""Tables that people give in Python: frames, data sets and rows, whatever library they are of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from lexlip.build.spooled import Spooled
from lexlip.data.given import as_picture
from lexlip.data.left_out import LeftOut
from lexlip.data.metadata import FILE_METADATA, kept_apart, not_columns, rows_to_columns
from lexlip.data.readers import CAPTION_COLUMNS, FILE_COLUMNS, ID_COLUMNS, texts_of
from lexlip.errors import LexLIPError


class Names(NamedTuple):
    """What the columns of ids and pictures are called; None for the usual names."""

    id: str | None = None
    image: str | None = None


NAMES = Names()


class Texts(dict[str, str]):
    """Texts by id, with metadata.

    Parameters
    ----------
    texts : iterable of (str, str)
    columns : mapping of str to sequence
        A value of each text.
    left_out : LeftOut
    """

    def __init__(
        self,
        texts: Iterable[tuple[str, str]],
        columns: Mapping[str, Sequence[Any]],
        left_out: LeftOut,
    ) -> None:
        super().__init__(texts)
        self.columns, self.left_out = columns, left_out


@dataclass(frozen=True)
class Table:
    """The columns of a table by what they mean.

    Attributes
    ----------
    ids : sequence, optional
    pictures : sequence, optional
        Paths, bytes, arrays or PIL.
    texts : sequence
        Where there are no pictures.
    captions : list of list of str
        Of the pictures.
    columns : mapping
        Metadata.
    notes : LeftOut
    """

    ids: Sequence[Any] | None
    pictures: Sequence[Any] | None
    texts: Sequence[Any]
    captions: list[list[str]]
    columns: Mapping[str, Sequence[Any]]
    notes: LeftOut


class Shown(Sequence[Any]):
    """A column of pictures in a data set, read when asked for."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, i: Any) -> Any:
        return as_picture(self.values[i])


def table_of(source: Any) -> dict[str, Sequence[Any]] | None:
    """Return the columns of a frame or a data set; None for anything else."""
    if hasattr(source, "column_names") and hasattr(source, "cast_column"):  # datasets
        return _dataset(source)
    if hasattr(source, "to_pydict"):  # pyarrow
        return dict(source.to_pydict())
    if hasattr(source, "columns") and hasattr(source, "to_dict"):
        return {str(name): source[name].to_list() for name in source.columns}
    return None


def _dataset(source: Any) -> dict[str, Sequence[Any]]:
    import datasets

    if hasattr(source, "with_format"):
        source = source.with_format(None)
    pictures = [
        name for name, kind in (source.features or {}).items() if isinstance(kind, datasets.Image)
    ]
    for name in pictures:
        source = source.cast_column(name, datasets.Image(decode=False))
    if not hasattr(source, "__len__"):
        found = _stream(source)
    else:
        names = source.column_names
        found = {n: Shown(source[n]) if n in pictures else source[n][:] for n in names}
    names = list(found)
    if len(pictures) == 1 and _pick(names, FILE_COLUMNS) is None:
        found["image"] = found.pop(pictures[0])
    return found


def _stream(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the columns of rows that come once; pictures do not stay in memory."""
    found: dict[str, Any] = {}
    count = 0
    for row in rows:
        for name in [name for name in row if name not in found]:
            first: Any = [] if as_picture(row[name]) is None else Spooled()
            for _ in range(count):
                first.append(None)
            found[name] = first
        for name, values in found.items():
            values.append(row.get(name))
        count += 1
    return found


def _pick(table: Iterable[str], wanted: Sequence[str]) -> str | None:
    there = set(table)
    return next((name for name in wanted if name in there), None)


def _column(table: Mapping[str, Any], name: str | None, usual: Sequence[str]) -> str | None:
    """Return the name of a column: the one that was given, else a usual one that is there."""
    if name is not None and name not in table:
        raise LexLIPError(f"the table has no column {name!r}: it has {_listed(table)}")
    return name if name is not None else _pick(table, usual)


def _listed(table: Mapping[str, Any]) -> str:
    return ", ".join(map(str, table)) or "none"


def of_table(table: Mapping[str, Sequence[Any]], names: Names = NAMES) -> Table:
    """Sort the columns of a table by what they mean.

    Parameters
    ----------
    table : mapping of str to sequence
    names : Names

    Raises
    ------
    LexLIPError
        When it has neither pictures, nor ids and texts.

    Examples
    --------
    >>> found = of_table({"path": ["a.jpg"], "year": [2024], "tags": [["sea"]]})
    >>> found.pictures, found.columns, len(found.notes.notes)
    (['a.jpg'], {'year': [2024]}, 1)
    """
    named, told = _column(table, names.id, ID_COLUMNS), _pick(table, CAPTION_COLUMNS)
    shown = _column(table, names.image, FILE_COLUMNS)
    if shown is None and (named is None or told is None):
        raise LexLIPError(
            f"the table has the columns {_listed(table)}: it needs `image` or `path` (or "
            "image_column=), or `id` and `text`"
        )
    files = () if shown is None else FILE_METADATA  # texts have no file
    others = [name for name in table if name not in (named, told, shown, *files)]
    rows = [dict(zip(others, row, strict=True)) for row in zip(*(table[o] for o in others))]  # noqa: B905
    columns = rows_to_columns(rows, ())
    notes = kept_apart(set(table) & set(files), "the table")
    notes += not_columns(others, columns, "the table") if rows else []
    texts = table[told] if told else []
    captions = [[text.strip() for text in texts_of(value) if text.strip()] for value in texts]
    return Table(
        None if named is None else table[named],
        None if shown is None else table[shown],
        texts,
        captions,
        columns,
        LeftOut(notes=notes),
    )

"""Folders of pictures: a walk that follows links, stops at nothing, and says what it leaves out."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from lexlip.data.images import SUFFIXES
from lexlip.data.left_out import LeftOut
from lexlip.data.metadata import FILE_METADATA, kept_apart, not_columns, rows_to_columns
from lexlip.data.raw import without_twins
from lexlip.data.readers import (
    CAPTION_COLUMNS,
    Records,
    csv_rows,
    json_rows,
    no_split,
    texts_of,
)
from lexlip.errors import LexLIPError
from lexlip.filters.columns import nfc

EXCLUDED = (
    "@eaDir",
    "#recycle",
    "#snapshot",
    "@Recycle",
    "@Recently-Snapshot",
    "$RECYCLE.BIN",
    "System Volume Information",
    "lost+found",
    "node_modules",
    "__MACOSX",
    ".thumbnails",
)
"""Names of folders that are left out wherever they are: thumbnails and bins of NAS and systems."""

_ALWAYS = frozenset(EXCLUDED)
TABLES = ("metadata.csv", "metadata.jsonl")


class _Visit(NamedTuple):
    """A folder that was opened: its path below the source, as on disk, and what is in it."""

    below: str
    files: list[os.DirEntry[str]]


def excluded(name: str, below: str, patterns: Sequence[str]) -> str | None:
    """Return the pattern that leaves a file or folder out: of its name, or of its path."""
    if name in _ALWAYS:
        return name
    for pattern in patterns:
        of = below if "/" in pattern else name
        if fnmatchcase(nfc(of), nfc(pattern.strip("/"))):
            return pattern
    return None


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _join(below: str, name: str) -> str:
    return f"{below}/{name}" if below else name


class _Walk:
    """A walk through a folder: folders of its own first, then what links lead to, each once."""

    def __init__(self, source: Path, patterns: Sequence[str], left_out: LeftOut) -> None:
        self.source, self.patterns, self.left_out = source, patterns, left_out
        self._seen: set[tuple[int, int]] = set()
        above = [source.absolute(), *Path(os.path.realpath(source)).parents]
        self._above = {key for path in above[1:] if (key := _key(path))}

    def folders(self, starts: Iterable[str]) -> Iterator[_Visit]:
        """Yield every folder from these on."""
        own, linked = deque(starts), deque[str]()
        while own or linked:
            through_link = not own
            below = own.popleft() if own else linked.popleft()
            path = self.source / below
            try:
                key = _key(path, strict=True)
                if key in self._seen or (through_link and key in self._above):
                    self.left_out.kinds["links to folders that are read anyway"] += 1
                    continue
                with os.scandir(path) as entries:
                    found = sorted(entries, key=lambda entry: entry.name)
            except OSError as error:
                self.left_out.closed.append(nfc(below))
                reason = error.strerror or str(error)
                self.left_out.notes.append(f"{path}: the folder cannot be opened ({reason})")
                continue
            if key is not None:
                self._seen.add(key)
            yield _Visit(below, self._sort(below, found, own, linked))

    def _sort(
        self,
        below: str,
        found: Iterable[os.DirEntry[str]],
        own: deque[str],
        linked: deque[str],
    ) -> list[os.DirEntry[str]]:
        """Return the files of a folder, and put its folders where they are waited for."""
        files = []
        for entry in found:
            inner = _join(below, entry.name)
            try:
                folder = entry.is_dir()
            except OSError:  # a link that leads to itself
                folder = False
            pattern = excluded(entry.name, inner, self.patterns)
            if pattern is not None:
                self.left_out.kinds[pattern] += 1
            elif entry.name.startswith("."):
                self.left_out.kinds["hidden folders" if folder else "hidden files"] += 1
            elif not folder:
                files.append(entry)
            elif not _is_utf8(entry.name):
                reason = f"{self.source / inner}: the folder's name is not UTF-8: rename it"
                self.left_out.skipped.append((inner, reason))
                self.left_out.closed.append(inner)
            else:
                (linked if entry.is_symlink() else own).append(inner)
        return files


def _key(path: Path, strict: bool = False) -> tuple[int, int] | None:
    """Return what tells a folder from every other; None where it cannot be told."""
    try:
        facts = os.stat(path)
    except OSError:
        if strict:
            raise
        return None
    return (facts.st_dev, facts.st_ino) if facts.st_ino else None


def read_image_folder(
    source: Path, splits: Sequence[str] | None, exclude: Sequence[str] = ()
) -> Records:
    """Read every picture below a folder; splits are its subfolders.

    The id is the path relative to the folder, in Unicode's composed form. Captions may stand in a
    ``metadata.csv`` or ``metadata.jsonl`` of any folder, with a column `file_name` relative to it;
    its other columns are metadata. Links are followed, and every folder is read once.

    Parameters
    ----------
    source : Path
    splits : sequence of str, optional
    exclude : sequence of str
        Names (``raw``, ``*.tmp.jpg``) or paths (``2024/raw``) of files and folders to leave out,
        besides `EXCLUDED`.
    """
    starts = list(splits) if splits else [""]
    if not all((source / start).is_dir() for start in starts):
        inside = (p.name for p in source.iterdir() if p.is_dir())
        raise no_split(source, splits or (), inside)
    left_out = LeftOut(patterns=tuple(exclude))
    files: dict[str, Path] = {}
    tables: list[Path] = []
    for below, entries in _Walk(source, exclude, left_out).folders(starts):
        for entry in entries:
            suffix = os.path.splitext(entry.name)[1].lower()
            if entry.name in TABLES:
                tables.append(source / below / entry.name)
            elif suffix not in SUFFIXES:
                left_out.kinds[suffix or "without a suffix"] += 1
            else:
                _add_picture(files, source, _join(below, entry.name), left_out)
    kept, twins = without_twins(files)
    if twins:
        left_out.kinds["RAW files beside their JPEG"] += len(twins)
    found: dict[str, list[str]] = {name: [] for name in kept}
    told: dict[str, dict[str, Any]] = {}
    for table in sorted(tables):
        add_metadata(found, told, source, table, left_out)
    if not found:
        kinds = ", ".join(sorted(SUFFIXES))
        said = "; ".join(left_out.lines(f"{source}"))
        raise LexLIPError(
            f"no picture in {source}: give a folder that holds {kinds} files"
            + (f" ({said})" if said else "")
        )
    ids = sorted(found)
    apart = ("file_name", *CAPTION_COLUMNS, *FILE_METADATA)
    columns = rows_to_columns((told.get(i, {}) for i in ids), apart)
    names = {name for row in told.values() for name in row} - set(apart)
    left_out.notes.extend(not_columns(names, columns, source))
    pictures = [files.get(i) or source / i for i in ids]
    return Records(ids, [found[i] for i in ids], pictures, columns=columns, left_out=left_out)


def _add_picture(files: dict[str, Path], source: Path, below: str, left_out: LeftOut) -> None:
    """Add a file by its id; one that cannot have an id of its own is skipped by name."""
    path = source / below
    if not _is_utf8(below):
        left_out.skipped.append((below, f"{path}: its name is not UTF-8: rename it"))
        return
    name = nfc(below)
    if name in files:  # the composed form wins, as where a picture is found again
        own = source / name
        kept, other = sorted((files[name], path), key=lambda it: (it != own, it))
        reason = f"{other}: another file has the same name in another Unicode form: rename one"
        left_out.skipped.append((os.path.relpath(other, source), reason))
        path = kept
    files[name] = path


def add_metadata(
    found: dict[str, list[str]],
    told: dict[str, dict[str, Any]],
    source: Path,
    path: Path,
    left_out: LeftOut,
) -> None:
    """Join the rows of a table to the pictures; a table of another kind is said and left out."""
    try:
        rows = list(csv_rows(path) if path.suffix == ".csv" else json_rows(path))
    except LexLIPError as error:
        left_out.notes.append(f"{error}: it is left out")
        return
    named = [
        row for _, row in rows
        if isinstance(row, Mapping) and isinstance(row.get("file_name"), str)
    ]  # fmt: skip
    if rows and not named:
        left_out.notes.append(f"{path} has no column 'file_name': it is left out")
        return
    if bad := len(rows) - len(named):
        rows_ = "1 row has" if bad == 1 else f"{bad} rows have"
        left_out.notes.append(f"{path}: {rows_} no 'file_name' and are left out")
    apart = kept_apart({name for row in named for name in row}, path)
    left_out.notes.extend(apart)
    folder = path.parent.relative_to(source)
    for row in named:
        name = _named(found, source, folder, row["file_name"])
        found.setdefault(name, []).extend(texts_of(row))
        told.setdefault(name, {}).update(row)


def _named(found: Mapping[str, Any], source: Path, folder: Path, file_name: str) -> str:
    """Return the id that a cell means: ``./a.png``, ``sub\\a.png`` and whole paths as well."""
    names = []
    for written in (file_name, file_name.strip().replace("\\", "/")):
        path = Path(written)
        if path.is_absolute() and path.is_relative_to(source.absolute()):
            path = path.relative_to(source.absolute())
        else:
            path = folder / path
        names.append(nfc(Path(os.path.normpath(path)).as_posix()))
    return next((name for name in names if name in found), names[-1])

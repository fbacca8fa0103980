"""Roots of an index: the folders and tables that its pictures come from, remembered.

Ids of the first root are as they are; ids of every other begin with its name, so that pictures of
two roots never have the same id. A root that lies in another is part of that one, and a root that
was moved is found again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lexlip.data.addresses import is_addressed
from lexlip.data.collection import Collection
from lexlip.data.images import SUFFIXES
from lexlip.errors import LexLIPError
from lexlip.filters.columns import nfc
from lexlip.storage.ids import is_id
from lexlip.storage.remote import Remote, is_remote
from lexlip.storage.seal import read_sealed, write_sealed
from lexlip.storage.stored import Stored

FILE = "sources.json"
FORMAT = "lexlip-sources/1"
_RESERVED = ("uploads",)
"""Ids of pictures that were posted to a server begin so."""

Fetch = Callable[[Sequence[str]], Sequence[Mapping[str, Any] | None]]
"""Returns the metadata of each id that an index holds, None for other ids."""


@dataclass(frozen=True)
class Root:
    """A folder, table or data set, and how ids of its pictures begin in the index."""

    path: str
    split: str | None = None
    prefix: str = ""

    @cached_property
    def folder(self) -> Path | None:
        """The folder that ids are paths in; None for tables and data sets."""
        if is_addressed(self.path):
            return None
        path = Path(self.path)
        if path.suffix.lower() in SUFFIXES and not path.is_dir():
            return path.parent
        if not path.is_dir():
            return None
        tables = any(path.glob("*.parquet")) or any(path.glob("data/*.parquet"))
        return None if tables else path

    @property
    def gone(self) -> bool:
        """Whether there is nothing any more: no file, or a folder without anything in it."""
        if is_addressed(self.path):
            return False
        try:
            return not os.path.isfile(self.path) and not any(os.scandir(self.path))
        except OSError:
            return True

    def id(self, below: str) -> str:
        """Return the id of a picture by the id that it has in this root alone."""
        return f"{self.prefix}/{below}" if self.prefix else below


@dataclass(frozen=True)
class Settled:
    """Pictures with the ids that they have in an index.

    Attributes
    ----------
    documents : Collection, or mapping of str to str
        Pictures, or texts by id.
    root : int
        Number of their root; -1 where they have none.
    scope : str or None
        Ids that begin so are those of the folder that was read; None where a part of one was.
    closed : tuple of str
        Ids of folders that could not be opened.
    skipped : tuple of (str, str)
        Pictures that can have no id in the index, and why.
    notes : tuple of str
        What is to be said, a line each.
    """

    documents: Any
    root: int = -1
    scope: str | None = None
    closed: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    def covers(self, id: str) -> bool:
        """Return whether a picture of this id would have been read if it were there."""
        if self.scope is None or not id.startswith(self.scope):
            return False
        return not any(id == folder or id.startswith(f"{folder}/") for folder in self.closed)


@dataclass(frozen=True)
class Sources:
    """The roots of an index, and the patterns of what is left out of them.

    Examples
    --------
    >>> sources = Sources((Root("/home/me/photos"), Root("/media/card", prefix="card")))
    >>> sources.root_of("trip/a.jpg"), sources.root_of("card/a.jpg")
    (0, 1)
    """

    roots: tuple[Root, ...] = ()
    exclude: tuple[str, ...] = ()

    @classmethod
    def read(cls, folder: Path, manifest: Mapping[str, Any]) -> Sources:
        """Read them from an index; its manifest names the first root.

        Raises
        ------
        LexLIPError
            When the file is damaged.
        """
        if not (folder / FILE).is_file():
            first = manifest.get("pictures")
            return cls((Root(**first),) if first else ())
        found = read_sealed(folder / FILE)
        try:
            if found["format"] != FORMAT:
                raise KeyError(found["format"])
            roots = tuple(Root(**root) for root in found["roots"])
            texts = [text for r in roots for text in (r.path, r.prefix, r.split or "")]
            if not all(isinstance(text, str) for text in (*texts, *found["exclude"])):
                raise TypeError("a name is no text")
            return cls(roots, tuple(found["exclude"]))
        except (KeyError, TypeError):
            raise LexLIPError(
                f"{folder / FILE} is damaged, or of another version: restore it"
            ) from None

    def write(self, folder: Path) -> None:
        """Write them into an index."""
        roots = [{"path": r.path, "split": r.split, "prefix": r.prefix} for r in self.roots]
        facts = {"format": FORMAT, "roots": roots, "exclude": list(self.exclude)}
        write_sealed(folder / FILE, facts)

    def root_of(self, id: str) -> int:
        """Return the number of the root that an id belongs to, -1 for none."""
        for number, root in enumerate(self.roots):
            if root.prefix and id.startswith(f"{root.prefix}/"):
                return number
        return next((n for n, root in enumerate(self.roots) if not root.prefix), -1)

    def id_of(self, path: str | Path) -> str | None:
        """Return the id of a picture in one of the folders, None for anything else."""
        found = []
        for root in self.roots:
            below = _below(os.fspath(path), root) if root.folder is not None else None
            if below:
                found.append((len(str(root.folder)), root.id(nfc(below))))
        return max(found)[1] if found else None

    def excluding(self, patterns: Sequence[str]) -> Sources:
        """Return these with more patterns."""
        return replace(self, exclude=tuple(dict.fromkeys((*self.exclude, *patterns))))

    def settle(self, documents: Any, held: Fetch) -> tuple[Sources, Settled]:
        """Give pictures the ids that they have in the index.

        Parameters
        ----------
        documents : Collection, or mapping of str to str
            Of one folder, picture, table or data set; given pictures and texts keep their ids.
        held : callable
            What the index holds: tells a moved root from a new one.

        Returns
        -------
        (Sources, Settled)
            With the root, where it is new or was moved.
        """
        if not isinstance(documents, Collection) or documents.place is None:
            return self, Settled(documents)
        where = Root(*documents.place)
        found = self._holding(where)
        if found is not None:
            number, below = found
            return self._with_split(number, where.split)._settled(documents, number, below)
        if not self.roots:
            return replace(self, roots=(where,))._settled(documents, 0, "")
        for number, root in enumerate(self.roots):
            moved = replace(_whole(where), prefix=root.prefix)
            if root.gone and _same(documents, moved, held):
                roots = (*self.roots[:number], moved, *self.roots[number + 1 :])
                note = f"the pictures of {root.path} are now in {moved.path}"
                return replace(self, roots=roots)._settled(documents, number, "", note)
        new = replace(_whole(where), prefix=self._prefix(where.path))
        note = (
            f"the index has pictures of {self.roots[0].path}, "
            f"so ids of {new.path} begin with {new.prefix}/"
        )
        sources = replace(self, roots=(*self.roots, new))
        return sources._settled(documents, len(self.roots), "", note)

    def _holding(self, where: Root) -> tuple[int, str] | None:
        """Return the innermost root that a place lies in, and where; None where there is none."""
        found = []
        for number, root in enumerate(self.roots):
            below = _below(str(where.folder or where.path), root)
            if below is not None and (root.folder is None) == (where.folder is None):
                depth = len(Path(root.path).parts)
                found.append((depth, number, below if root.folder is not None else ""))
        return max(found)[1:] if found else None

    def _with_split(self, number: int, split: str | None) -> Sources:
        """Return these with one more split of a table that was read in splits."""
        root = self.roots[number]
        had = None if root.split is None or root.folder is not None else root.split.split("+")
        if had is None or (split is not None and set(split.split("+")) <= set(had)):
            return self
        both = None if split is None else "+".join(dict.fromkeys([*had, *split.split("+")]))
        roots = list(self.roots)
        roots[number] = replace(root, split=both)
        return replace(self, roots=tuple(roots))

    def _settled(
        self, documents: Collection, number: int, below: str, note: str = ""
    ) -> tuple[Sources, Settled]:
        root, start = self.roots[number], f"{nfc(below)}/" if below else ""
        inner = self._inner(root)
        ids = [_of_inner(root.id(start + name), root, inner) for name in documents.ids]
        reserved = {
            f"{other.prefix}/": other.path
            for other in self.roots
            if other.prefix and not root.prefix and other not in [it for _, it in inner]
        }
        taken = {row: p for row, id in enumerate(ids) for p in reserved if id.startswith(p)}
        skipped = [(root.id(start + name), why) for name, why in documents.left_out.skipped]
        for row, prefix in taken.items():
            reason = f"{ids[row]}: ids that begin so are those of {reserved[prefix]}"
            skipped.append((ids[row], f"{reason}: rename the folder"))
        closed = [root.id(start + name) for name in documents.left_out.closed]
        scope = root.id(start) if self._is_whole(documents, root) else None
        if taken or ids != documents.ids:
            kept = [row for row in range(len(ids)) if row not in taken]
            documents = documents.select(kept).renamed([ids[row] for row in kept])
        notes = (note,) if note else ()
        return self, Settled(documents, number, scope, tuple(closed), tuple(skipped), notes)

    def _inner(self, root: Root) -> list[tuple[str, Root]]:
        """Return roots that lie in a root, and where they do."""
        if root.folder is None:
            return []
        found = [
            (below, other) for other in self.roots
            if other is not root and other.folder is not None
            and (below := _below(other.path, root))
        ]  # fmt: skip
        return sorted(found, key=lambda pair: -len(pair[0]))

    @staticmethod
    def _is_whole(documents: Collection, root: Root) -> bool:
        """Return whether a collection is all that lies in a folder, or a table."""
        place = documents.place
        if place is None or not documents.whole:
            return False
        if root.folder is None:
            return place.split == root.split
        return place.split is None and Path(place.path).is_dir()

    def _prefix(self, place: str) -> str:
        """Return how ids of a new root begin: its name, with a number where that is taken."""
        path = Path(Remote(place).name if is_remote(place) else place)
        name = nfc(path.name if path.is_dir() else path.stem).encode("utf-8", "replace").decode()
        if is_addressed(place):  # photos-{000..099}.tar
            name = re.sub(r"[-_.]*[*?{\[].*", "", name)
        taken = {*_RESERVED, *(root.prefix for root in self.roots)}
        folders = [root.folder for root in self.roots if not root.prefix and root.folder]
        number, prefix = 1, name or "root"
        while prefix in taken or any((folder / prefix).exists() for folder in folders):
            number += 1
            prefix = f"{name or 'root'}-{number}"
        return prefix


def _whole(where: Root) -> Root:
    """Return the root of a place: of one picture, and of a part of a folder, the folder."""
    return where if where.folder is None else Root(str(where.folder))


def _below(path: str, root: Root) -> str | None:
    """Return where a path lies below a root, "" for the root itself, None where it does not."""
    if is_remote(path) or is_remote(root.path):
        return "" if path.rstrip("/") == root.path.rstrip("/") else None
    start = root.folder or Path(root.path)
    for real in (os.path.abspath, os.path.realpath):  # a link may lead in, or out
        try:
            relative = Path(real(path)).relative_to(real(start))
        except ValueError:
            continue
        return "" if relative == Path() else relative.as_posix()
    return None


def _of_inner(name: str, root: Root, inner: Sequence[tuple[str, Root]]) -> str:
    """Return the id of a picture in the innermost of the roots that hold it."""
    for below, other in inner:
        start = root.id(nfc(below)) + "/"
        if name.startswith(start):
            return other.id(name.removeprefix(start))
    return name


def _same(documents: Collection, root: Root, held: Fetch) -> bool:
    """Say whether an index holds these pictures: most of what it holds has the same size."""
    every = range(0, len(documents), max(1, len(documents) // 1000))
    sample = [row for row in every if is_id(root.id(documents.ids[row]))]
    facts = held([root.id(documents.ids[row]) for row in sample])
    there = [(row, old) for row, old in zip(sample, facts, strict=True) if old is not None]
    equal = sum(old.get("bytes") == _size(documents.picture(row)) for row, old in there)
    return bool(there) and 2 * equal >= len(there)


def _size(picture: Any) -> int | None:
    try:
        if isinstance(picture, Stored):
            return picture.size
        return len(picture) if isinstance(picture, bytes) else os.stat(picture).st_size
    except (OSError, TypeError):
        return None

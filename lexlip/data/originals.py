"""The pictures that an index was made of, found again by their ids."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from lexlip.data.collection import Collection, load_collection
from lexlip.data.roots import FILE, Root, Sources
from lexlip.data.url_folders import UrlFolder, is_url_folder
from lexlip.errors import LexLIPError
from lexlip.filters.columns import nfc
from lexlip.storage.remote import is_remote
from lexlip.storage.stored import Stored


class _Original:
    """The pictures of one root, by the ids that they have in it."""

    def __init__(self, root: Root, exclude: Sequence[str]) -> None:
        self.root, self._exclude = root, exclude
        self._behind = UrlFolder(root.path) if is_url_folder(root.path) else None

    @cached_property
    def _loaded(self) -> tuple[Collection | None, dict[str, int], str | None]:
        try:
            collection = load_collection(self.root.path, self.root.split, exclude=self._exclude)
        except LexLIPError as error:
            return None, {}, str(error)
        return collection, {name: row for row, name in enumerate(collection.ids)}, None

    @property
    def collection(self) -> Collection | None:
        return None if self._behind is not None else self._loaded[0]

    @property
    def problem(self) -> str | None:
        if self._behind is not None or self.root.folder is not None:
            return None
        return self._loaded[2]

    def find(self, below: str) -> Path | bytes | None:
        """Return a picture by the id that it has in this root."""
        if self._behind is not None:
            return self._behind.find(below)
        if self.root.folder is not None:
            parts = PurePosixPath(below)
            inside = not parts.is_absolute() and ".." not in parts.parts
            return _file_of(self.root.folder, parts.parts) if inside else None
        collection, rows, _ = self._loaded
        if collection is None or below not in rows:
            return None
        found = collection.picture(rows[below])
        if isinstance(found, Stored):
            return found.read()
        return found if isinstance(found, bytes) or found.is_file() else None


def is_below(path: Path, folder: Path) -> bool:
    """Return whether a file lies in a folder once all links are followed."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _file_of(folder: Path, names: Sequence[str]) -> Path | None:
    """Return the file of these names; on disk they may have another Unicode form."""
    path = folder.joinpath(*names)
    if os.path.isfile(path):
        return path
    if all(name.isascii() for name in names):
        return None
    found = [folder]  # several folders may differ in their form alone
    for name in names:
        found = [place / own for place in found for own in _names(place) if nfc(own) == nfc(name)]
    return next(filter(os.path.isfile, sorted(found)), None)


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except (OSError, ValueError):
        return []


def _stamp(index: Path) -> int | None:
    try:
        return os.stat(index / FILE).st_mtime_ns
    except OSError:
        return None


class Originals:
    """The places of an index's pictures.

    Parameters
    ----------
    path : path, URL or None
        What was indexed: a folder of pictures, here or behind a URL, one picture, or what else
        `lexlip.data.collection.load_collection` reads. None finds nothing.
    split : str, optional
        For sources that have several.

    Examples
    --------
    >>> Originals("photos").find("trip/a.jpg") is None  # no such file here
    True
    """

    def __init__(self, path: str | Path | None, split: str | None = None) -> None:
        named = path if path is None or is_remote(path) else Path(path).absolute()
        roots = () if named is None else (Root(str(named), split),)
        self._given = False
        self._stamp: int | None = None
        self._take(Sources(roots))

    def _take(self, sources: Sources) -> None:
        originals = [_Original(root, sources.exclude) for root in sources.roots]
        self._places = sources, originals  # at once: threads read them

    @property
    def _sources(self) -> Sources:
        return self._places[0]

    @classmethod
    def of(cls, index: str | os.PathLike[str], manifest: Mapping[str, Any]) -> Originals:
        """Read from the folder of an index, and its manifest, where its pictures were."""
        found = cls(None)
        found._stamp = _stamp(Path(index))
        found._take(Sources.read(Path(index), manifest))
        return found

    def at(self, path: str | Path | None, split: str | None = None) -> Originals:
        """Return the same with the first place moved to another path, or read in another split."""
        had = self._sources.roots
        first = Originals(path or (had[0].path if had else None), split)._sources.roots
        found = Originals(None)
        found._given, found._stamp = True, self._stamp
        found._take(Sources((*first, *self._sources.roots[1:]), self._sources.exclude))
        return found

    def renew(self, index: Path) -> None:
        """Read again what an index remembers, if that changed; a given place stays."""
        stamp = _stamp(index)
        if stamp is None or stamp == self._stamp:
            return
        now = Sources.read(index, {})
        first = self._sources.roots[:1] if self._given else now.roots[:1]
        self._take(replace(now, roots=(*first, *now.roots[1:])))
        self._stamp = stamp

    @property
    def path(self) -> Path | None:
        """The first place."""
        return Path(self._sources.roots[0].path) if self._sources.roots else None

    @property
    def folder(self) -> Path | None:
        """The first folder that ids are paths in; None where there are only collections."""
        folders = (root.folder for root in self._sources.roots)
        return next((folder for folder in folders if folder is not None), None)

    @cached_property
    def collection(self) -> Collection | None:
        """All indexed collections together, as they are now; None where none can be read."""
        found = [(it.root, it.collection) for it in self._places[1]]
        loaded = [(root, part) for root, part in found if part is not None]
        if len(loaded) == 1 and not loaded[0][0].prefix:
            return loaded[0][1]
        ids, captions, pictures = dict[str, None](), list[list[str]](), list[Any]()
        for _, part in loaded:
            _, settled = self._sources.settle(part, lambda ids: [None] * len(ids))
            documents = settled.documents
            for row, name in enumerate(documents.ids):
                if name not in ids:
                    ids[name] = None
                    captions.append(documents.captions[row])
                    pictures.append(documents.picture(row))
        if not loaded:
            return None
        return Collection(list(ids), captions, pictures, source=str(self.path))

    @property
    def problem(self) -> str | None:
        """Why no picture can be found; None where some may be."""
        if not self._places[1]:
            return "this index does not say where its pictures are"
        problems = [original.problem for original in self._places[1]]
        return None if None in problems else problems[0]

    def find(self, id: str) -> Path | bytes | None:
        """Return a picture's file or bytes as they lie there, None where there is none.

        No id leads out of its folder, but a link there may: see `leads_out`.
        """
        sources, originals = self._places
        number = sources.root_of(id)
        if number < 0:
            return None
        prefix = sources.roots[number].prefix
        return originals[number].find(id.removeprefix(f"{prefix}/") if prefix else id)

    def leads_out(self, id: str, found: Path) -> bool:
        """Return whether links lead from a picture that was found to a file out of its folder.

        The folder is the root; of a picture that a table names, the folder of the file.
        """
        sources = self._places[0]
        number = sources.root_of(id)
        folder = sources.roots[number].folder if number >= 0 else None
        return not is_below(found, folder or found.parent)

    def id_of(self, path: str | Path) -> str | None:
        """Return the id of a picture in one of the folders, None for anything else."""
        return self._sources.id_of(path)

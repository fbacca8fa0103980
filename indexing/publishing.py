"""Sources of a publication: encoded parts, or an index, in an order that never changes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from scipy.sparse import csr_array

from lexlip.build.encoded_parts import Encoded
from lexlip.build.identity import mark
from lexlip.build.manifest import new_manifest
from lexlip.build.recipe import Recipe
from lexlip.build.side_stores import FILES, FLOATS, VECTORS, VIEWS, SideStores
from lexlip.build.write import ENGINE, impacts_of, note_skipped
from lexlip.data.roots import Sources
from lexlip.engines import Hit
from lexlip.errors import LexLIPError
from lexlip.index import Index
from lexlip.storage.file_facts import FactStore
from lexlip.storage.files import MANIFEST
from lexlip.storage.folder_lock import LOCK, OWNER
from lexlip.storage.generations import CURRENT

PUBLISHED = "published.json"
"""File of a published index: what was published."""

_MANY = 2000
"""Documents of a batch of an index."""

_OWN = (ENGINE, FLOATS, VIEWS, VECTORS, FILES, MANIFEST, PUBLISHED, LOCK, OWNER)


class Batch(NamedTuple):
    """Some documents on their way into an engine.

    Attributes
    ----------
    ids : list of str
    impacts : csr_array [N, V]
    columns : mapping
    keep : callable
        Writes what is kept of them besides.
    """

    ids: Sequence[str]
    impacts: csr_array
    columns: Mapping[str, Sequence[Any]] | None
    keep: Callable[[SideStores], None]


class Sample(NamedTuple):
    """Documents as a source has them: ids, impacts, and metadata without missing values."""

    ids: list[str]
    impacts: csr_array
    metadata: list[dict[str, Any]]


class Source(Protocol):
    """Documents in an order that is the same each time that they are read."""

    manifest: dict[str, Any]
    key: str

    def __len__(self) -> int:
        """Return the number of documents."""
        ...

    def batches(self, after: int) -> Iterator[Batch]:
        """Yield the documents after the first so many."""
        ...

    def name(self, number: int) -> str:
        """Return the id of a document."""
        ...

    def sample(self, numbers: Sequence[int]) -> Sample:
        """Read the documents with these numbers, in ascending order."""
        ...

    def prepare(self, folder: Path) -> None:
        """Write what an index keeps besides manifest, engine and stores."""
        ...


def _sum(*facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()


@dataclass
class Parts:
    """Encoded parts as a source, in their order.

    Parameters
    ----------
    encoded : Encoded
    recipe : Recipe
        How they are stored.
    """

    encoded: Encoded
    recipe: Recipe

    def __post_init__(self) -> None:
        self._ids = [self.encoded.ids(number) for number in range(len(self.encoded))]
        self._ends = [0, *accumulate(map(len, self._ids))]
        self.key = _sum(self.encoded.manifest["parts"], self._ends, self.recipe.facts())
        first = next((number for number, ids in enumerate(self._ids) if ids), None)
        if first is None:
            raise LexLIPError(f"no readable picture in {self.encoded.folder}: encode others")
        weights = self.encoded.read(first).weights
        self.manifest = new_manifest(weights, self.encoded.origin, self.recipe)

    def __len__(self) -> int:
        return self._ends[-1]

    def batches(self, after: int) -> Iterator[Batch]:
        """Yield the documents of each part; see `Source.batches`."""
        for number, end in enumerate(self._ends[1:]):
            if end <= after or not self._ids[number]:
                continue
            chunk = self.encoded.read(number)
            skip = max(0, after - self._ends[number])
            columns = {name: values[skip:] for name, values in (chunk.columns or {}).items()}
            impacts = impacts_of(chunk, self.manifest)[skip:]
            yield Batch(chunk.ids[skip:], impacts, columns, lambda kept, it=chunk: kept.write(it))  # type: ignore[misc]

    def name(self, number: int) -> str:
        """Return the id of a document."""
        part = int(np.searchsorted(self._ends, number, side="right")) - 1
        return self._ids[part][number - self._ends[part]]

    def sample(self, numbers: Sequence[int]) -> Sample:
        """Read documents again; see `Source.sample`."""
        asked = np.asarray(numbers)
        found: list[Sample] = []
        for part, (start, end) in enumerate(zip(self._ends, self._ends[1:], strict=False)):
            rows = (asked[(asked >= start) & (asked < end)] - start).tolist()
            if rows:
                chunk = self.encoded.read(part)
                impacts, columns = impacts_of(chunk, self.manifest), chunk.columns or {}
                metadata = [
                    {name: it[row] for name, it in columns.items() if it[row] is not None}
                    for row in rows
                ]
                found.append(Sample([chunk.ids[row] for row in rows], impacts[rows], metadata))
        return _joined(found)

    def prepare(self, folder: Path) -> None:
        """Note what was skipped and what is left out."""
        skipped = [pair for number in range(len(self.encoded)) for pair in self._skipped(number)]
        note_skipped(folder, [*self.encoded.skipped, *skipped])
        if excluded := self.encoded.manifest.get("exclude"):
            Sources.read(folder, self.manifest).excluding(excluded).write(folder)

    def _skipped(self, number: int) -> Sequence[tuple[str, str]]:
        full = len(self._ids[number]) == len(self.encoded.rows(number))
        return () if full else self.encoded.read(number).skipped


class Whole:
    """An index as a source, by id.

    Parameters
    ----------
    index : Index
        Open for reading.
    engine : str
        Of the new index.
    """

    def __init__(self, index: Index, engine: str) -> None:
        self._index, self._engine = index, index.engine
        self.manifest = {**index.manifest, "engine": engine}
        where = (mark(index.path), self._engine.generation)
        self.key = _sum(os.path.realpath(index.path), where, self.manifest)
        self._names: list[str] | None = None

    def __len__(self) -> int:
        return len(self._engine)

    def batches(self, after: int) -> Iterator[Batch]:
        """Yield documents by id, some thousand at a time; see `Source.batches`."""
        with ExitStack() as closing:
            files = self._facts()
            if files is not None:
                closing.callback(files.close)
            for ids, impacts in self._engine.walk():
                if after >= len(ids):
                    after -= len(ids)
                    continue
                for start in range(after, len(ids), _MANY):
                    names, rows = ids[start : start + _MANY], impacts[start : start + _MANY]
                    yield Batch(names, rows, self._columns(names), self._keeper(names, files))
                after = 0

    def _columns(self, ids: Sequence[str]) -> dict[str, list[Any]]:
        rows = [row or {} for row in self._engine.fetch(ids)]
        return {name: [row.get(name) for row in rows] for name in self._engine.kinds}

    def _facts(self) -> FactStore | None:
        folder = self._index.path / FILES
        return FactStore(folder, "r") if (folder / CURRENT).is_file() else None

    def _keeper(self, ids: Sequence[str], files: FactStore | None) -> Callable[[SideStores], None]:
        def keep(kept: SideStores) -> None:
            ours = self._index.side_stores
            if kept.floats is not None and ours.floats is not None:
                kept.floats.take(ours.floats, ids)
            if kept.views is not None and ours.views is not None:
                kept.views.take(ours.views, ids)
            if kept.files is not None and files is not None:
                kept.files.take(files, ids)
            if kept.vectors is not None and ours.vectors is not None:
                kept.vectors.take(ours.vectors, ids)
            elif kept.vectors is not None:  # the engine has them
                found = self._engine.locate([Hit(name, 1) for name in ids])
                kept.vectors.take_spans(found.names(), found.spans or ())

        return keep

    def name(self, number: int) -> str:
        """Return the id of a document."""
        if self._names is None:
            self._names = sorted(self._engine.ids())
        return self._names[number]

    def sample(self, numbers: Sequence[int]) -> Sample:
        """Read documents again; see `Source.sample`."""
        ids = [self.name(number) for number in numbers]
        metadata = [dict(row or {}) for row in self._engine.fetch(ids)]
        return Sample(ids, self._engine.impacts(ids), metadata)

    def prepare(self, folder: Path) -> None:
        """Copy the other files of the index."""
        for entry in os.scandir(self._index.path):
            if entry.name not in _OWN and not entry.is_symlink():
                if entry.is_dir():
                    shutil.copytree(entry.path, folder / entry.name, dirs_exist_ok=True)
                else:
                    shutil.copy2(entry.path, folder / entry.name)


def _joined(parts: Sequence[Sample]) -> Sample:
    from scipy.sparse import vstack

    ids = [name for part in parts for name in part.ids]
    metadata = [row for part in parts for row in part.metadata]
    return Sample(ids, csr_array(vstack([part.impacts for part in parts])), metadata)

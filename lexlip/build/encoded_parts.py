"""Encoded parts: vectors of a collection on disk, from which a bulk build indexes.

    manifest.json      the model, the term budget, and a key of each part
    part-000017/       weights.npz (CSR, float32), documents.json, manifest.json (key, checksums),
                       if the recipe keeps views, views.safetensors, and of a model with vectors
                       said.npz and, where they are kept, vectors.safetensors

A part is a fixed range of documents. Its key is a hash of all that it depends on: the model, the
vocabulary, the recipe, and the ids, files and metadata of its documents. A part with the right key
and checksums is reused; any other part is encoded again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_array, load_npz, save_npz

from lexlip.build.encode import CHUNK, Chunk, columns_of
from lexlip.build.manifest import ORIGIN, bank_digest, has_said, normalises, origin
from lexlip.build.recipe import Recipe
from lexlip.data.collection import Collection
from lexlip.errors import LexLIPError
from lexlip.filters.columns import read_columns
from lexlip.impacts import Lengths, document_rows
from lexlip.storage.file_facts import FileFacts
from lexlip.storage.files import MANIFEST, atomic_directory, read_json, sha256_file, write_json
from lexlip.storage.folder_lock import LOCK, OWNER, FolderLock
from lexlip.storage.stored import Stored
from lexlip.storage.views import Vectors, Views

if TYPE_CHECKING:
    from lexlip.models.speaker import Speaker

FORMAT = "lexlip-encoded/2"
_WEIGHTS, _DOCUMENTS, _VIEWS = "weights.npz", "documents.json", "views.safetensors"
_SAID, _VECTORS = "said.npz", "vectors.safetensors"


def _narrow(rows: csr_array) -> csr_array:
    """Return rows as float32 with int32 indices."""
    places = rows.indices.astype(np.int32), rows.indptr.astype(np.int32)
    return csr_array((rows.data.astype(np.float32), *places), shape=rows.shape)


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, default=str).encode()).hexdigest()


def _etags(source: Collection, rows: range) -> list[str]:
    """Return what changes with pictures behind URLs, besides their metadata."""
    found = (source.picture(row) for row in rows)
    etags = [picture.etag for picture in found if isinstance(picture, Stored)]
    return etags if any(etags) else []


def _fact(row: list[Any] | None) -> FileFacts | None:
    """Read the facts of a file as a part keeps them."""
    if row is None:
        return None
    size, date, digest, placed = row
    return FileFacts(size, date, bytes.fromhex(digest), placed)


@dataclass(frozen=True)
class Encoded:
    """A folder of encoded documents, in parts; iterating reads them chunk by chunk.

    Attributes
    ----------
    folder : Path
    manifest : dict
        `documents` (their number), `part_size`, `ids` and `parts` (hashes), the recipe, and the
        facts of `lexlip.build.manifest.origin`.

    Examples
    --------
    >>> with Encoded.plan("photos.parts", model, photos, recipe) as encoded:      # doctest: +SKIP
    ...     for number in encoded.missing():
    ...         encoded.write(number, encode_pictures(model, photos, encoded.rows(number)))
    >>> Index.from_encoded("photos.lex", "photos.parts")                      # doctest: +SKIP
    """

    folder: Path
    manifest: dict[str, Any]

    @classmethod
    @contextmanager
    def plan(
        cls,
        folder: str | os.PathLike[str],
        model: Speaker,
        source: Collection,
        recipe: Recipe,
        checkpoint: str | os.PathLike[str] | None = None,
        part_size: int = CHUNK,
    ) -> Iterator[Encoded]:
        """Plan the parts of a folder; sound parts stay.

        Within the block no other process can plan this folder.

        Parameters
        ----------
        folder : path
            Created if missing.
        model : Speaker
        source : Collection
        recipe : Recipe
            How pictures are encoded.
        checkpoint : path, optional
            Where the model can be loaded from; by default where it came from.
        part_size : int
            Documents per part. The first part with a readable picture fixes an index's scale.

        Raises
        ------
        LexLIPError
            When the folder holds something else or another process writes it, when there are no
            pictures, or when no index would take their metadata.
        """
        if part_size < 1:
            raise LexLIPError(f"part_size is {part_size}: give 1 or more")
        if not len(source):
            raise LexLIPError(f"no picture in {source.source}: give pictures to encode")
        read_columns(source.columns, len(source))
        facts = origin(model, source, checkpoint)
        base = [facts["model"], facts["vocabulary"], *recipe.encoding().values()]
        runs = [
            range(start, min(start + part_size, len(source)))
            for start in range(0, len(source), part_size)
        ]
        manifest = {
            "format": FORMAT,
            **facts,
            **recipe.encoding(),
            "skipped": source.left_out.skipped,
            "left_out": source.left_out.lines(source.source),
            "exclude": source.left_out.patterns,
            "documents": len(source),
            "part_size": part_size,
            "ids": _sha256(source.ids),
            "parts": [
                _sha256([base, source.ids[run.start : run.stop], columns_of(source, run), *etags])
                for run in runs
                for etags in [_etags(source, run)]
            ],
        }
        encoded = cls(Path(folder), manifest)
        lock = encoded._lock()
        try:
            write_json(encoded.folder / MANIFEST, manifest)
            kept = {encoded.part(number).name for number in range(len(runs))}
            for entry in encoded.folder.iterdir():  # from a larger collection, or a killed process
                if entry.name not in kept and entry.name.startswith(("part-", ".part-")):
                    shutil.rmtree(entry, ignore_errors=True)
            yield encoded
        finally:
            lock.release()

    def _lock(self) -> FolderLock:
        """Create the folder if missing, check that it holds nothing else, and lock it."""
        if self.folder.exists() and not self.folder.is_dir():
            raise LexLIPError(f"{self.folder} is a file: give a folder")
        names = {entry.name for entry in self.folder.iterdir()} if self.folder.exists() else set()
        if MANIFEST in names:
            Encoded.open(self.folder)
        elif any(name not in (LOCK, OWNER) and not name.startswith(".") for name in names):
            raise LexLIPError(f"{self.folder} is not empty: give a new folder, or empty it")
        self.folder.mkdir(parents=True, exist_ok=True)
        return FolderLock(self.folder)

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Encoded:
        """Open a folder of parts, some of which may be missing.

        Raises
        ------
        LexLIPError
            When it is something else, or has another format.
        """
        if not (Path(folder) / MANIFEST).is_file():
            raise LexLIPError(f"no encoded documents in {folder}: encode a collection first")
        manifest = read_json(Path(folder) / MANIFEST)
        found = manifest.get("format") if isinstance(manifest, dict) else None
        if found != FORMAT:
            raise LexLIPError(
                f"{folder} has format {found!r}, not {FORMAT!r}: give another folder, and encode "
                "again"
            )
        return cls(Path(folder), manifest)

    def __len__(self) -> int:
        """Return the number of parts."""
        return len(self.manifest["parts"])

    def __iter__(self) -> Iterator[Chunk]:
        """Read all parts, in order."""
        return (self.read(number) for number in range(len(self)))

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """Return the files that could not become documents, and why."""
        return tuple((name, reason) for name, reason in self.manifest.get("skipped", ()))

    @property
    def left_out(self) -> tuple[str, ...]:
        """Return what was left out of the collection, a line each."""
        return tuple(self.manifest.get("left_out", ()))

    @property
    def origin(self) -> dict[str, Any]:
        """Return the origin of the vectors; see `lexlip.build.manifest.origin`."""
        return {name: self.manifest.get(name) for name in ORIGIN}

    @property
    def recipe(self) -> Recipe:
        """Return how the pictures were encoded; the other options have their defaults."""
        return Recipe.of(self.manifest)

    @property
    def _files(self) -> tuple[str, ...]:
        kept = {
            _VIEWS: self.recipe.keep_views,
            _SAID: has_said(self.manifest),
            _VECTORS: self.manifest.get("vector_size") and self.recipe.vectors != "no",
        }
        return (_WEIGHTS, _DOCUMENTS, *(name for name, there in kept.items() if there))

    def part(self, number: int) -> Path:
        """Return the folder of a part."""
        return self.folder / f"part-{number:06}"

    def rows(self, number: int) -> range:
        """Return the row numbers of a part's documents in the collection."""
        size, total = self.manifest["part_size"], self.manifest["documents"]
        return range(number * size, min((number + 1) * size, total))

    def is_of(self, model: Speaker, source: Collection) -> bool:
        """Return whether the parts are planned for this model and these ids."""
        known = (model.fingerprint, *getattr(model, "older_fingerprints", ()))
        return (
            self.manifest["model"] in known
            and self.manifest["ids"] == _sha256(source.ids)
            and self.manifest.get("levels") == bank_digest(model)
        )

    def write(self, number: int, chunk: Chunk) -> None:
        """Write a part, its weights cut to the term budget, in full or not at all.

        Raises
        ------
        LexLIPError
            When writing fails, as on a full disk.
        """
        columns = read_columns(chunk.columns, len(chunk.ids))
        documents = {
            "ids": chunk.ids,
            "columns": {name: column.values() for name, column in columns.items()},
            "skipped": chunk.skipped,
            "files": [
                fact and (fact.size, fact.date, fact.digest.hex(), fact.placed)
                for fact in chunk.facts
            ],
        }
        # Raw weights are cut and no more: what lengths become is for the index.
        lengths: Lengths = "kept" if normalises(self.manifest) == "kept" else False
        weights = document_rows(csr_array(chunk.weights), self.recipe.max_terms, lengths)
        try:
            with atomic_directory(self.part(number), marker=None) as folder:
                save_npz(folder / _WEIGHTS, _narrow(weights), compressed=False)
                (folder / _DOCUMENTS).write_text(json.dumps(documents), "utf-8")
                if self.recipe.keep_views:
                    views = chunk.views or Views.empty(len(chunk.ids))
                    save_file(asdict(views), folder / _VIEWS)
                if chunk.said is not None:
                    save_npz(folder / _SAID, _narrow(chunk.said), compressed=False)
                if _VECTORS in self._files:
                    assert chunk.vectors is not None, "encode with vectors"
                    save_file(asdict(chunk.vectors), folder / _VECTORS)
                files = {name: sha256_file(folder / name) for name in self._files}
                write_json(
                    folder / MANIFEST, {"key": self.manifest["parts"][number], "files": files}
                )
        except OSError as error:
            reason = error.strerror or f"{error}: is the disk full?"
            raise LexLIPError(f"{self.part(number)} cannot be written: {reason}") from None

    def _check(self, number: int) -> None:
        """Raise unless a part exists, belongs to this plan, and is sound."""
        folder = self.part(number)
        found = read_json(folder / MANIFEST)
        sums = {name: sha256_file(folder / name) for name in self._files}
        if found != {"key": self.manifest["parts"][number], "files": sums}:
            raise LexLIPError("corrupted, or from another model or collection")

    def missing(self) -> list[int]:
        """Return the numbers of the parts that are missing, corrupted, or from another plan."""
        absent = []
        for number in range(len(self)):
            try:
                self._check(number)
            except LexLIPError:
                absent.append(number)
        return absent

    def ids(self, number: int) -> list[str]:
        """Return the ids of the readable documents of a part, as `read` does, without the rest."""
        try:
            return list(read_json(self.part(number) / _DOCUMENTS)["ids"])
        except (LexLIPError, KeyError, TypeError):
            return self.read(number).ids

    def read(self, number: int) -> Chunk:
        """Read a part.

        Raises
        ------
        LexLIPError
            When it is missing, corrupted, or from another model or collection.
        """
        try:
            self._check(number)
        except LexLIPError as error:
            raise LexLIPError(
                f"part {number} of {self.folder} cannot be used ({error}): encode again; sound "
                "parts stay"
            ) from None
        folder, files = self.part(number), self._files
        documents = read_json(folder / _DOCUMENTS)
        return Chunk(
            documents["ids"],
            csr_array(load_npz(folder / _WEIGHTS)),
            documents["columns"],
            0,
            [(name, reason) for name, reason in documents["skipped"]],
            Views(**load_file(folder / _VIEWS)) if _VIEWS in files else None,
            csr_array(load_npz(folder / _SAID)) if _SAID in files else None,
            Vectors(**load_file(folder / _VECTORS)) if _VECTORS in files else None,
            [_fact(row) for row in documents.get("files", ())],
        )

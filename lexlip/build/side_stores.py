"""Side stores of an index: exact weights to rescore with, views to rerank with, dense vectors,
and facts of files.

All are keyed by id, and durable before the engine commits: a killed writer loses none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from lexlip.build.encode import Alike, Chunk
from lexlip.build.manifest import normalises
from lexlip.build.recipe import Recipe
from lexlip.engines import keeps_vectors
from lexlip.impacts import document_rows
from lexlip.storage.file_facts import FactStore
from lexlip.storage.floats import FloatVectors
from lexlip.storage.forward import ForwardStore
from lexlip.storage.generations import verify
from lexlip.storage.vectors import VectorStore

FLOATS, VIEWS, VECTORS, FILES = "floats", "views", "vectors", "files"


class SideStores:
    """The stores of an index besides its engine, opened and changed together.

    Parameters
    ----------
    folder : Path
        The index.
    manifest : mapping
        Its recipe says which stores there are; the model's fingerprint is checked.
    mode : {"r", "w"}

    Attributes
    ----------
    floats : FloatVectors or None
        The documents' vectors before quantisation.
    views : ForwardStore or None
        The documents' views, for rerankers.
    vectors : VectorStore or None
        The documents' dense vectors, for an engine that keeps none.
    files : FactStore or None
        Size, date and hash of the documents' files; None for readers, which have no use for them.
    """

    def __init__(self, folder: Path, manifest: Mapping[str, Any], mode: Literal["r", "w"]) -> None:
        recipe = Recipe.of(manifest)
        self._max_terms, self._normalise = recipe.max_terms, normalises(manifest)
        self.floats: FloatVectors | None = None
        self.views: ForwardStore | None = None
        self.vectors: VectorStore | None = None
        self.files: FactStore | None = None
        self._folder = folder
        try:
            if recipe.keep_floats:
                self.floats = FloatVectors(folder / FLOATS, mode)
            if recipe.keep_views:
                self.views = ForwardStore(folder / VIEWS, mode, model=manifest["model"])
            if manifest.get("vector_size") and not keeps_vectors(recipe.engine):
                self.vectors = VectorStore(folder / VECTORS, mode)
            if mode == "w":
                self.files = FactStore(folder / FILES, mode)
        except BaseException:
            self.close()
            raise

    def _stores(self) -> list[FloatVectors | ForwardStore | VectorStore | FactStore]:
        every = (self.floats, self.views, self.vectors, self.files)
        return [store for store in every if store is not None]

    def write(self, chunk: Chunk) -> None:
        """Store what is kept of a chunk, overwriting what there is of the same ids."""
        if self.files is not None and chunk.facts:
            self.files.write(chunk.ids, chunk.facts)
        if self.floats is not None:
            rows = document_rows(chunk.weights, self._max_terms, self._normalise)
            self.floats.write(chunk.ids, rows)
        if self.views is not None:
            assert chunk.views is not None, "encode with keep_views"
            self.views.write(chunk.ids, chunk.views)
        if self.vectors is not None:
            assert chunk.vectors is not None, "encode with vectors"
            self.vectors.write(chunk.ids, chunk.vectors)

    def take(self, alike: Alike) -> None:
        """Store documents with the bytes of others: what is kept of those, and new facts."""
        pairs = list(zip(alike.of, alike.ids, strict=True))
        for store in (self.floats, self.views, self.vectors):
            if store is not None:
                store.copy(pairs)
        if self.files is not None:
            self.files.write(alike.ids, alike.facts)

    def keep(self, there: Callable[[Sequence[str]], Sequence[object | None]]) -> None:
        """Merge, and drop the ids for which `there` returns None."""
        for store in self._stores():
            store.keep(there)

    def has(self, ids: Sequence[str]) -> bool:
        """Return whether every store has these documents."""
        return all(store.has(ids) for store in self._stores())

    def verify(self) -> list[str]:
        """Read every file again, and return the names of corrupted ones."""
        damaged = [name for store in self._stores() for name in store.verify()]
        if self.files is None and (self._folder / FILES).is_dir():
            damaged += verify(self._folder / FILES)
        return damaged

    def stats(self) -> dict[str, int]:
        """Bytes of each store."""
        return {
            "float_bytes": self.floats.bytes if self.floats is not None else 0,
            "view_bytes": self.views.bytes if self.views is not None else 0,
            **({} if self.vectors is None else {"vector_bytes": self.vectors.bytes}),
        }

    def reopen(self) -> None:
        """Switch to the newest state."""
        for store in self._stores():
            store.reopen()

    def close(self) -> None:
        """Let go of the files."""
        for store in self._stores():
            store.close()

    def __enter__(self) -> SideStores:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

"""Side stores of an index: exact vectors to rescore with, and views to rerank with.

Both are keyed by id, and durable before the engine commits: a killed writer loses none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from lexlip.build.encode import Chunk
from lexlip.build.recipe import Recipe
from lexlip.impacts import top_terms, unit_normalise
from lexlip.storage.floats import FloatVectors
from lexlip.storage.forward import ForwardStore

FLOATS, VIEWS = "floats", "views"


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
    """

    def __init__(self, folder: Path, manifest: Mapping[str, Any], mode: Literal["r", "w"]) -> None:
        recipe = Recipe.of(manifest)
        self._max_terms = recipe.max_terms
        self.floats: FloatVectors | None = None
        self.views: ForwardStore | None = None
        try:
            if recipe.keep_floats:
                self.floats = FloatVectors(folder / FLOATS, mode)
            if recipe.keep_views:
                self.views = ForwardStore(folder / VIEWS, mode, model=manifest["model"])
        except BaseException:
            self.close()
            raise

    def _stores(self) -> list[FloatVectors | ForwardStore]:
        return [store for store in (self.floats, self.views) if store is not None]

    def __bool__(self) -> bool:
        """Return whether there is any store."""
        return bool(self._stores())

    def write(self, chunk: Chunk) -> None:
        """Store the vectors and views of a chunk, overwriting those of the same ids."""
        if self.floats is not None:
            self.floats.write(chunk.ids, unit_normalise(top_terms(chunk.weights, self._max_terms)))
        if self.views is not None:
            assert chunk.views is not None, "encode with keep_views"
            self.views.write(chunk.ids, chunk.views)

    def keep(self, there: Callable[[Sequence[str]], Sequence[object | None]]) -> None:
        """Merge, and drop the ids for which `there` returns None."""
        for store in self._stores():
            store.keep(there)

    def verify(self) -> list[str]:
        """Read every file again, and return the names of corrupted ones."""
        return [name for store in self._stores() for name in store.verify()]

    def stats(self) -> dict[str, int]:
        """Bytes of each store."""
        return {
            "float_bytes": self.floats.bytes if self.floats is not None else 0,
            "view_bytes": self.views.bytes if self.views is not None else 0,
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

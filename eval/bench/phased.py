"""Speakers with vectors as systems of the benchmark: words find, vectors or all words order."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from eval.bench.systems import (
    DEPTH,
    Gallery,
    System,
    batches,
    check_gallery,
    median_ms,
    search_all,
)
from eval.metrics import Run
from lexlip.build.recipe import Recipe
from lexlip.errors import LexLIPError


class PhasedSystem(System):
    """An index of a speaker that `HasVectors`, searched as a user searches it.

    Text to image: the pictures are the documents. Image to text: a second index holds the captions,
    and pictures ask. The words that are said of a picture are its `words`.

    Parameters
    ----------
    model : Speaker
        That `lexlip.models.speaker.HasVectors`.
    name : str
    checkpoint : str, optional
    order : {"vectors", "terms"}
        What orders, and so what is kept.
    max_terms : int
        Words that find a picture, at most.
    engine : {"auto", "lucene", "postings"}
    crops : int
        Corners of each picture encoded besides the whole.
    """

    def __init__(
        self,
        model: Any,
        *,
        name: str = "lexlip",
        checkpoint: str | None = None,
        order: str = "vectors",
        max_terms: int = 64,
        engine: str = "auto",
        crops: int = 0,
    ) -> None:
        if engine == "auto":
            engine = _engine()
        kept = "auto" if order == "vectors" else "no"
        self.recipe = Recipe(max_terms=max_terms, engine=engine, vectors=kept, crops=crops)
        self.model, self.name, self.checkpoint = model, name, checkpoint
        self.fingerprint = model.fingerprint
        self._order, self._open = order, ExitStack()

    def _built(self, documents: Mapping[str, Any]) -> Any:
        from lexlip.index import Index

        folder = Path(self._open.enter_context(tempfile.TemporaryDirectory(prefix="lexlip-eval-")))
        index = Index.create(folder / "index", self.model, dict(documents), self.recipe)
        self._open.callback(index.close)
        return index

    def index(self, gallery: Gallery) -> None:
        """Encode and index the pictures."""
        check_gallery(gallery)
        self._pictures = {name: gallery.image(row) for row, name in enumerate(gallery.ids)}
        self._index = self._built(self._pictures)
        if self._index.skipped:
            raise LexLIPError(f"picture {self._index.skipped[0][0]!r} of the gallery is unreadable")
        facts = self._index.stats()
        self.terms_per_image = facts["postings"] / len(gallery)
        self.bytes_per_image = facts["bytes_per_image"]
        self.note = (
            f"pictures only; at most {self.recipe.max_terms} words find, "
            f"{'vectors in one byte' if self._order == 'vectors' else 'all words'} order; "
            f"{self.recipe.engine}"
        )

    def t2i(self, queries: Mapping[str, str], k: int = DEPTH) -> Run:
        """Search the pictures with every text."""
        texts = list(queries.values())
        asked = [self._index.prepare(text) for text in texts]
        run, self.p50_ms = search_all(
            lambda i: [(hit.id, float(hit.score)) for hit in self._index.search(asked[i], k)],
            list(queries),
            f"{self.name}: t2i",
        )
        self.encode_ms = median_ms(self._index.prepare, texts)
        return run

    def i2t(self, image_ids: Sequence[str], captions: Mapping[str, str], k: int = DEPTH) -> Run:
        """Search the captions with every picture."""
        index = self._built(captions)
        asked = [index.prepare(self._pictures[name]) for name in image_ids]
        return search_all(
            lambda i: [(hit.id, float(hit.score)) for hit in index.search(asked[i], k)],
            list(image_ids),
            f"{self.name}: i2t",
        )[0]

    def words(self, k: int | None = None) -> list[list[tuple[str, float]]] | None:
        """Words that are said of each picture, nearest first."""
        pictures, found = list(self._pictures.values()), []
        for part in batches(len(pictures), 32, f"{self.name}: words"):
            said = self.model.represent([pictures[row] for row in part]).said
            found += self.model.decode(said, k)
        return found

    def tokenize(self, text: str) -> list[str]:
        """Cut a caption into words of the lexicon."""
        return list(self.model.tokenizer.tokenize(text))

    def close(self) -> None:
        """Close the indexes and remove their folders."""
        self._open.close()


def _engine() -> str:
    from lexlip.engines.lucene.java import find_java

    try:
        find_java()
    except LexLIPError:
        return "postings"
    return "lucene"

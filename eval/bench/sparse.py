"""LexLIP as a system: impacts of pictures in an inverted index, searched with words of a text."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.bench.systems import (
    DEPTH,
    Gallery,
    System,
    batches,
    check_gallery,
    encoded_pictures,
    load_model,
    looked_at,
    median_ms,
    require_folder,
    search_all,
)
from eval.metrics import Run
from lexlip.data.crops import check_crops
from lexlip.errors import LexLIPError
from lexlip.models.speaker import bank_of, levelled

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from lexlip.models.speaker import Speaker


class LexLIPSystem(System):
    """LexLIP with impacts in an inverted index, searched term by term.

    Text to image: the pictures are the documents. Image to text: a second, temporary index holds
    the captions, and a picture's own terms are the query. Both rank by the same dot product;
    document vectors are cut to ``max_terms``, normalised and quantised.

    Parameters
    ----------
    model : Speaker
        The encoder, of pictures too.
    name : str
        The row's name, also the name of its run files.
    checkpoint : str or None
        Where the model was loaded from.
    max_terms : int
        Terms kept of a picture, of a caption, and of a picture used as a query.
    engine : {"auto", "lucene", "postings"}
        ``auto`` takes Lucene if there is a Java, else the postings engine; the note says which.
    batch_size : int
        Items encoded at once.
    table : QueryTable, optional
        Encodes texts instead of the model.
    crops : int
        Corners of each picture encoded besides the whole; see `lexlip.data.crops`.
    levels : bool
        Documents have the lengths of the model's bank, where there is one (`lexlip.models.levels`).
    """

    def __init__(
        self,
        model: Speaker,
        *,
        name: str = "lexlip",
        checkpoint: str | None = None,
        max_terms: int = 64,
        engine: str = "auto",
        batch_size: int = 32,
        table: Any = None,
        crops: int = 0,
        levels: bool = True,
    ) -> None:
        if engine not in ("auto", "lucene", "postings"):
            raise LexLIPError(f"no engine {engine!r}: choose auto, lucene or postings")
        if max_terms < 1:
            raise LexLIPError(f"max_terms is {max_terms}: keep at least one term")
        self.model, self.table = model, table
        self.name = name
        self.checkpoint = checkpoint
        self.fingerprint = getattr(model, "fingerprint", None)
        self.max_terms, self.crops = max_terms, check_crops(crops)
        self.batch_size = batch_size
        self.levels = levels and bank_of(model) is not None
        self._wanted = engine
        self._folders: list[tempfile.TemporaryDirectory[str]] = []
        self._engines: list[Any] = []
        self._texts: dict[str, int] = {}
        self._text_vectors: csr_array | None = None

    @classmethod
    def from_pretrained(cls, folder: str | Path, **options: Any) -> LexLIPSystem:
        """Load a checkpoint folder; ``options`` are those of the class."""
        options.setdefault("checkpoint", str(folder))
        return cls(load_model(str(folder)), **options)

    @classmethod
    def with_table(cls, folder: str | Path, **options: Any) -> LexLIPSystem:
        """Load a checkpoint folder and its query table, which encodes the texts."""
        from lexlip.models.query_table import QueryTable

        table = QueryTable.from_pretrained(require_folder(folder))
        return cls.from_pretrained(folder, name="lexlip, query table", table=table, **options)

    def index(self, gallery: Gallery) -> None:
        """Encode the pictures and put their impacts into the first index."""
        from lexlip.impacts import top_terms

        self._pictures = top_terms(self.picture_weights(gallery), self.max_terms)
        self._rows = {name: row for row, name in enumerate(gallery.ids)}
        self.terms_per_image = self._pictures.nnz / len(gallery)
        self._engine, kind = self._build(gallery.ids, self._pictures, texts=False)
        self.bytes_per_image = _bytes(self._engine) / len(gallery)
        texts = "texts by a query table; " if self.table else ""
        budget = f"at most {self.max_terms} terms per picture"
        looks = looked_at(self.crops)
        lengths = ", levelled" if self.levels else ""
        self.note = f"pictures only{looks}; {texts}{kind}, {budget}, impacts in one byte{lengths}"

    def picture_weights(self, gallery: Gallery) -> csr_array:
        """Encode the pictures: all weights [N, V], in the gallery's order."""
        from scipy.sparse import vstack

        check_gallery(gallery)
        what = f"{self.name}: pictures"
        encode = self.model.encode_document
        parts = encoded_pictures(encode, gallery, self.batch_size, self.crops, what)
        return vstack(parts, format="csr")

    def query_weights(self, queries: Mapping[str, str]) -> csr_array:
        """Encode texts as integer query weights 1..64, [Q, V]."""
        from lexlip.impacts import quantise_query

        return quantise_query(self._encode_texts(list(queries.values())))

    def vectors(self, ids: Sequence[str], queries: Mapping[str, str]) -> tuple[Any, Any] | None:
        """Return the indexed impacts [N, V] and the query weights [Q, V]."""
        pictures = self._pictures[[self._rows[name] for name in ids]]
        return self._impacts(pictures, texts=False), self.query_weights(queries)

    def t2i(self, queries: Mapping[str, str], k: int = DEPTH) -> Run:
        """Search the picture index with every text."""
        weights = self.query_weights(queries)
        run, self.p50_ms = search_rows(self._engine, weights, list(queries), k, f"{self.name}: t2i")
        ask = self.table.terms if self.table else lambda text: self.model.encode_query([text])
        self.encode_ms = median_ms(ask, list(queries.values()))
        return run

    def i2t(self, image_ids: Sequence[str], captions: Mapping[str, str], k: int = DEPTH) -> Run:
        """Search a caption index with the pictures' own terms."""
        from lexlip.impacts import quantise_query

        texts = self._encode_texts(list(captions.values()))
        engine, _ = self._build(list(captions), texts, texts=True)
        weights = quantise_query(self._pictures[[self._rows[name] for name in image_ids]])
        return search_rows(engine, weights, list(image_ids), k, f"{self.name}: i2t")[0]

    def words(self, k: int | None = None) -> list[list[tuple[str, float]]] | None:
        """Decode the pictures' stored terms."""
        return self.model.decode(self._pictures, top_k=k or self.max_terms)

    def tokenize(self, text: str) -> list[str]:
        """Cut a caption into the model's word pieces."""
        return list(self.model.tokenizer.tokenize(text))

    def close(self) -> None:
        """Close the engines and remove their folders."""
        while self._engines:
            self._engines.pop().close()
        while self._folders:
            self._folders.pop().cleanup()

    def _encode_texts(self, texts: list[str]) -> csr_array:
        """Vectors of the texts in their order; each different text is encoded only once."""
        from scipy.sparse import vstack

        new = [text for text in dict.fromkeys(texts) if text not in self._texts]
        parts = [] if self._text_vectors is None else [self._text_vectors]
        for part in batches(len(new), self.batch_size, f"{self.name}: texts"):
            parts.append((self.table or self.model).encode_query([new[i] for i in part]))
        for text in new:
            self._texts[text] = len(self._texts)
        self._text_vectors = vstack(parts, format="csr")
        return self._text_vectors[[self._texts[text] for text in texts]]

    def _impacts(self, vectors: csr_array, texts: bool) -> csr_array:
        return indexed(self.model if self.levels else None, vectors, self.max_terms, texts)

    def _build(self, ids: Sequence[str], vectors: csr_array, texts: bool) -> tuple[Any, str]:
        engine, kind = self._open_engine()
        engine.add(list(ids), self._impacts(vectors, texts))
        engine.commit()
        self._engines.append(engine)
        return engine, kind

    def _open_engine(self) -> tuple[Any, str]:
        from lexlip.engines import PostingsEngine, open_engine

        if self._wanted == "postings":
            return PostingsEngine(), "postings engine"
        folder = tempfile.TemporaryDirectory(prefix="lexlip-eval-")
        try:
            engine = open_engine("lucene", Path(folder.name) / "index", "w")
        except (LexLIPError, ImportError):
            folder.cleanup()
            if self._wanted == "lucene":
                raise
            self._wanted = "postings"  # both indexes of one row use the same engine
            return PostingsEngine(), "postings engine (no Java for Lucene)"
        self._folders.append(folder)
        return engine, "Lucene"


def indexed(model: Any, weights: csr_array, max_terms: int, texts: bool = False) -> csr_array:
    """Impacts as an index of a model's documents has them, int32 [N, V].

    Parameters
    ----------
    model : Speaker or None
        Whose bank gives the documents their lengths, where it has one; None for lengths of one.
    weights : csr_array [N, V]
    max_terms : int
    texts : bool
        Whether the documents are texts.
    """
    from lexlip.impacts import document_impacts

    if bank_of(model) is None:
        return document_impacts(weights, max_terms)[0]
    return document_impacts(levelled(model, weights, texts), max_terms, normalise="kept")[0]


def search_rows(
    engine: Any, weights: csr_array, query_ids: Sequence[str], k: int, what: str
) -> tuple[Run, float]:
    """Search an engine with every row of quantised query weights [Q, V]; see `search_all`."""
    from lexlip.impacts import query_terms

    terms = [query_terms(weights, i) for i in range(len(query_ids))]

    def search(i: int) -> list[tuple[str, float]]:
        hits = engine.search(terms[i], k) if terms[i] else []
        return [(hit.id, float(hit.score)) for hit in hits]

    return search_all(search, query_ids, what)


def _bytes(engine: Any) -> float:
    return float(engine.stats()["bytes"])

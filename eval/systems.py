"""What is measured: one small base class, and LexLIP behind it.

A system is given the gallery once, then asked in both directions. All rankings are by score
descending and id ascending, so that runs of different systems can be laid side by side.
"""

from __future__ import annotations

import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from tqdm import tqdm

from eval.metrics import Run, split_words
from lexlip.errors import LexLIPError

if TYPE_CHECKING:
    from PIL.Image import Image
    from scipy.sparse import csr_array

DEPTH = 100  # how much of each ranking is kept: ten times what the table needs
WARM_UP = 100  # searches before the clock starts: a JVM compiles what it runs often


class Gallery(Protocol):
    """The pictures that are searched; `lexlip.data.collection.Collection` is one."""

    @property
    def ids(self) -> list[str]:
        """Picture ids, all different."""

    @property
    def captions(self) -> list[list[str]]:
        """The captions of every picture, in the order of ``ids``."""

    def image(self, i: int) -> Image:
        """Picture number i."""

    def __len__(self) -> int:
        """Return how many pictures there are."""


class System(ABC):
    """One row of the table.

    Attributes
    ----------
    name, note : str
        The row's name, and what the system reads or was trained on: a number without it is
        half a number.
    checkpoint, fingerprint : str or None
        Where the weights came from.
    bytes_per_image, terms_per_image : float or None
        Size of the index, known after `index`; dense systems have no terms.
    p50_ms : float or None
        Median time of one first-stage search in `t2i`, the query vector being at hand.
    encode_ms : float or None
        Median time to turn one text query into its vector.
    """

    name: str = "system"
    note: str = ""
    checkpoint: str | None = None
    fingerprint: str | None = None
    bytes_per_image: float | None = None
    terms_per_image: float | None = None
    p50_ms: float | None = None
    encode_ms: float | None = None

    @abstractmethod
    def index(self, gallery: Gallery) -> None:
        """Take in the pictures; once, before any question."""

    @abstractmethod
    def t2i(self, queries: Mapping[str, str], k: int = DEPTH) -> Run:
        """Rank pictures for texts (query id -> text)."""

    @abstractmethod
    def i2t(self, image_ids: Sequence[str], captions: Mapping[str, str], k: int = DEPTH) -> Run:
        """Rank captions (caption id -> text) for pictures of the gallery."""

    def answers(self, query_ids: Iterable[str]) -> list[str]:
        """Return the text queries this system can be asked; all of them by default."""
        return list(query_ids)

    def words(self, k: int | None = None) -> list[list[tuple[str, float]]] | None:
        """Return each picture's weighted words, heaviest first, or None where there are none."""
        return None

    def tokenize(self, text: str) -> list[str]:
        """Cut a caption into the units that `words` is made of."""
        return split_words(text)

    def close(self) -> None:  # noqa: B027 - most systems hold nothing
        """Give back temporary files."""


def check_gallery(gallery: Gallery) -> None:
    """Refuse an empty gallery and one that names a picture twice (copies distort every recall).

    Raises
    ------
    LexLIPError
        With the id that came twice.
    """
    if len(gallery) == 0:
        raise LexLIPError("the gallery is empty: choose another split or pool")
    seen: set[str] = set()
    for name in gallery.ids:
        if name in seen:
            raise LexLIPError(f"picture {name!r} is in the gallery twice: keep one of them")
        seen.add(name)


def best(scores: np.ndarray, ids: Sequence[str], k: int) -> list[tuple[str, float]]:
    """Return the k highest scores with their ids, equal ones in order of the id.

    Parameters
    ----------
    scores : np.ndarray
        [n], one score for each id.
    ids : Sequence[str]
        [n], ascending: then a stable sort is the tie rule.
    k : int
        Length of the ranking, less where there are fewer items.

    Examples
    --------
    >>> best(np.array([1.0, 3.0, 3.0]), ["a", "b", "c"], 2)
    [('b', 3.0), ('c', 3.0)]
    """
    if k < len(scores):
        # Everything at or above the k-th score: with ties that may be more than k.
        kth = np.partition(scores, len(scores) - k)[len(scores) - k]
        candidates = np.flatnonzero(scores >= kth)
    else:
        candidates = np.arange(len(scores))
    order = candidates[np.argsort(-scores[candidates], kind="stable")[:k]]
    return [(ids[i], float(scores[i])) for i in order]


def search_all(
    search: Callable[[int], list[tuple[str, float]]], query_ids: Sequence[str], what: str
) -> tuple[Run, float]:
    """Search query by query; return the run and the median milliseconds of one search.

    Parameters
    ----------
    search : Callable[[int], list[tuple[str, float]]]
        Answers query number i; nothing else may happen inside, it is what the clock sees.
    query_ids : Sequence[str]
        Names of the queries.
    what : str
        Shown beside the progress bar.
    """
    for i in range(min(WARM_UP, len(query_ids))):
        search(i)
    run: Run = {}
    seconds = []
    for i, query in enumerate(tqdm(query_ids, desc=what, leave=False, disable=None)):
        start = time.perf_counter()
        run[query] = search(i)
        seconds.append(time.perf_counter() - start)
    return run, 1000.0 * float(np.median(seconds)) if seconds else 0.0


def median_ms(call: Callable[[str], object], texts: Sequence[str], sample: int = 30) -> float:
    """Median milliseconds of one call, over the first few different texts, after a warm-up."""
    chosen = list(dict.fromkeys(texts))[: sample + 1]
    seconds = []
    for text in chosen:
        start = time.perf_counter()
        call(text)
        seconds.append(time.perf_counter() - start)
    return 1000.0 * float(np.median(seconds[1:] or seconds)) if seconds else 0.0


def batches(total: int, size: int, what: str) -> Iterable[range]:
    """Ranges of at most ``size`` that cover ``range(total)``, with a progress bar."""
    for start in tqdm(range(0, total, size), desc=what, leave=False, disable=None):
        yield range(start, min(start + size, total))


class LexLIPSystem(System):
    """LexLIP as it is used: impacts in an inverted index, searched term by term.

    Text to image: the pictures are the documents. Image to text: a second, temporary index holds
    the captions, and a picture's own terms are the query. Both rank by the same dot product;
    document vectors are cut to ``max_terms``, brought to length one and quantised.

    Parameters
    ----------
    model : LexLIP
        The encoder; anything with ``encode_query``, ``encode_document`` and ``decode`` will do.
    name : str
        The row's name, also the name of its run files.
    checkpoint : str or None
        Where the model was read from.
    max_terms : int
        Terms kept of a picture, of a caption, and of a picture asked as a query.
    engine : {"auto", "lucene", "postings"}
        ``auto`` takes Lucene where a Java is at hand, else the postings engine; the note
        says which it was.
    batch_size : int
        Items encoded at once.
    """

    def __init__(
        self,
        model: Any,
        *,
        name: str = "lexlip",
        checkpoint: str | None = None,
        max_terms: int = 64,
        engine: str = "auto",
        batch_size: int = 32,
    ) -> None:
        if engine not in ("auto", "lucene", "postings"):
            raise LexLIPError(f"no engine {engine!r}: choose auto, lucene or postings")
        if max_terms < 1:
            raise LexLIPError(f"max_terms is {max_terms}: keep at least one term")
        self.model = model
        self.name = name
        self.checkpoint = checkpoint
        self.fingerprint = getattr(model, "fingerprint", None)
        self.max_terms = max_terms
        self.batch_size = batch_size
        self._wanted = engine
        self._folders: list[tempfile.TemporaryDirectory[str]] = []
        self._engines: list[Any] = []
        self._texts: dict[str, int] = {}
        self._text_vectors: csr_array | None = None

    @classmethod
    def from_pretrained(cls, folder: str | Path, **options: Any) -> LexLIPSystem:
        """Load a checkpoint folder; ``options`` are those of the class."""
        path = require_folder(folder)
        from lexlip import LexLIP

        options.setdefault("checkpoint", str(folder))
        return cls(LexLIP.from_pretrained(path), **options)

    def index(self, gallery: Gallery) -> None:
        """Encode the pictures and put their impacts into the first index."""
        from scipy.sparse import vstack

        from lexlip.impacts import top_terms

        check_gallery(gallery)
        parts = [
            self.model.encode_document([gallery.image(i) for i in part])
            for part in batches(len(gallery), self.batch_size, f"{self.name}: pictures")
        ]
        self._rows = {name: row for row, name in enumerate(gallery.ids)}
        self._pictures = top_terms(vstack(parts, format="csr"), self.max_terms)
        self.terms_per_image = self._pictures.nnz / len(gallery)
        self._engine, kind = self._build(gallery.ids, self._pictures)
        self.bytes_per_image = _bytes(self._engine) / len(gallery)
        self.note = (
            f"pictures only; {kind}, at most {self.max_terms} terms a picture, impacts in one byte"
        )

    def t2i(self, queries: Mapping[str, str], k: int = DEPTH) -> Run:
        """Search the picture index with every text."""
        from lexlip.impacts import quantise_query, query_terms

        vectors = quantise_query(self._encode_texts(list(queries.values())))
        terms = [query_terms(vectors, i) for i in range(len(queries))]
        run, self.p50_ms = search_all(
            lambda i: _search(self._engine, terms[i], k), list(queries), f"{self.name}: t2i"
        )
        self.encode_ms = median_ms(lambda t: self.model.encode_query([t]), list(queries.values()))
        return run

    def i2t(self, image_ids: Sequence[str], captions: Mapping[str, str], k: int = DEPTH) -> Run:
        """Search a caption index with the pictures' own terms."""
        from lexlip.impacts import quantise_query, query_terms

        texts = self._encode_texts(list(captions.values()))
        engine, _ = self._build(list(captions), texts)
        vectors = quantise_query(self._pictures[[self._rows[name] for name in image_ids]])
        terms = [query_terms(vectors, i) for i in range(len(image_ids))]
        run, _ = search_all(
            lambda i: _search(engine, terms[i], k), list(image_ids), f"{self.name}: i2t"
        )
        return run

    def words(self, k: int | None = None) -> list[list[tuple[str, float]]] | None:
        """Decode the pictures' stored terms."""
        return self.model.decode(self._pictures, top_k=k or self.max_terms)

    def tokenize(self, text: str) -> list[str]:
        """Cut a caption into the model's word pieces."""
        return list(self.model.processor.tokenizer.tokenize(text))

    def close(self) -> None:
        """Close the engines and remove their folders."""
        while self._engines:
            self._engines.pop().close()
        while self._folders:
            self._folders.pop().cleanup()

    def _encode_texts(self, texts: list[str]) -> csr_array:
        """Vectors of the texts in their order; each different text is encoded once, ever."""
        from scipy.sparse import vstack

        new = [text for text in dict.fromkeys(texts) if text not in self._texts]
        parts = [] if self._text_vectors is None else [self._text_vectors]
        for part in batches(len(new), self.batch_size, f"{self.name}: texts"):
            parts.append(self.model.encode_query([new[i] for i in part]))
        for text in new:
            self._texts[text] = len(self._texts)
        self._text_vectors = vstack(parts, format="csr")
        return self._text_vectors[[self._texts[text] for text in texts]]

    def _build(self, ids: Sequence[str], vectors: csr_array) -> tuple[Any, str]:
        from lexlip.impacts import document_impacts

        engine, kind = self._open_engine()
        engine.add(list(ids), document_impacts(vectors, self.max_terms)[0])
        engine.commit()
        self._engines.append(engine)
        return engine, kind

    def _open_engine(self) -> tuple[Any, str]:
        from lexlip.engines.postings import PostingsEngine

        if self._wanted == "postings":
            return PostingsEngine(), "postings engine"
        folder = tempfile.TemporaryDirectory(prefix="lexlip-eval-")
        try:
            from lexlip.engines.lucene import LuceneEngine

            engine = LuceneEngine(Path(folder.name) / "index", mode="w")
        except (LexLIPError, ImportError):
            folder.cleanup()
            if self._wanted == "lucene":
                raise
            self._wanted = "postings"  # both indexes of one row use the same engine
            return PostingsEngine(), "postings engine (no Java for Lucene)"
        self._folders.append(folder)
        return engine, "Lucene"


def require_folder(folder: str | Path) -> Path:
    """Return the checkpoint folder, or say that it is none.

    Raises
    ------
    LexLIPError
        There is no ``config.json`` in it.
    """
    path = Path(folder)
    if not (path / "config.json").is_file():
        raise LexLIPError(f"no checkpoint in {path}: give the folder that training wrote")
    return path


def _search(engine: Any, terms: dict[int, int], k: int) -> list[tuple[str, float]]:
    if not terms:
        return []
    return [(hit.id, float(hit.score)) for hit in engine.search(terms, k)]


def _bytes(engine: Any) -> float:
    return float(engine.stats()["bytes"])

"""Systems to compare an index with: dense vectors of its pictures, and BM25 over captions.

Both are exhaustive: every document gets a score, and equal scores come in order of the id.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from lexlip.build.manifest import place_of
from lexlip.data.images import ENOUGH
from lexlip.data.originals import Originals
from lexlip.engines.base import Hit
from lexlip.errors import LexLIPError, require
from lexlip.measure.bm25 import BM25, tokens
from lexlip.storage.arrays import save_array
from lexlip.storage.files import MANIFEST, atomic_directory, read_json, write_json

if TYPE_CHECKING:
    from lexlip.index import Index

DENSE = "dense"
"""Folder of the vectors, in the folder of the index."""

FORMAT = "lexlip-dense/1"
_VECTORS, _IDS = "vectors.npy", "ids.json"
_BATCH = 32
_AGAIN = "write it again with lexlip compare INDEX --dense CHECKPOINT"


class ComparedSystem(ABC):
    """Another system over documents of an index.

    Attributes
    ----------
    name : str
    ids : list of str
        N ids, ascending.
    """

    name: str
    ids: list[str]

    @abstractmethod
    def scores(self, text: str) -> NDArray[np.float32]:
        """Return the score of each document [N], -inf for documents that are not found."""

    def best(
        self,
        scores: NDArray[np.float32],
        k: int,
        there: Callable[[Sequence[str]], Sequence[object | None]],
    ) -> list[Hit]:
        """Return the best documents.

        Parameters
        ----------
        scores : float32 [N]
            Scores, as `scores` returns them.
        k : int
        there : callable
            Returns None for each id to leave out; for example `Engine.fetch`.
        """
        order = np.argsort(-scores, kind="stable")
        order = order[np.isfinite(scores[order])]
        hits: list[Hit] = []
        for start in range(0, len(order), step := max(2 * k, 100)):
            rows = order[start : start + step].tolist()
            alive = there([self.ids[row] for row in rows])
            hits += [
                Hit(self.ids[row], float(scores[row]))
                for row, document in zip(rows, alive, strict=True)
                if document is not None
            ]
            if len(hits) >= k:
                break
        return hits[:k]


class _Encoder(NamedTuple):
    """An encoder of texts and pictures into unit rows, float32 [N, d]."""

    texts: Callable[[Sequence[str]], NDArray[np.float32]]
    pictures: Callable[[Sequence[Any]], NDArray[np.float32]]
    fingerprint: str


def _load(checkpoint: str | os.PathLike[str]) -> _Encoder:
    from lexlip.models import is_lexical
    from lexlip.models.dual import is_dual_encoder, open_dual_encoder

    if is_lexical(checkpoint):
        from lexlip.models.lexical.speaker import LexicalSpeaker

        speaker = LexicalSpeaker.from_pretrained(checkpoint)
        return _Encoder(speaker.embed_text, speaker.embed_image, speaker.fingerprint)
    if is_dual_encoder(checkpoint):
        encoder = open_dual_encoder(checkpoint)
        return _Encoder(encoder.embed_text, encoder.embed_image, encoder.fingerprint)
    require("torch", "transformers")
    from lexlip.models.dense_control import DenseDualEncoder

    model = DenseDualEncoder.from_pretrained(checkpoint)
    return _Encoder(model.encode_query, model.encode_document, model.fingerprint)


class DenseVectors(ComparedSystem):
    """Unit vectors of the pictures of an index, and exact search by inner product.

    Parameters
    ----------
    index : path
        An index that `create` wrote vectors into.

    Raises
    ------
    LexLIPError
        When there are none, they are damaged, or the checkpoint is gone or another one.

    Examples
    --------
    >>> dense = DenseVectors("photos.lex")                           # doctest: +SKIP
    >>> with Index.open("photos.lex") as index:                      # doctest: +SKIP
    ...     dense.best(dense.scores("a red flower"), 3, index.engine.fetch)
    [Hit(id='a.jpg', score=0.31), ...]
    """

    name = "dense"

    def __init__(self, index: str | os.PathLike[str]) -> None:
        folder = Path(index) / DENSE
        manifest = read_json(folder / MANIFEST)
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise LexLIPError(f"{folder} is not of the format {FORMAT!r}: {_AGAIN}")
        self.ids = read_json(folder / _IDS)
        try:
            self.vectors = np.load(folder / _VECTORS, mmap_mode="r", allow_pickle=False)
            fine = _fit(self.ids, self.vectors)
        except (OSError, ValueError, TypeError):
            fine = False
        if not fine:
            raise LexLIPError(f"{folder} is damaged: {_AGAIN}")
        checkpoint = manifest.get("checkpoint")
        self._encoder = _load(str(checkpoint))
        if self._encoder.fingerprint != manifest.get("fingerprint"):
            raise LexLIPError(f"{folder} was made by another model than {checkpoint}: {_AGAIN}")

    @staticmethod
    def create(
        index: Index, checkpoint: str | os.PathLike[str], originals: Originals | None = None
    ) -> tuple[int, list[tuple[str, str]]]:
        """Encode the pictures of an index, and write their vectors into its folder.

        Parameters
        ----------
        index : Index
        checkpoint : str or path
            Of a `DenseDualEncoder`; or one that ``lexlip lexicalise`` wrote, whose CLIP is meant.
        originals : Originals, optional
            Where the pictures are, by default where the index says.

        Returns
        -------
        (int, list of (str, str))
            Number of encoded pictures; ids of unreadable ones, with the reason.

        Raises
        ------
        LexLIPError
            When there is no such checkpoint, or no picture is found. Nothing is written then.
        """
        originals = originals or Originals.of(index.path, index.manifest)
        collection = originals.collection
        if collection is None:
            reason = originals.problem or f"{originals.path} is not a collection"
            raise LexLIPError(f"no pictures to encode ({reason}): give --pictures")
        alive = index.engine.fetch(collection.ids)
        rows = [row for row, document in enumerate(alive) if document is not None]
        rows.sort(key=collection.ids.__getitem__)
        ours, encoder = collection.select(rows), _load(checkpoint)
        ids: list[str] = []
        parts: list[NDArray[np.float32]] = []
        skipped: list[tuple[str, str]] = []
        with tqdm(total=len(ours), desc="encoding", unit="picture", disable=None) as bar:
            for numbers, pictures in ours.batches(_BATCH, skipped, at_least=ENOUGH):
                ids += [ours.ids[number] for number in numbers]
                parts.append(encoder.pictures(pictures).astype(np.float32))
                bar.update(len(numbers))
        if not ids:
            raise LexLIPError(f"{originals.path} has no picture of {index.path}: give --pictures")
        with atomic_directory(index.path / DENSE) as folder:
            save_array(folder, _VECTORS.removesuffix(".npy"), np.concatenate(parts))
            write_json(folder / _IDS, ids)
            facts = {
                "format": FORMAT,
                "checkpoint": place_of(checkpoint),
                "fingerprint": encoder.fingerprint,
            }
            write_json(folder / MANIFEST, facts)
        return len(ids), skipped

    def scores(self, text: str) -> NDArray[np.float32]:
        """Return the cosine of the text and each picture, float32 [N]."""
        return np.asarray(self.vectors @ self._encoder.texts([text])[0])


def _fit(ids: Any, vectors: NDArray[Any]) -> bool:
    """Say whether these are ids, ascending, and a unit row for each."""
    return (
        isinstance(ids, list)
        and all(isinstance(id, str) for id in ids)
        and all(a < b for a, b in zip(ids, ids[1:], strict=False))
        and vectors.dtype == np.float32
        and vectors.ndim == 2
        and len(vectors) == len(ids)
        and bool(np.all(np.abs(np.einsum("nd,nd->n", vectors, vectors) - 1) < 1e-2))
    )


class CaptionIndex(ComparedSystem):
    """BM25 (Lucene's formula) over captions that people wrote; it sees no pictures.

    Parameters
    ----------
    captions : mapping of str to sequence of str
        Captions by id; ids without any are left out.
    k1, b : float
        Term saturation and length normalisation, the usual ones of short passages.

    Examples
    --------
    >>> captions = CaptionIndex({"a": ["a red flower"], "b": ["flowers", "a blue flower"], "c": []})
    >>> captions.ids, np.isfinite(captions.scores("the blue flower")).tolist()
    (['a', 'b'], [True, True])
    """

    name = "BM25 over captions"

    def __init__(
        self, captions: Mapping[str, Sequence[str]], k1: float = 0.9, b: float = 0.4
    ) -> None:
        self.ids = sorted(name for name, texts in captions.items() if texts)
        corpus = [tokens(" ".join(captions[name])) for name in self.ids]
        self._index = BM25(corpus, k1, b)

    def scores(self, text: str) -> NDArray[np.float32]:
        """Return the score of each document that shares a word with the text, float32 [N]."""
        return self._index.scores(tokens(text))

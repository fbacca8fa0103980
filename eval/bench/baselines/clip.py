"""CLIP and its kin: any dual encoder, or vectors computed elsewhere.

The layout of a vectors folder:

    query_image_names.json      query_image_embeddings.npy       [a, d]
    train1000_image_names.json  train1000_image_embeddings.npy   [b, d]
    queries.tsv (image name, caption; in order)   query_text_embeddings.npy   [n, d]

There may be more pairs ``*_image_names.json`` / ``*_image_embeddings.npy``. A picture in several
files is taken from the one with the most precise numbers.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eval.bench.baselines.dense import DenseSystem
from eval.bench.systems import Gallery, looked_at
from lexlip.data.readers import lines
from lexlip.errors import LexLIPError
from lexlip.models.dual import open_dual_encoder

if TYPE_CHECKING:
    from PIL.Image import Image

    from lexlip.models.dual.base import DualEncoder


class CLIPEncoder:
    """A dual encoder under the names that `DenseSystem` calls.

    Parameters
    ----------
    encoder : DualEncoder
    """

    def __init__(self, encoder: DualEncoder) -> None:
        self.encoder = encoder

    @classmethod
    def from_pretrained(cls, name: str | Path) -> CLIPEncoder:
        """Open a folder, or a name on the hub; see `lexlip.models.dual.open_dual_encoder`."""
        return cls(open_dual_encoder(name))

    def encode_query(self, texts: Sequence[str]) -> np.ndarray:
        """Text vectors, float32 [n, d], rows of length one."""
        return self.encoder.embed_text(texts)

    def encode_document(self, images: Sequence[Image]) -> np.ndarray:
        """Picture vectors, float32 [n, d], rows of length one."""
        return self.encoder.embed_image(images)


def clip(name: str | Path, batch_size: int = 32, crops: int = 0) -> DenseSystem:
    """A dual encoder (`lexlip.models.dual`) as a system."""
    return DenseSystem(
        CLIPEncoder.from_pretrained(name),
        name="clip",
        note=f"pictures only{looked_at(crops)}; CLIP checkpoint {name}, trained elsewhere, fp32, "
        "exhaustive",
        checkpoint=str(name),
        batch_size=batch_size,
        crops=crops,
    )


class PrecomputedSystem(DenseSystem):
    """CLIP vectors from a folder: no model runs, so it knows only its own pictures and texts.

    Attributes
    ----------
    queries : dict[str, str]
        Query id ``image#number`` -> caption, in the order of the file.
    qrels : dict[str, set[str]]
        Query id -> its picture.
    image_ids : list[str]
        All pictures that have a vector, ascending.
    """

    def __init__(self, folder: str | Path, name: str = "clip precomputed") -> None:
        super().__init__(
            None,
            name=name,
            note="pictures only; vectors of a CLIP model computed elsewhere, fp32, exhaustive",
            checkpoint=str(folder),
        )
        folder = Path(folder)
        self._vectors = _image_vectors(folder)
        self.image_ids = sorted(self._vectors)
        self.queries = read_queries(folder / "queries.tsv")
        self.qrels = {query: {query.rpartition("#")[0]} for query in self.queries}
        texts = _rows(folder / "query_text_embeddings.npy", len(self.queries), "queries")
        self._texts = dict(zip(self.queries.values(), texts, strict=True))

    def _encode_images(self, gallery: Gallery) -> np.ndarray:
        missing = [name for name in gallery.ids if name not in self._vectors]
        if missing:
            raise LexLIPError(
                f"{self.checkpoint} has no vector for {len(missing)} of {len(gallery)} pictures "
                f"(the first is {missing[0]}): restrict the benchmark with pool=FILE"
            )
        return np.stack([self._vectors[name] for name in gallery.ids])

    def _encode_texts(self, queries: Mapping[str, str]) -> np.ndarray:
        missing = [query for query, text in queries.items() if text not in self._texts]
        if missing:
            raise LexLIPError(
                f"{self.checkpoint} has no vector for {len(missing)} of {len(queries)} queries "
                f"(the first is {missing[0]}): restrict the benchmark with pool=FILE"
            )
        return np.stack([self._texts[text] for text in queries.values()])

    def _encode_ms(self, queries: Mapping[str, str]) -> float | None:
        return None


def precomputed(folder: str | Path) -> PrecomputedSystem:
    """Vectors of a folder as a system.

    Raises
    ------
    LexLIPError
        A file is missing, or names and vectors do not match in number.
    """
    return PrecomputedSystem(folder)


def read_queries(path: str | Path) -> dict[str, str]:
    """Read ``image name <tab> caption`` lines; the n-th of a picture is named ``image#n``.

    Raises
    ------
    LexLIPError
        No such file, or a line without a tab; blank lines are skipped.
    """
    queries: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for number, line in lines(Path(path)):
        if not line.strip():
            continue
        name, tab, text = line.partition("\t")
        if not tab:
            raise LexLIPError(f"{path}, line {number} is not 'image name <tab> caption'")
        image = _stem(name)
        queries[f"{image}#{counts[image]}"] = text.strip()
        counts[image] += 1
    return queries


def _image_vectors(folder: Path) -> dict[str, np.ndarray]:
    files = sorted(folder.glob("*_image_names.json"))
    if not files:
        raise LexLIPError(f"{folder} has no *_image_names.json: give a folder of CLIP vectors")
    tables = []
    for file in files:
        names = json.loads(file.read_text(encoding="utf-8"))
        stem = file.name.removesuffix("_names.json")
        tables.append((names, _load(folder / f"{stem}_embeddings.npy"), file.name))
    tables.sort(key=lambda table: (-table[1].dtype.itemsize, table[2]))
    vectors: dict[str, np.ndarray] = {}
    for names, matrix, source in tables:
        if len(names) != len(matrix):
            raise LexLIPError(f"{folder / source}: {len(names)} names, {len(matrix)} vectors")
        for name, row in zip(names, _unit_rows(matrix), strict=True):
            vectors.setdefault(_stem(name), row)
    return vectors


def _rows(path: Path, count: int, what: str) -> np.ndarray:
    matrix = _load(path)
    if len(matrix) != count:
        raise LexLIPError(f"{path}: {len(matrix)} vectors for {count} {what}")
    return _unit_rows(matrix)


def _load(path: Path) -> np.ndarray:
    try:
        matrix = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise LexLIPError(f"{path} is missing: every file of names needs its vectors") from None
    if matrix.ndim != 2:
        raise LexLIPError(f"{path} has shape {matrix.shape}: expected one row per item")
    return matrix


def _unit_rows(matrix: np.ndarray) -> np.ndarray:
    rows = matrix.astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _stem(name: str) -> str:
    return name.removesuffix(".jpg")

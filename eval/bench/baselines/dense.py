"""Dense dual encoders, searched exhaustively: one inner product per picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eval.bench.systems import (
    DEPTH,
    Gallery,
    System,
    batches,
    best,
    check_gallery,
    encoded_pictures,
    looked_at,
    median_ms,
    require_folder,
    search_all,
)
from eval.metrics import Run
from lexlip.data.crops import check_crops


class DenseSystem(System):
    """Exact search by inner product over unit vectors in float32.

    Parameters
    ----------
    encoder : DenseDualEncoder
        Anything with ``encode_query(texts)`` and ``encode_document(images)``, both giving
        float32 [n, d] with rows of length one.
    name, note : str
        The row's name and what the encoder was trained on.
    checkpoint : str or None
        Where the encoder was loaded from.
    batch_size : int
        Items encoded at once.
    crops : int
        Corners of each picture encoded besides the whole (`lexlip.data.crops`): the mean
        of the vectors, normalised again.
    """

    def __init__(
        self,
        encoder: Any,
        *,
        name: str,
        note: str,
        checkpoint: str | None = None,
        batch_size: int = 32,
        crops: int = 0,
    ) -> None:
        self.encoder = encoder
        self.crops = check_crops(crops)
        self.name, self.note = name, note
        self.checkpoint = checkpoint
        self.fingerprint = getattr(encoder, "fingerprint", None)
        self.batch_size = batch_size
        self._texts: dict[str, np.ndarray] = {}

    def index(self, gallery: Gallery) -> None:
        """Encode the pictures and keep them as one matrix, rows in order of their ids."""
        check_gallery(gallery)
        vectors = self._encode_images(gallery)
        order = sorted(range(len(gallery)), key=lambda i: gallery.ids[i])
        self._ids = [gallery.ids[i] for i in order]
        self._rows = {name: row for row, name in enumerate(self._ids)}
        self._pictures = np.ascontiguousarray(vectors[order], dtype=np.float32)
        self.bytes_per_image = 4.0 * self._pictures.shape[1]

    def t2i(self, queries: Mapping[str, str], k: int = DEPTH) -> Run:
        """Rank pictures by inner product with the text."""
        texts = self._encode_texts(queries)
        run, self.p50_ms = search_all(
            lambda i: best(self._pictures @ texts[i], self._ids, k),
            list(queries),
            f"{self.name}: t2i",
        )
        self.encode_ms = self._encode_ms(queries)
        return run

    def i2t(self, image_ids: Sequence[str], captions: Mapping[str, str], k: int = DEPTH) -> Run:
        """Rank captions by inner product with the picture."""
        ids = sorted(captions)
        texts = self._encode_texts({name: captions[name] for name in ids})
        pictures = self._pictures[[self._rows[name] for name in image_ids]]
        run, _ = search_all(
            lambda i: best(texts @ pictures[i], ids, k), list(image_ids), f"{self.name}: i2t"
        )
        return run

    def vectors(self, ids: Sequence[str], queries: Mapping[str, str]) -> tuple[Any, Any] | None:
        """Return the vectors of pictures [N, d] and of texts [Q, d], float32."""
        return self._pictures[[self._rows[name] for name in ids]], self._encode_texts(queries)

    def _encode_images(self, gallery: Gallery) -> np.ndarray:
        what = f"{self.name}: pictures"
        encode = self.encoder.encode_document
        parts = encoded_pictures(encode, gallery, self.batch_size, self.crops, what)
        vectors = np.concatenate(parts)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True) if self.crops else vectors

    def _encode_texts(self, queries: Mapping[str, str]) -> np.ndarray:
        """Vectors of the texts in their order; each different text is encoded only once."""
        new = [text for text in dict.fromkeys(queries.values()) if text not in self._texts]
        for part in batches(len(new), self.batch_size, f"{self.name}: texts"):
            chosen = [new[i] for i in part]
            self._texts.update(zip(chosen, self.encoder.encode_query(chosen), strict=True))
        return np.stack([self._texts[text] for text in queries.values()])

    def _encode_ms(self, queries: Mapping[str, str]) -> float | None:
        return median_ms(lambda text: self.encoder.encode_query([text]), list(queries.values()))


def dual_encoder(folder: str | Path, batch_size: int = 32, crops: int = 0) -> DenseSystem:
    """Read the dense twin of LexLIP from its checkpoint folder.

    Raises
    ------
    LexLIPError
        The folder does not exist.
    """
    path = require_folder(folder)
    from lexlip.models.dense_control import DenseDualEncoder

    encoder = DenseDualEncoder.from_pretrained(path)
    return DenseSystem(
        encoder,
        name="dense dual encoder",
        note=f"pictures only{looked_at(crops)}; trained here on the same trunks and data "
        "as lexlip, fp32, exhaustive",
        checkpoint=str(folder),
        batch_size=batch_size,
        crops=crops,
    )

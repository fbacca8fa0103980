"""A dual encoder that remembers: a sample is encoded once, a lexicon once for all folders."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
from platformdirs import user_cache_path

from lexlip.build.progress import current
from lexlip.data.in_order import in_batches
from lexlip.models.dual.base import DualEncoder, Vectors
from lexlip.storage.files import write_bytes

_MANY = 200
"""Texts from which on their vectors are kept on disk."""

_SLICE = 256


class Remembering:
    """A `lexlip.models.dual.base.DualEncoder` around another.

    Pictures are known again by the pixels that the model sees, in this process; long lists of
    texts by their letters, in the user's cache folder.

    Parameters
    ----------
    encoder : DualEncoder
    """

    def __init__(self, encoder: DualEncoder) -> None:
        self.encoder = encoder
        self._pictures: dict[bytes, Vectors] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.encoder, name)

    def embed_image(self, images: Sequence[Any], batch_size: int = 32) -> Vectors:
        """Pictures to unit vectors, float32 [N, d]; known ones are not encoded again."""
        found: list[Vectors] = []
        with closing(in_batches(self.encoder.prepare_image, images, batch_size)) as prepared:
            for part in prepared:
                keys = [_digest(picture) for picture in part]
                new = [row for row, key in enumerate(keys) if key not in self._pictures]
                if new:
                    rows = self.encoder.embed_image([part[row] for row in new], batch_size)
                    self._pictures |= {keys[row]: it for row, it in zip(new, rows, strict=True)}
                found += [self._pictures[key] for key in keys]
        return np.array(found, np.float32).reshape(len(found), self.encoder.width)

    def embed_text(self, texts: Sequence[str], batch_size: int = 128) -> Vectors:
        """Texts to unit vectors, float32 [N, d]."""
        if len(texts) < _MANY:
            return self.encoder.embed_text(texts, batch_size)
        file = self._file(texts)
        with suppress(OSError, ValueError):
            kept = np.load(file, allow_pickle=False)
            if kept.shape == (len(texts), self.encoder.width):
                return np.asarray(kept, np.float32)
        told = current()
        told.begin(len(texts), "word")
        try:
            parts = []
            for start in range(0, len(texts), _SLICE):
                part = texts[start : start + _SLICE]
                parts.append(self.encoder.embed_text(part, batch_size))
                told.advance(len(part))
        finally:
            told.end()
        rows = np.concatenate(parts)
        with suppress(OSError):  # it is encoded again next time
            file.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(file, _npy(rows))
        return rows

    def _file(self, texts: Sequence[str]) -> Path:
        digest = hashlib.sha256(self.encoder.fingerprint.encode())
        digest.update("\n".join(texts).encode())
        cache = user_cache_path("lexlip", appauthor=False)
        return cache / "words" / f"{digest.hexdigest()[:32]}.npy"


def _digest(prepared: Any) -> bytes:
    """Return a hash of a picture as the model sees it."""
    digest = hashlib.blake2b(digest_size=16)
    for part in prepared if isinstance(prepared, tuple) else (prepared,):
        for array in part.values() if isinstance(part, dict) else (part,):
            digest.update(np.ascontiguousarray(array).data)
    return digest.digest()


def _npy(rows: Vectors) -> bytes:
    from io import BytesIO

    file = BytesIO()
    np.save(file, rows, allow_pickle=False)
    return file.getvalue()

"""Pictures decoded once: resized bytes, or the features of a frozen trunk, as a memory map."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from PIL import ImageOps
from tqdm import tqdm

from lexlip.data.collection import Collection
from lexlip.model import LexLIPPreTrainedModel
from lexlip.processing import Processor, fingerprint


def _fill(
    path: Path, key: str, what: str, total: int, batches: list[range], compute: object
) -> np.ndarray:
    """Open the finished cache of this key, or write it beside and rename it into place."""
    done = path / f"{what}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npy"
    if done.exists():
        return np.load(done, mmap_mode="r", allow_pickle=False)
    path.mkdir(parents=True, exist_ok=True)
    part = done.with_suffix(f".{os.getpid()}.tmp")
    rows: np.memmap | None = None
    try:
        for batch in tqdm(batches, desc=f"caching {what}", unit="batch", leave=False):
            values = compute(batch)  # type: ignore[operator]
            if rows is None:
                rows = open_memmap(part, "w+", dtype=values.dtype, shape=(total, *values.shape[1:]))
            rows[batch.start : batch.stop] = values
        assert rows is not None, "an empty collection has no cache"
        rows.flush()
        os.replace(part, done)
    finally:
        part.unlink(missing_ok=True)
    return np.load(done, mmap_mode="r", allow_pickle=False)


def _key(collection: Collection, *parts: str) -> str:
    return json.dumps([*parts, collection.ids])


def _pictures(processor: Processor) -> str:
    """How pictures are resized and normalised, as text."""
    # Sorted: a preprocessor read back from a checkpoint lists the same settings in another order.
    return json.dumps(processor.image_processor.to_dict(), default=str, sort_keys=True)


def cached_pixels(
    collection: Collection, processor: Processor, folder: str | Path, batch: int = 64
) -> np.ndarray:
    """Resized bytes of every picture, uint8 [N, 1, 3, H, W] (one view)."""
    ranges = [range(i, min(i + batch, len(collection))) for i in range(0, len(collection), batch)]
    key = _key(collection, collection.source, _pictures(processor))

    def compute(rows: range) -> np.ndarray:
        return processor.resize([collection.image(i) for i in rows])[:, None]

    return _fill(Path(folder), key, "pixels", len(collection), ranges, compute)


@torch.inference_mode()
def cached_features(
    model: LexLIPPreTrainedModel,
    collection: Collection,
    folder: str | Path,
    flip: bool = False,
    batch: int = 32,
) -> np.ndarray:
    """Frozen trunk features, float16 [N, views, 1 + P, Dv]; view 1 is the mirrored picture."""
    assert model.processor is not None
    processor = model.processor
    trunk = fingerprint(model.vision.trunk.state_dict(), processor.tokenizer)
    settings = f"{trunk} grid={model.vision.grid} flip={flip} {_pictures(processor)}"
    ranges = [range(i, min(i + batch, len(collection))) for i in range(0, len(collection), batch)]

    def compute(rows: range) -> np.ndarray:
        pictures = [collection.image(i) for i in rows]
        views = [pictures, [ImageOps.mirror(p) for p in pictures]] if flip else [pictures]
        states = [model.vision.features(processor.pixels(view)) for view in views]
        return torch.stack(states, dim=1).to(torch.float16).numpy()

    key = _key(collection, collection.source, settings)
    return _fill(Path(folder), key, "features", len(collection), ranges, compute)

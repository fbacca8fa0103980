"""What does not change computed once, as memory maps: resized bytes, features of frozen trunks."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from PIL import ImageOps
from torch.nn.functional import pad
from tqdm import tqdm

from lexlip.data.collection import Collection
from lexlip.model import LexLIP, LexLIPPreTrainedModel
from lexlip.processing import Processor, fingerprint
from pretrain.data import Tokens


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


@torch.no_grad()
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


@torch.no_grad()
def cached_states(
    model: LexLIP, tokens: Tokens, depth: int, folder: str | Path, batch: int = 256
) -> np.ndarray:
    """States of a frozen text trunk, float16 [M, L, D], `depth` layers below its last."""
    assert model.processor is not None
    trunk = fingerprint(model.text.trunk.state_dict(), model.processor.tokenizer)
    captions = hashlib.sha256(tokens.input_ids.tobytes()).hexdigest()
    ranges = [range(i, min(i + batch, len(tokens))) for i in range(0, len(tokens), batch)]

    def compute(rows: range) -> np.ndarray:
        part = tokens.rows(np.arange(rows.start, rows.stop))
        states = model.text.states(part["input_ids"], part["attention_mask"], below=(depth,))[0]
        width = tokens.input_ids.shape[1] - states.shape[1]
        return pad(states, (0, 0, 0, width)).to(torch.float16).numpy()

    return _fill(
        Path(folder), f"{trunk} {captions} {depth}", "states", len(tokens), ranges, compute
    )

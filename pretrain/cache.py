"""Caches as memory maps, computed once: resized bytes, features of frozen trunks."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from PIL import Image, ImageOps
from torch.nn.functional import pad
from tqdm import tqdm

from lexlip.data.collection import Collection
from lexlip.data.images import ENOUGH
from lexlip.models.fingerprints import fingerprint
from lexlip.models.lexlip import LexLIP
from lexlip.models.pretrained import TwoTowers
from lexlip.models.processing import Processor
from lexlip.storage.files import reserve
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
                reserve(part)
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
    """Description of resizing and normalisation, as text."""
    # Sorted: a preprocessor read back from a checkpoint lists the same settings in another order.
    return json.dumps(processor.image_processor.to_dict(), default=str, sort_keys=True)


def cached_pixels(
    collection: Collection, processor: Processor, folder: str | Path, batch: int = 64
) -> np.ndarray:
    """Resized bytes of every picture, uint8 [N, 1, 3, H, W] (one view)."""
    ranges = [range(i, min(i + batch, len(collection))) for i in range(0, len(collection), batch)]
    key = _key(collection, collection.source, _pictures(processor))

    def compute(rows: range) -> np.ndarray:
        side = processor.image_side
        return processor.resize([collection.image(i, side) for i in rows])[:, None]

    return _fill(Path(folder), key, "pixels", len(collection), ranges, compute)


def drawn_views(picture: Image.Image, number: int, flip: bool, crops: int) -> list[Image.Image]:
    """A picture as it is, mirrored, and cut at random: the same for the same number.

    Parameters
    ----------
    picture : Image
    number : int
        Of the picture, which decides what is cut away.
    flip : bool
        Whether there is a mirrored view, and whether every second cut is mirrored too.
    crops : int
        Cuts: half to all of the area, sides at most a third longer or shorter than they were.

    Examples
    --------
    >>> [view.size for view in drawn_views(Image.new("RGB", (100, 50)), 0, True, 1)]
    [(100, 50), (100, 50), (85, 48)]
    """
    views = [picture, ImageOps.mirror(picture)] if flip else [picture]
    width, height = picture.size
    for crop in range(crops):
        rng = np.random.default_rng([number, crop])
        area, stretch = rng.uniform(0.5, 1.0), np.exp(rng.uniform(-1, 1) * np.log(4 / 3) / 2)
        wide = max(1, round(min(1.0, np.sqrt(area) * stretch) * width))
        high = max(1, round(min(1.0, np.sqrt(area) / stretch) * height))
        left, top = rng.integers(width - wide + 1), rng.integers(height - high + 1)
        view = picture.crop((int(left), int(top), int(left) + wide, int(top) + high))
        views.append(ImageOps.mirror(view) if flip and crop % 2 else view)
    return views


@torch.no_grad()
def cached_features(
    model: TwoTowers,
    collection: Collection,
    folder: str | Path,
    flip: bool = False,
    crops: int = 0,
    batch: int = 32,
) -> np.ndarray:
    """Frozen trunk features of `drawn_views`, float16 [N, views, 1 + P, Dv]."""
    assert model.processor is not None
    processor = model.processor
    trunk = fingerprint(model.vision.trunk.state_dict(), processor.tokenizer)
    cut = f"crops={crops} " if crops else ""
    settings = f"{trunk} grid={model.vision.grid} flip={flip} {cut}{_pictures(processor)}"
    ranges = [range(i, min(i + batch, len(collection))) for i in range(0, len(collection), batch)]

    def compute(rows: range) -> np.ndarray:
        drawn = [drawn_views(collection.image(i, ENOUGH), i, flip, crops) for i in rows]
        views = zip(*drawn, strict=True)
        states = [model.vision.features(processor.pixels(list(view))) for view in views]
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

"""The default model's files, tiny: a CLIP for onnxruntime, and a cache of the hub that holds it."""

from __future__ import annotations

import shutil
from pathlib import Path

from lexlip.models.default import DEFAULT
from lexlip.models.dual import open_dual_encoder
from lexlip.models.dual.export import export_dual
from tests.support.clips import small_clip, small_tokenizer

_NAMES = {"text_model.onnx": "text_model_quantized.onnx",
          "vision_model.onnx": "vision_model_quantized.onnx"}  # fmt: skip


def write_graphs(home: Path) -> Path:
    """Write a tiny CLIP in the layout of transformers.js, with nothing of torch."""
    network = small_clip(home / "torch", small_tokenizer())
    export_dual(open_dual_encoder(network), home / "clip")
    for file in network.glob("*.json"):
        if not (home / "clip" / file.name).exists():
            shutil.copy(file, home / "clip" / file.name)
    for name, other in _NAMES.items():
        (home / "clip" / "onnx" / name).rename(home / "clip" / "onnx" / other)
    (home / "clip" / "onnx" / "lexlip.json").unlink()  # as others publish it
    return home / "clip"


def write_cache(graphs: Path, cache: Path) -> Path:
    """Write a cache of the hub that holds these files under the default model's name."""
    repo = cache / f"models--{DEFAULT.name.replace('/', '--')}"
    shutil.copytree(graphs, repo / "snapshots" / DEFAULT.revision)
    return cache

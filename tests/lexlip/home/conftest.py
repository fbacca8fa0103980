"""Folders of photographs, and tiny models for them: as files, and in a made-up hub cache."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lexlip.models.default import DEFAULT
from lexlip.models.dual import open_dual_encoder
from lexlip.models.dual.export import export_dual
from tests.support.clips import small_clip, small_tokenizer

NAMES = {"text_model.onnx": "text_model_quantized.onnx",
         "vision_model.onnx": "vision_model_quantized.onnx"}  # fmt: skip


@pytest.fixture(scope="session")
def graphs(tmp_path_factory) -> Path:
    """A tiny CLIP in the layout of transformers.js, with nothing of torch."""
    home = tmp_path_factory.mktemp("graphs")
    network = small_clip(home / "torch", small_tokenizer())
    export_dual(open_dual_encoder(network), home / "clip")
    for file in network.glob("*.json"):
        if not (home / "clip" / file.name).exists():
            shutil.copy(file, home / "clip" / file.name)
    for name, other in NAMES.items():
        (home / "clip" / "onnx" / name).rename(home / "clip" / "onnx" / other)
    (home / "clip" / "onnx" / "lexlip.json").unlink()  # as others publish it
    return home / "clip"


@pytest.fixture
def hub(graphs, tmp_path) -> Path:
    """A hub cache that holds this model under the default one's name."""
    cache = tmp_path / "hub"
    repo = cache / f"models--{DEFAULT.name.replace('/', '--')}"
    shutil.copytree(graphs, repo / "snapshots" / DEFAULT.revision)
    return cache


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A data folder of this test's own."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("LEXLIP_MODEL", raising=False)
    return tmp_path / "data"


@pytest.fixture
def album(images, tmp_path) -> Path:
    """A folder of twelve pictures, some in a folder of it, and one that is broken."""
    folder = tmp_path / "album"
    (folder / "trip").mkdir(parents=True)
    for number, image in enumerate(images):
        image.save(folder / ("trip" if number % 3 == 0 else "") / f"{number:02}.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder

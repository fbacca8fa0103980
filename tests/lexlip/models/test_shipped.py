"""The model that the package ships: its files, and what it finds on scenes that it never saw."""

from __future__ import annotations

import hashlib
import json
import shutil

import numpy as np
import pytest

from lexlip.data.draw import COLOURS, SHAPES
from lexlip.data.scenes import make_scenes, relevance
from lexlip.errors import LexLIPError
from lexlip.models.exported import ExportedLexLIP
from lexlip.models.shipped import SHIPPED, facts_of, load_shipped
from tests.test_layering import modules_after

SEED = 7  # training drew from 0, the manifest's figures are of 1


@pytest.fixture(scope="module")
def scenes():
    return make_scenes(500, SEED)


@pytest.fixture(scope="module")
def shipped():
    return load_shipped()


@pytest.fixture(scope="module")
def pictures(shipped, scenes):
    """Unit rows of all scenes, float32 [500, V]."""
    return unit(shipped.encode_image([scene.draw() for scene in scenes]))


def unit(rows):
    dense = rows.toarray()
    return dense / np.maximum(np.linalg.norm(dense, axis=1, keepdims=True), 1e-9)


def best(speaker, texts, pictures, k):
    scores = unit(speaker.encode_text(texts)) @ pictures.T
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def test_its_files_are_those_of_the_manifest_and_small():
    listed = json.loads((SHIPPED / "manifest.json").read_text())["files"]
    files = [path for path in SHIPPED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 2_000_000
    found = {path.relative_to(SHIPPED).as_posix(): path.read_bytes() for path in files}
    del found["manifest.json"]
    assert {name: hashlib.sha256(data).hexdigest() for name, data in found.items()} == listed


@pytest.mark.parametrize("change", ["byte", "missing", "additional", "manifest"])
def test_a_changed_model_is_refused(tmp_path, change):
    folder = tmp_path / "demo"
    shutil.copytree(SHIPPED, folder)
    facts_of(folder)
    graph = folder / "onnx" / "image.onnx"
    if change == "byte":
        data = bytearray(graph.read_bytes())
        data[len(data) // 2] ^= 1
        graph.write_bytes(data)
    elif change == "missing":
        graph.unlink()
    elif change == "additional":
        (folder / "onnx" / "more.bin").write_bytes(b"x")
    else:
        (folder / "manifest.json").write_text('{"format": "lexlip-demo/0", "files": {}}')
    with pytest.raises(LexLIPError, match="install lexlip again"):
        load_shipped(folder)


def test_it_needs_no_torch():
    loaded = modules_after(
        "from lexlip.data.scenes import make_scenes\n"
        "from lexlip.models.shipped import load_shipped\n"
        "model = load_shipped()\n"
        "assert model.encode_image([s.draw() for s in make_scenes(2, 0)]).nnz > 10\n"
        "assert model.encode_text(['a red heart']).nnz > 1"
    )
    assert "onnxruntime" in loaded
    assert not loaded & {"torch", "transformers", "pandas", "sklearn", "datasets"}


@pytest.mark.parametrize("table", [True, False])
def test_a_caption_finds_a_scene_that_it_is_true_of(scenes, pictures, table):
    speaker = ExportedLexLIP.from_pretrained(SHIPPED, table=table)
    judged = relevance(scenes)
    asked = {f"{s.id}#{n}": c.text for s in scenes for n, c in enumerate(s.captions)}
    first = best(speaker, list(asked.values()), pictures, 1)[:, 0]
    hits = [scenes[i].id in judged[query] for query, i in zip(asked, first, strict=True)]
    assert np.mean(hits) >= 0.75


@pytest.mark.parametrize(("words", "least"), [(COLOURS, 0.9), (SHAPES, 0.9)])
def test_single_words_find_what_they_name(shipped, scenes, pictures, words, least):
    places = best(shipped, list(words), pictures, 10)
    for word, row in zip(words, places, strict=True):
        there = [{word} & {g.colour for g in s.groups} | {word} & {g.shape for g in s.groups}
                 for s in (scenes[i] for i in row)]  # fmt: skip
        assert np.mean([bool(one) for one in there]) >= least, word

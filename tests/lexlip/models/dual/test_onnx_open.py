"""Folders and names of dual encoders for onnxruntime: layouts, precisions, fingerprints, copies."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil

import huggingface_hub
import numpy as np
import pytest
import torch
from PIL import Image

from lexlip.errors import LexLIPError
from lexlip.models.dual import open_dual_encoder
from lexlip.models.dual.base import AttendsText, SeesPatches
from lexlip.models.dual.export import export_dual
from lexlip.models.dual.files import kind_of
from lexlip.models.dual.onnx_models import OnnxDual
from lexlip.models.dual.onnx_open import open_onnx
from lexlip.models.dual.transformers_models import TransformersDual
from tests.support.duals import TEXTS, small_dual
from tests.support.graphs import as_immich, in_eight_bits, in_sixteen_bits


def pictures():
    noise = np.random.default_rng(0)
    return [Image.fromarray(noise.integers(0, 256, (*s, 3), np.uint8)) for s in ((40, 30), (9, 50))]


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return open_dual_encoder(small_dual("clip", tmp_path_factory.mktemp("duals") / "clip"))


@pytest.fixture(scope="module")
def folder(network, tmp_path_factory):
    """An export in 32, 16 and 8 bits; no test writes to it."""
    place = tmp_path_factory.mktemp("exported") / "clip"
    export_dual(network, place)
    in_eight_bits(place)
    in_sixteen_bits(place)
    return place


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def near(a, b):
    return float((a.astype(np.float64) * b).sum(1).min())


@pytest.mark.parametrize("precision, least", [("fp32", 0.99999), ("fp16", 0.999), ("int8", 0.95)])
def test_precisions_come_near_the_network(folder, network, precision, least):
    opened = open_dual_encoder(folder, precision=precision)
    assert opened.precision == precision
    for ours, theirs in (
        (opened.embed_text(TEXTS), network.embed_text(TEXTS)),
        (opened.embed_image(pictures()), network.embed_image(pictures())),
    ):
        assert ours.dtype == np.float32 and near(ours, theirs) > least
        np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)
    other = open_dual_encoder(folder, precision="fp32").embed_text(TEXTS)
    assert (precision == "fp32") == np.array_equal(other, opened.embed_text(TEXTS))


def test_the_precision_is_that_of_the_environment_or_the_smallest(folder, monkeypatch):
    monkeypatch.delenv("LEXLIP_PRECISION", raising=False)
    assert open_onnx(folder).precision == open_onnx(folder, precision="auto").precision == "int8"
    monkeypatch.setenv("LEXLIP_PRECISION", "fp32")
    assert open_onnx(folder).precision == "fp32"
    assert open_onnx(folder, precision="fp16").precision == "fp16"
    monkeypatch.setenv("LEXLIP_PRECISION", "fp8")
    with pytest.raises(LexLIPError, match="no precision 'fp8': give one of int8, fp16, fp32"):
        open_onnx(folder)
    with pytest.raises(LexLIPError, match="no graphs in q4 here: give int8 or fp16 or fp32"):
        open_onnx(folder, precision="q4")


def test_one_precision_leaves_the_environment_nothing_to_choose(folder, monkeypatch, tmp_path):
    open_onnx(folder, precision="int8").save_pretrained(tmp_path / "small")
    monkeypatch.setenv("LEXLIP_PRECISION", "fp32")
    assert open_onnx(tmp_path / "small").precision == "int8"


def test_a_text_opens_only_the_graph_of_texts(copy):
    (copy / "onnx" / "vision_model.onnx").write_bytes(b"nothing")
    opened = open_onnx(copy, precision="fp32")
    assert opened.embed_text(["a red dog"]).shape == (1, opened.width)
    with pytest.raises(LexLIPError, match="vision_model.onnx is corrupted"):
        opened.embed_image(pictures())


def test_the_fingerprint_of_an_export_is_the_networks(folder, network, copy):
    assert open_onnx(folder, precision="fp32").fingerprint == network.fingerprint
    small = open_onnx(folder, precision="int8").fingerprint
    assert small not in (network.fingerprint, open_onnx(folder, precision="fp16").fingerprint)
    graph = copy / "onnx" / "vision_model.onnx"
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 1
    graph.write_bytes(data)
    changed = open_onnx(copy, precision="fp32").fingerprint
    assert changed not in (network.fingerprint, small)
    settings = json.loads((copy / "preprocessor_config.json").read_text())
    (copy / "preprocessor_config.json").write_text(json.dumps(settings | {"resample": 2}))
    assert open_onnx(copy, precision="fp32").fingerprint not in (changed, network.fingerprint)


def test_a_fingerprint_reads_little_of_a_large_file(tmp_path):
    from lexlip.models.dual.graphs import sampled

    with open(tmp_path / "large.onnx", "wb") as file:
        file.truncate(3_000_000_000)  # sparse
    before = sampled(tmp_path, ["large.onnx"], {})
    with open(tmp_path / "large.onnx", "r+b") as file:
        file.seek(2_999_999_999)
        file.write(b"x")
    assert sampled(tmp_path, ["large.onnx"], {}) != before


def test_a_copy_is_complete_and_the_same(folder, network, tmp_path):
    opened = open_onnx(folder, precision="fp32")
    opened.save_pretrained(tmp_path / "a")
    opened.save_pretrained(tmp_path / "a")  # over itself
    again = open_onnx(tmp_path / "a")
    assert again.fingerprint == network.fingerprint and type(again) is OnnxDual
    np.testing.assert_array_equal(again.embed_text(TEXTS), opened.embed_text(TEXTS))
    graphs = {path.name for path in (tmp_path / "a" / "onnx").iterdir()}
    assert graphs == {"text_model.onnx", "vision_model.onnx", "lexlip.json"}
    assert os.path.samefile(folder / "tokenizer.json", tmp_path / "a" / "tokenizer.json")


def test_graphs_are_taken_before_weights_and_the_network_tells_what_they_cannot(network, tmp_path):
    network.save_pretrained(tmp_path)
    opened = open_dual_encoder(tmp_path)
    assert isinstance(opened, OnnxDual) and opened.fingerprint == network.fingerprint
    assert isinstance(opened, SeesPatches) and isinstance(opened, AttendsText)
    ours, theirs = opened.embed_patches(pictures()), network.embed_patches(pictures())
    np.testing.assert_array_equal(ours[0], theirs[0])
    assert opened.text_attention("a red dog") == network.text_attention("a red dog")
    text = open_dual_encoder(tmp_path).text.path
    text.unlink()
    assert isinstance(open_dual_encoder(tmp_path), TransformersDual)


def test_without_the_exporters_package_weights_are_written_alone(network, tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "onnx" else found(name, *a)
    )
    network.save_pretrained(tmp_path)
    assert not (tmp_path / "onnx").exists() and kind_of(tmp_path) == "transformers"


def test_what_cannot_be_exported_is_said_in_one_line_and_kept_with_torch(tmp_path, caplog):
    encoder = open_dual_encoder(small_dual("siglip2-naflex", tmp_path / "naflex"))
    with pytest.raises(LexLIPError, match="runs with torch only .*NaFlex"):
        export_dual(encoder, tmp_path / "out")
    assert not (tmp_path / "out" / "onnx").exists()
    encoder.save_pretrained(tmp_path / "saved")
    assert "cannot be exported" in caplog.text and "\n" not in caplog.messages[-1]
    assert isinstance(open_dual_encoder(tmp_path / "saved"), TransformersDual)


def test_a_graph_that_gives_other_vectors_is_not_kept(network, tmp_path, monkeypatch):
    wrong = open_dual_encoder(network.name_or_path)
    before = wrong.text_features
    monkeypatch.setattr(wrong, "text_features", lambda tokens: before(tokens) + torch.rand(1, 8))
    with pytest.raises(LexLIPError, match="has a cosine of"):
        export_dual(wrong, tmp_path / "out")
    assert not (tmp_path / "out" / "onnx").exists()


def test_immichs_layout_gives_the_vectors_of_the_same_model(folder, tmp_path):
    theirs = open_onnx(folder, precision="fp32")
    place = as_immich(folder, tmp_path / "immich", theirs.max_text_length)
    opened = open_dual_encoder(place)
    assert kind_of(place) == "immich" and opened.family == "open-clip"
    assert opened.max_text_length == theirs.max_text_length and opened.image_side == 32
    texts = (*TEXTS, "  a   red\n dog ", "dog " * 90)
    assert near(opened.embed_text(texts), theirs.embed_text(texts)) > 0.99999
    shown = opened.prepare_image(pictures()[0]).pixels
    numbers = (shown.astype(np.float32) / 255 - 0.5) / 0.25
    np.testing.assert_allclose(opened.pixels(pictures()[:1])["pixel_values"][0], numbers, atol=1e-6)
    expected = theirs.vision.run({"pixel_values": numbers[None]})
    expected /= np.linalg.norm(expected)
    assert near(opened.embed_image(pictures()[:1]), expected) > 0.99999
    opened.save_pretrained(tmp_path / "copied")
    assert open_dual_encoder(tmp_path / "copied").fingerprint == opened.fingerprint


def test_immichs_texts_are_cleaned_as_their_settings_say(folder, tmp_path):
    place = as_immich(folder, tmp_path / "immich", 24)
    config = json.loads((place / "config.json").read_text())
    config["text_cfg"]["tokenizer_kwargs"] = {"clean": "canonicalize"}
    (place / "config.json").write_text(json.dumps(config))
    rows = open_dual_encoder(place).tokens.rows(["A red_dog, at night!", "a red dog at night"])
    assert rows[0] == rows[1]


@pytest.fixture
def hub(folder, tmp_path, monkeypatch):
    """A made-up cache of the hub with one repository, and no network."""
    commit = "d" * 40
    place = tmp_path / "hub" / "models--org--clip"
    shutil.copytree(folder, place / "snapshots" / commit)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return place / "snapshots" / commit


def test_a_name_on_the_hub_opens_from_its_cache(hub, folder):
    for revision in (None, "d" * 40, "main"):
        opened = open_dual_encoder("org/clip", revision, "int8")
        assert isinstance(opened, OnnxDual) and opened.name_or_path == "org/clip"
        assert opened.revision == revision and opened.folder == hub
        assert opened.fingerprint == open_onnx(folder, precision="int8").fingerprint
    with pytest.raises(LexLIPError, match="no dual encoder at org/clip"):
        open_dual_encoder("org/clip", "e" * 40)


def test_only_the_files_of_one_precision_are_fetched(hub, monkeypatch):
    asked = []
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("lexlip.models.hub.reaches", lambda endpoint: True)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *a, **k: None)
    everything = [str(path.relative_to(hub)) for path in hub.rglob("*") if path.is_file()]
    monkeypatch.setattr(
        huggingface_hub.HfApi, "list_repo_files", lambda self, name, revision: everything
    )

    def download(name, file, revision=None):
        asked.append(file)
        if not (hub / file).is_file():
            raise huggingface_hub.errors.EntryNotFoundError(file)
        return str(hub / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    opened = open_dual_encoder("org/clip")
    assert opened.precision == "int8"
    graphs = {file for file in asked if file.endswith(".onnx")}
    assert graphs == {"onnx/text_model_quantized.onnx", "onnx/vision_model_quantized.onnx"}
    assert opened.embed_text(["a red dog"]).shape == (1, 8)


@pytest.mark.parametrize(
    "missing", ["tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"]
)
def test_missing_and_corrupted_files_are_one_line(copy, missing):
    (copy / missing).write_text("{")
    with pytest.raises(LexLIPError, match=f"{missing} is .*corrupted") as raised:
        open_dual_encoder(copy).embed_text(["a"])
    assert "\n" not in str(raised.value)
    (copy / missing).unlink()
    with pytest.raises(LexLIPError, match=f"{missing} is missing"):
        open_dual_encoder(copy)

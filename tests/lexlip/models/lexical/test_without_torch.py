"""A dual encoder in words over graphs: what it imports, and where its encoder may lie."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest

from lexlip.errors import LexLIPError
from lexlip.models import load
from lexlip.models.dual import open_dual_encoder
from lexlip.models.dual.onnx_models import OnnxDual
from lexlip.models.lexical.lexicalise import lexicalise
from tests.support.clips import WORDS, small_clip, small_tokenizer
from tests.support.graphs import in_eight_bits

ROOT = Path(__file__).resolve().parents[4]
HEAVY = ("torch", "transformers", "pandas", "sklearn", "pyserini", "pyarrow", "datasets")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A CLIP with its weights, and graphs in 32 and 8 bits."""
    place = tmp_path_factory.mktemp("clip")
    network = open_dual_encoder(small_clip(place / "plain", small_tokenizer()))
    network.save_pretrained(place / "clip")
    in_eight_bits(place / "clip")
    return place / "clip"


def test_a_search_imports_no_heavy_package(clip, images, tmp_path):
    lexicalise(clip, images, WORDS).save_pretrained(tmp_path / "words")
    (tmp_path / "photos").mkdir()
    for number, image in enumerate(images):
        image.save(tmp_path / "photos" / f"{number}.png")
    code = f"""
import sys
from pathlib import Path
from lexlip.index import Index
from lexlip.models import load

place = Path({str(tmp_path)!r})
model = load(place / "words")
assert model.encode_text(["a red dog"]).nnz and model.encode_image([place / "photos/0.png"]).nnz
with Index.create(place / "i", model, place / "photos", engine="postings") as index:
    assert index.search("a red dog", 3)
with Index.open(place / "i") as index:
    assert index.search("a red dog", 3) and index.search(place / "photos/1.png", 3)
    print(*sorted({HEAVY!r} & sys.modules.keys()))
""".replace(repr(HEAVY), repr(set(HEAVY)))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


def test_a_checkpoint_may_say_where_its_encoder_is(clip, images, tmp_path, monkeypatch):
    monkeypatch.chdir(clip.parent)
    made = lexicalise(open_dual_encoder("clip", precision="fp32"), images, WORDS)
    made.save_pretrained(tmp_path / "words", copy_encoder=False)
    assert not (tmp_path / "words" / "encoder").exists()
    facts = json.loads((tmp_path / "words" / "config.json").read_text())
    place = {"name": str(clip.resolve()), "revision": None, "precision": "fp32"}
    assert facts["encoder"] == place
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LEXLIP_PRECISION", "int8")
    again = load("words")
    assert again.fingerprint == made.fingerprint and isinstance(again.encoder, OnnxDual)
    np.testing.assert_array_equal(again.embed_text(["red dog"]), made.embed_text(["red dog"]))
    again.save_pretrained("moved", copy_encoder=False)
    assert load("moved").facts["encoder"] == place
    again.save_pretrained("whole")
    assert "encoder" not in json.loads(Path("whole/config.json").read_text())
    whole = load("whole")
    assert whole.encoder.folder == Path("whole/encoder")
    np.testing.assert_array_equal(whole.embed_text(["red dog"]), made.embed_text(["red dog"]))


def test_an_encoder_that_is_gone_or_another_one_is_one_line(clip, images, tmp_path):
    copy = shutil.copytree(clip, tmp_path / "clip")
    lexicalise(copy, images, WORDS).save_pretrained(tmp_path / "words", copy_encoder=False)
    for graph in (copy / "onnx").glob("text_model*.onnx"):
        data = bytearray(graph.read_bytes())
        data[100] ^= 1
        graph.write_bytes(data)
    with pytest.raises(LexLIPError, match=f"{copy} holds another encoder than the words"):
        load(tmp_path / "words").embed_text(["red"])
    shutil.rmtree(copy)
    with pytest.raises(LexLIPError, match=f"no checkpoint at {copy}") as raised:
        load(tmp_path / "words").embed_text(["red"])
    assert "\n" not in str(raised.value)


def test_an_encoder_on_the_hub_is_remembered_with_its_revision(clip, images, tmp_path, monkeypatch):
    commit = "a" * 40
    shutil.copytree(clip, tmp_path / "hub" / "models--org--clip" / "snapshots" / commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    made = lexicalise(open_dual_encoder("org/clip", commit), images, WORDS)
    made.save_pretrained(tmp_path / "words", copy_encoder=False)
    again = load(tmp_path / "words")
    place = {"name": "org/clip", "revision": commit, "precision": "int8"}
    assert again.facts["encoder"] == place and made.facts["encoder_name"] == "org/clip"
    np.testing.assert_array_equal(again.embed_text(["red"]), made.embed_text(["red"]))


def test_an_index_of_the_network_is_opened_by_its_export_and_the_other_way(clip, images, tmp_path):
    from lexlip.index import Index
    from lexlip.models.dual.transformers_models import open_transformers

    network = lexicalise(open_transformers(clip), images, WORDS)
    exported = lexicalise(open_dual_encoder(clip, precision="fp32"), images, WORDS)
    network.save_pretrained(tmp_path / "words")
    by_graphs = load(tmp_path / "words")
    assert isinstance(by_graphs.encoder, OnnxDual)
    assert by_graphs.fingerprint == network.fingerprint
    assert exported.facts["fingerprint"] == network.facts["fingerprint"]
    pictures = {f"{number}.png": image for number, image in enumerate(images)}
    for place, maker, other in (("a", network, by_graphs), ("b", by_graphs, network)):
        with Index.create(tmp_path / place, maker, pictures, engine="postings") as index:
            first = [hit.id for hit in index.search("a red dog", 3)]
        with Index.open(tmp_path / place, other) as index:
            assert [hit.id for hit in index.search("a red dog", 3)] == first

"""Checkpoints of open_clip, against open_clip itself where it is installed."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from lexlip.errors import LexLIPError
from lexlip.models import load
from lexlip.models.dual import is_dual_encoder, open_dual_encoder
from tests.support.duals import bert_tokenizer

# Its need torchvision does not load beside the CPU build of torch from everywhere.
REASON = "open_clip_torch is not installed"
TEXTS = ("a red dog", "", "A RED DOG at night " * 9)
SHAPE = {
    "embed_dim": 8,
    "vision_cfg": {
        "image_size": 16, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8
    },
    "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}  # fmt: skip
PIXELS = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.2], "resize_mode": "squash"}


@pytest.fixture
def open_clip():
    return pytest.importorskip("open_clip", reason=REASON)


def settings(**text):
    shape = {**SHAPE, "text_cfg": {**SHAPE["text_cfg"], **text}}
    return {"model_cfg": shape, "preprocess_cfg": PIXELS}


def written(folder, content):
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    return folder


def tiny(open_clip, folder, **text):
    """Write a checkpoint of open_clip with random weights."""
    content = settings(**text)
    torch.manual_seed(0)
    model = open_clip.CLIP(**content["model_cfg"])
    save_file(model.state_dict(), written(folder, content) / "open_clip_model.safetensors")
    if text:
        bert_tokenizer().save_pretrained(folder)
    return folder


def pictures():
    noise = np.random.default_rng(0)
    return [Image.fromarray(noise.integers(0, 256, (20, 30, 3), np.uint8)) for _ in range(3)]


@pytest.mark.parametrize("text", [{}, {"hf_tokenizer_name": "mine"}])
def test_vectors_are_those_of_open_clip(open_clip, text, tmp_path):
    folder = tiny(open_clip, tmp_path / "clip", **text)
    encoder = open_dual_encoder(folder)
    model, see = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    read = open_clip.get_tokenizer(f"local-dir:{folder}")
    with torch.no_grad():
        asked = model.eval().encode_text(read(list(TEXTS)), normalize=True).numpy()
        pixels = torch.stack([see(picture) for picture in pictures()])
        shown = model.encode_image(pixels, normalize=True).numpy()
    np.testing.assert_allclose(encoder.embed_text(TEXTS), asked, atol=1e-5)
    np.testing.assert_allclose(encoder.embed_text(TEXTS, batch_size=1), asked, atol=1e-5)
    np.testing.assert_allclose(encoder.embed_image(pictures()), shown, atol=1e-5)
    assert is_dual_encoder(folder) and encoder.family == "open-clip"
    assert (encoder.width, encoder.max_text_length) == (8, 20)
    assert encoder.embed_text([]).shape == encoder.embed_image([]).shape == (0, 8)
    assert "dog" in {token.removesuffix("</w>") for token in encoder.tokenizer.get_vocab()}


@pytest.mark.parametrize("text", [{}, {"hf_tokenizer_name": "mine"}])
def test_a_saved_encoder_opens_again_with_the_same_fingerprint(open_clip, text, tmp_path):
    encoder = open_dual_encoder(tiny(open_clip, tmp_path / "clip", **text))
    encoder.save_pretrained(tmp_path / "copy")
    copy = open_dual_encoder(tmp_path / "copy")
    assert copy.fingerprint == encoder.fingerprint
    np.testing.assert_allclose(copy.embed_text(TEXTS), encoder.embed_text(TEXTS), atol=1e-6)
    np.testing.assert_allclose(
        copy.embed_image(pictures()), encoder.embed_image(pictures()), atol=1e-6
    )


def test_corrupted_weights_are_one_line(open_clip, tmp_path):
    folder = tiny(open_clip, tmp_path / "clip")
    (folder / "open_clip_model.safetensors").write_bytes(b"nothing")
    with pytest.raises(LexLIPError, match="cannot open it") as raised:
        open_dual_encoder(folder)
    assert "\n" not in str(raised.value)


def test_pickled_weights_are_refused_without_being_read(tmp_path):
    folder = written(tmp_path / "clip", settings())
    (folder / "open_clip_pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(LexLIPError, match="pickled weights .* are not read") as raised:
        open_dual_encoder(folder)
    assert "\n" not in str(raised.value)


def test_without_the_library_a_line_says_what_to_install(tmp_path, monkeypatch):
    folder = written(tmp_path / "clip", settings())
    save_file({"w": torch.zeros(1)}, folder / "open_clip_model.safetensors")
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(LexLIPError, match=r"pip install 'lexlip\[open-clip\]'"):
        open_dual_encoder(folder)


def test_loading_names_the_command_that_gives_it_words(tmp_path):
    with pytest.raises(LexLIPError, match="lexlip lexicalise PICTURES .* -o laion-words"):
        load(written(tmp_path / "laion", settings()))


def test_a_checkpoint_of_both_libraries_needs_transformers_only(tmp_path):
    from tests.support.duals import small_dual

    folder = small_dual("clip", tmp_path / "both")
    (folder / "open_clip_config.json").write_text(json.dumps(settings()))
    assert open_dual_encoder(folder).family == "clip"

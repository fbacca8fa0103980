"""Dual encoders in folders of sentence-transformers, with and without the library."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Normalize

from lexlip.errors import LexLIPError
from lexlip.models import load
from lexlip.models.dual import is_dual_encoder, open_dual_encoder
from lexlip.models.dual.sentence_models import SentenceDual
from lexlip.models.dual.transformers_models import TransformersDual
from tests.support.duals import TEXTS, small_dual
from tests.support.sentence_folders import as_published, with_a_layer


def pictures():
    noise = np.random.default_rng(0)
    return [Image.fromarray(noise.integers(0, 256, (20, 30, 3), np.uint8)) for _ in range(3)]


def test_a_published_folder_is_opened_without_the_library(tmp_path):
    folder = as_published(tmp_path / "clip-ViT-B-32")
    encoder = open_dual_encoder(folder)
    plain = open_dual_encoder(folder / "0_CLIPModel")
    assert is_dual_encoder(folder) and isinstance(encoder, TransformersDual)
    assert encoder.name_or_path == str(folder) and encoder.fingerprint == plain.fingerprint
    np.testing.assert_array_equal(encoder.embed_text(TEXTS), plain.embed_text(TEXTS))
    code = (
        "import sys; sys.modules['sentence_transformers'] = None\n"
        "from lexlip.models.dual import open_dual_encoder\n"
        f"print(open_dual_encoder({str(folder)!r}).fingerprint)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == encoder.fingerprint


@pytest.mark.parametrize("published", [True, False])
def test_vectors_are_those_of_the_library(tmp_path, published):
    folder = as_published(tmp_path / "published") if published else with_a_layer(tmp_path)
    # The library takes torchvision for pictures where it is installed, lexlip does not.
    options = {"processor_kwargs": {"backend": "pil"}} if published else {}
    library = SentenceTransformer(str(folder), device="cpu", **options)
    library.max_seq_length = 24  # the tiny tokenizer sets none
    asked = library.encode(list(TEXTS), normalize_embeddings=True)
    shown = library.encode(pictures(), normalize_embeddings=True)
    encoder = open_dual_encoder(folder)
    np.testing.assert_allclose(encoder.embed_text(TEXTS), asked, atol=1e-5)
    np.testing.assert_allclose(encoder.embed_image(pictures()), shown, atol=1e-5)
    assert encoder.width == asked.shape[1]
    assert encoder.embed_text([]).shape == encoder.embed_image([]).shape == (0, encoder.width)


def test_a_layer_that_normalises_changes_nothing(tmp_path):
    clip = Transformer(str(small_dual("clip", tmp_path / "clip")))
    model = SentenceTransformer(modules=[clip, Normalize()], device="cpu")
    model.save_pretrained(str(tmp_path / "normal"), create_model_card=False)
    encoder = open_dual_encoder(tmp_path / "normal")
    assert isinstance(encoder, TransformersDual)
    assert encoder.fingerprint == open_dual_encoder(tmp_path / "clip").fingerprint


def test_a_saved_encoder_opens_again_with_the_same_fingerprint(tmp_path):
    encoder = open_dual_encoder(with_a_layer(tmp_path))
    assert isinstance(encoder, SentenceDual) and encoder.family == "sentence-transformers"
    assert encoder.max_text_length == 24
    encoder.save_pretrained(tmp_path / "copy")
    copy = open_dual_encoder(tmp_path / "copy")
    assert copy.fingerprint == encoder.fingerprint
    np.testing.assert_allclose(copy.embed_text(TEXTS), encoder.embed_text(TEXTS), atol=1e-6)
    with torch.no_grad():
        copy.network[1].linear.bias += 1
    assert SentenceDual("changed", copy.network).fingerprint != encoder.fingerprint


def test_texts_are_encoded_as_queries_and_pictures_as_documents(tmp_path):
    folder = with_a_layer(tmp_path, prompts={"query": "red ", "document": ""})
    encoder, library = open_dual_encoder(folder), SentenceTransformer(str(folder), device="cpu")
    plain = library.encode(["red dog"], normalize_embeddings=True)
    np.testing.assert_allclose(encoder.embed_text(["dog"]), plain, atol=1e-5)


def test_a_text_that_names_a_picture_stays_a_text(tmp_path):
    encoder = open_dual_encoder(with_a_layer(tmp_path))
    pictures()[0].save(tmp_path / "dog.png")
    named = encoder.embed_text([str(tmp_path / "dog.png")])
    picture = encoder.embed_image([tmp_path / "dog.png"])
    assert not np.allclose(named, picture, atol=1e-3)
    assert encoder.embed_text(["https://example.org/a.png", "a dog"]).shape == (2, 6)  # no fetching


def test_without_the_library_a_line_says_what_to_install(tmp_path, monkeypatch):
    folder = with_a_layer(tmp_path)
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(LexLIPError, match=r"pip install 'lexlip\[st\]'"):
        open_dual_encoder(folder)


def test_encoders_of_texts_are_no_dual_encoders(tmp_path):
    import transformers
    from sentence_transformers.sentence_transformer.modules import Pooling

    from tests.support.duals import bert_tokenizer

    tokenizer = bert_tokenizer()
    config = transformers.BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16,
    )  # fmt: skip
    for part in (transformers.BertModel(config), tokenizer):
        part.save_pretrained(tmp_path / "bert")
    model = SentenceTransformer(
        modules=[Transformer(str(tmp_path / "bert")), Pooling(16)], device="cpu"
    )
    model.save_pretrained(str(tmp_path / "texts"), create_model_card=False)
    assert not is_dual_encoder(tmp_path / "texts")
    with pytest.raises(LexLIPError, match="no dual encoder"):
        open_dual_encoder(tmp_path / "texts")


def test_loading_names_the_command_that_gives_it_words(tmp_path):
    folder = as_published(tmp_path / "clip-ViT-B-32")
    with pytest.raises(LexLIPError, match="-o clip-ViT-B-32-words"):
        load(folder)

"""A fresh model: towers by shape or folder, the vocabulary, heads that start alive."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from transformers import BertForMaskedLM, BertModel, ViTConfig, ViTModel
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from lexlip.dense import DenseDualEncoder
from lexlip.lexicon import STOP_WORDS
from lexlip.model import LexLIP
from pretrain.build import build, load, word_tokenizer


def test_the_vocabulary_is_the_words_of_the_captions(captions):
    tokenizer = word_tokenizer(["A red Dog, running.", "a CAT"])
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = tokenizer.get_vocab()
    assert sorted(vocabulary, key=vocabulary.get) == [
        *special, ",", ".", "a", "cat", "dog", "red", "running"
    ]  # fmt: skip
    assert tokenizer.tokenize("The dog runs") == ["[UNK]", "dog", "[UNK]"]
    assert tokenizer.pad_token_id == 0 and tokenizer.mask_token_id == 4
    own = word_tokenizer(captions)
    assert own.unk_token_id not in {i for c in captions for i in own(c)["input_ids"]}


def test_the_lexicon_is_what_the_captions_can_teach(make_model, model, captions, tiny_settings):
    words = {model.lexicon.tokens[i] for i in model.lexicon.ids}
    said = {word for caption in captions for word in caption.split() if word.isalpha()}
    assert words == {word for word in said - STOP_WORDS if len(word) > 1}
    settings = replace(tiny_settings, words=replace(tiny_settings.words, min_count=2))
    fewer = build(settings, captions, LexLIP).lexicon
    counts = " ".join(captions).split()
    assert {fewer.tokens[i] for i in fewer.ids} == {w for w in words if counts.count(w) > 1}


def test_neither_head_starts_dead_nor_dense(make_model, captions, images):
    model = make_model()
    for weights in (model.encode_text(captions), model.encode_image(images)):
        active = np.diff(weights.indptr) / len(model.lexicon)
        assert 0.05 < active.mean() < 0.6


def test_a_seed_is_a_model(make_model):
    assert make_model(seed=1).fingerprint == make_model(seed=1).fingerprint
    assert make_model(seed=1).fingerprint != make_model(seed=2).fingerprint


@pytest.fixture(scope="module")
def trunks(model, tmp_path_factory):
    """Folders of a vision trunk, a text trunk, and a text model with its masked-language head."""
    folder = tmp_path_factory.mktemp("trunks")
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = ViTModel(ViTConfig(image_size=32, patch_size=8, intermediate_size=64, **shape))
    vision.save_pretrained(folder / "vit")
    ViTImageProcessorPil(image_mean=[0.1, 0.2, 0.3], size=64).save_pretrained(folder / "vit")
    torch.manual_seed(7)
    language = BertForMaskedLM(model.config.text_config)
    with torch.no_grad():
        language.cls.predictions.bias.normal_()
        language.cls.predictions.decoder.bias.copy_(language.cls.predictions.bias)
    language.save_pretrained(folder / "mlm")
    BertModel(model.config.text_config).save_pretrained(folder / "sentences")
    for name in ("mlm", "sentences"):
        model.processor.tokenizer.save_pretrained(folder / name)
    return folder


def test_trunks_come_from_their_folders(make_model, trunks):
    model = make_model(vision=str(trunks / "vit"), text=str(trunks / "mlm"))
    for ours, kind, name in (
        (model.vision.trunk, ViTModel, "vit"),
        (model.text.trunk, BertModel, "mlm"),
    ):
        theirs = kind.from_pretrained(trunks / name).state_dict()
        mine = ours.state_dict()
        assert mine and all(torch.equal(mine[key], theirs[key]) for key in mine)
    images = model.processor.image_processor
    assert list(images.image_mean) == [0.1, 0.2, 0.3]
    assert images.size["height"] == images.size["width"] == 32 and not images.do_center_crop


def test_the_text_head_starts_as_the_masked_language_head(make_model, trunks):
    model = make_model(text=str(trunks / "mlm"))
    head = BertForMaskedLM.from_pretrained(trunks / "mlm").cls.predictions
    assert_allclose(
        model.text_head.transform.dense.weight.detach(), head.transform.dense.weight.detach()
    )
    assert_allclose(model.text_head.words.detach(), head.decoder.weight.detach()[model.lexicon_ids])
    # Calibration adds one number to all biases, and multiplies the scale by another.
    shift = model.text_head.bias.detach() - head.bias.detach()[model.lexicon_ids]
    assert_allclose(shift, shift.mean().expand_as(shift), rtol=1e-4, atol=1e-5)
    assert head.bias.std() > 0.5


@torch.inference_mode()
def test_without_such_a_head_words_are_ranked_by_the_states_themselves(make_model, trunks):
    model = make_model(text=str(trunks / "sentences"))
    head, transform = model.text_head, model.text_head.transform
    states = 2 * torch.randn(64, 32, generator=torch.Generator().manual_seed(0))
    wanted = torch.nn.functional.layer_norm(states, (32,), transform.LayerNorm.weight)
    assert_allclose(transform(states), wanted, rtol=1e-3, atol=1e-3)
    assert torch.equal(head.words, model.text.word_embeddings[model.lexicon_ids])


def test_the_image_head_starts_as_a_copy_of_its_own(make_model):
    model = make_model()
    text, image = (
        {n: p for n, p in head.named_parameters() if n != "bias"}
        for head in (model.text_head, model.image_head)
    )
    assert "words" in text and text.keys() == image.keys()
    for name in text:
        assert torch.equal(text[name], image[name])
        assert text[name].data_ptr() != image[name].data_ptr()


@pytest.mark.parametrize(
    ("setting", "prefix"),
    [
        ("freeze_vision", "vision.trunk."),
        ("freeze_embeddings", "text.trunk.embeddings.word_embeddings."),
    ],
)
def test_what_is_frozen_stays_frozen_in_the_next_stage(
    make_model, tiny_settings, tmp_path, setting, prefix
):
    model = make_model(**{setting: True})
    model.save_pretrained(tmp_path)
    settings = replace(tiny_settings, model=replace(tiny_settings.model, **{setting: True}))
    for one in (model, load(tmp_path, settings, LexLIP)):
        still = {name for name, p in one.named_parameters() if not p.requires_grad}
        assert still == {n for n, _ in one.named_parameters() if n.startswith(prefix)} != set()
    thawed = load(tmp_path, tiny_settings, LexLIP)
    assert all(p.requires_grad for p in thawed.parameters())


def test_the_control_has_the_same_towers(make_model, model):
    dense = make_model(kind=DenseDualEncoder)
    ours = {n for n, _ in model.named_parameters() if n.startswith(("vision.", "text."))}
    theirs = {n for n, _ in dense.named_parameters() if n.startswith(("vision.", "text."))}
    assert ours == theirs and len(ours) > 50

"""A fresh model: towers by shape or folder, the vocabulary, heads that start alive."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from transformers import (
    AutoModel,
    BertForMaskedLM,
    BertModel,
    CLIPConfig,
    CLIPModel,
    CLIPTokenizer,
    DistilBertConfig,
    DistilBertModel,
    ViTConfig,
    ViTModel,
)
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from lexlip.errors import LexLIPError
from lexlip.lexicon import STOP_WORDS
from lexlip.models.dense_control import DenseDualEncoder
from lexlip.models.lexlip import LexLIP
from pretrain import stage1, stage2
from pretrain.build import build, caption_tokenizer, load


def test_the_vocabulary_is_the_words_of_the_captions(captions):
    tokenizer = caption_tokenizer(["A red Dog, running.", "a CAT"])
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = tokenizer.get_vocab()
    assert sorted(vocabulary, key=vocabulary.get) == [
        *special, ",", ".", "a", "cat", "dog", "red", "running"
    ]  # fmt: skip
    assert tokenizer.tokenize("The dog runs") == ["[UNK]", "dog", "[UNK]"]
    assert tokenizer.pad_token_id == 0 and tokenizer.mask_token_id == 4
    own = caption_tokenizer(captions)
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


@torch.no_grad()
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


SHAPE = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64
}  # fmt: skip


@pytest.fixture(scope="module")
def clip(tmp_path_factory, captions):
    """Folder of a tiny CLIP whose vocabulary is the captions' words and all letters."""
    folder = tmp_path_factory.mktemp("clip")
    words = sorted({word for caption in captions for word in caption.split()})
    letters = [chr(n) for n in range(ord("a"), ord("z") + 1)]
    table = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{c}</w>" for c in letters), ",</w>"]
    merges = []
    for word in (w for w in words if w.isalpha() and len(w) > 1):
        left = word[0]  # the merges that make the word, letter by letter
        for i, letter in enumerate(word[1:], 2):
            right = f"{letter}</w>" if i == len(word) else letter
            merges.append((left, right))
            left += right
            table.append(left)
    vocab = {token: number for number, token in enumerate(dict.fromkeys(table))}
    CLIPTokenizer(vocab=vocab, merges=list(dict.fromkeys(merges))).save_pretrained(folder)
    text = {"vocab_size": len(vocab), "max_position_embeddings": 20, **SHAPE}
    text |= {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    vision = {"image_size": 16, "patch_size": 8, **SHAPE}
    torch.manual_seed(5)
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    CLIPModel(config).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


def test_both_sides_of_a_clip_are_towers(make_model, clip, captions, images):
    model = make_model(vision=str(clip), text=str(clip), max_text_length=20)
    theirs = CLIPModel.from_pretrained(clip)
    for ours, side in ((model.vision.trunk, theirs.vision_model),
                       (model.text.trunk, theirs.text_model)):  # fmt: skip
        mine, other = ours.state_dict(), side.state_dict()
        assert mine.keys() == other.keys() and len(mine) > 30
        changed = {name for name in mine if mine[name].shape != other[name].shape}
        assert all(torch.equal(mine[n], other[n]) for n in mine.keys() - changed)
        assert changed in (
            {"embeddings.position_embedding.weight"},  # 16 px became 32
            {"embeddings.token_embedding.weight"},  # and a [MASK] was added
        )
    words = model.text.word_embeddings
    assert len(words) == len(model.processor.tokenizer) == theirs.config.text_config.vocab_size + 1
    assert torch.equal(words[:-1], theirs.text_model.embeddings.token_embedding.weight)
    assert model.processor.tokenizer.mask_token_id == len(words) - 1
    assert model.config.excluded_token_ids == [0, 1]

    said = {word for caption in captions for word in caption.split()}
    terms = {model.lexicon.tokens[number] for number in model.lexicon.ids}
    assert {"red", "circle", "above"} <= terms <= said - STOP_WORDS
    assert model.encode_text(captions).nnz and model.encode_image(images[:2]).nnz
    batch = model.processor.tokenize(["a red circle"], 20)
    assert model.text.positions(**batch).tolist() == [[False, True, True, True, False]]


def test_a_clip_with_changes_is_its_own_side_with_changes(make_model, clip):
    model = make_model(vision={"name": str(clip), "hidden_act": "gelu"})
    assert model.config.vision_config.hidden_act == "gelu"
    theirs = CLIPModel.from_pretrained(clip).vision_model
    name = "encoder.layers.0.mlp.fc1.weight"
    assert torch.equal(model.vision.trunk.get_parameter(name), theirs.get_parameter(name))


def test_distilbert_comes_from_its_folder(make_model, model, tmp_path, captions):
    size = len(model.processor.tokenizer)
    config = DistilBertConfig(vocab_size=size, dim=32, hidden_dim=64, n_layers=2, n_heads=2)
    DistilBertModel(config).save_pretrained(tmp_path)
    model.processor.tokenizer.save_pretrained(tmp_path)
    ours = make_model(text=str(tmp_path))
    theirs = AutoModel.from_pretrained(tmp_path).state_dict()
    mine = ours.text.trunk.state_dict()
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[n], theirs[n]) for n in mine)
    assert ours.encode_text(captions).nnz


def test_more_frozen_layers_than_there_are_is_one_line(make_model):
    with pytest.raises(LexLIPError, match="freeze_layers=9"):
        make_model(freeze_layers=9)


def test_the_next_stage_may_have_larger_pictures(make_model, tiny_settings, tmp_path, images):
    make_model().save_pretrained(tmp_path)
    settings = replace(tiny_settings, model=replace(tiny_settings.model, image_size=48))
    model = load(tmp_path, settings, LexLIP)
    pixels = model.processor.pixels(images[:2])
    assert pixels.shape == (2, 3, 48, 48)
    assert model.vision.features(pixels).shape == (2, 1 + 36, 32)


@pytest.mark.parametrize(
    "tower",
    [
        'model.text={model_type="distilbert", dim=32, hidden_dim=64, n_layers=1, n_heads=2}',
        'model.text="CLIP"',
        'model.vision={model_type="clip_vision_model", patch_size=8, SHAPE}',
    ],
)
def test_other_towers_go_through_a_step_of_both_stages(tiny_run, clip, tower, tmp_path):
    shape = ", ".join(f"{key}={value}" for key, value in SHAPE.items())
    chosen = [tower.replace("CLIP", str(clip)).replace("SHAPE", shape), "model.max_text_length=20"]
    chosen += ["model.freeze_layers=1"] if "vision" in tower else []
    chosen += [f"stage{n}.{key}" for n in (1, 2) for key in ("steps=1", "batch_size=8")]
    for stage in (stage1, stage2):
        stage.main(tiny_run, str(tmp_path), False, chosen)
    first, second = (
        LexLIP.from_pretrained(tmp_path / s).state_dict() for s in ("stage1", "stage2")
    )
    same = {name for name in first if torch.equal(first[name], second[name])}
    assert ("vision.trunk.encoder.layers.0.mlp.fc1.weight" in same) == ("vision" in tower)
    assert "text_head.words" not in same and "vision.out.weight" not in same

"""Training on the frozen patches of a CLIP (config clip-b32), with random weights."""

from __future__ import annotations

import json
import string
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from lexlip import Index, LexLIP
from pretrain import settings, stage1, stage2
from pretrain.build import caption_tokenizer
from tests.support.clips import small_clip

STEPS = 3


def letters_of_clip():
    """CLIP's kind of tokenizer over letters, so that every word has tokens."""
    letters = string.ascii_lowercase + ",."
    words = ["red", "blue", "green", "circle", "square", "star"]
    names = dict.fromkeys([*letters, *(f"{c}</w>" for c in letters)])
    merges = {}
    for word in words:
        left = word[0]
        for at, letter in enumerate(word[1:], 2):
            right = f"{letter}</w>" if at == len(word) else letter
            merges[left, right] = None
            left += right
            names[left] = None
    names |= dict.fromkeys(("<|startoftext|>", "<|endoftext|>"))
    vocab = {name: number for number, name in enumerate(names)}
    return transformers.CLIPTokenizer(vocab=vocab, merges=list(merges))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return small_clip(tmp_path_factory.mktemp("towers") / "clip", letters_of_clip())


@pytest.fixture(scope="module")
def bert(tmp_path_factory, captions):
    folder = tmp_path_factory.mktemp("towers") / "bert"
    tokenizer = caption_tokenizer(captions)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=40,
    )  # fmt: skip
    for part in (transformers.BertModel(config), tokenizer):
        part.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["bert", "clip"])
def run(request, tmp_path_factory, clip, bert):
    """The folder of a run of some steps, with a BERT's or with CLIP's own text tower."""
    folder = tmp_path_factory.mktemp("run")
    small = {
        "data.source": '"scenes"',
        "data.scenes": "{train = 24, dev = 6, test = 0, size = 32}",
        "data.cache": f'"{folder}/cache"',
        "model.vision": f'"{clip}"',
        "model.text": f'"{bert if request.param == "bert" else clip}"',
        "model.image_size": 16,
        "model.patch_grid": 2,
        "model.neck_heads": 2,
        "model.max_text_length": 24,
        "words.min_count": 1,
        "precision": '"no"',
    }
    for stage in ("stage1", "stage2"):
        small |= {f"{stage}.steps": STEPS, f"{stage}.batch_size": 12}
    overrides = [f"{key}={value}" for key, value in small.items()]
    for job in (stage1, stage2):
        job.main("clip-b32", str(folder), False, overrides)
    return folder


def test_both_stages_take_their_steps(run):
    for stage in ("stage1", "stage2"):
        lines = Path(f"{run}/{stage}.jsonl").read_text().splitlines()
        row = json.loads(lines[-1])
        assert row["step"] == STEPS and all(np.isfinite(value) for value in row.values())


def test_the_clip_stays_and_the_heads_learn(run, clip):
    first, second = (LexLIP.from_pretrained(run / stage) for stage in ("stage1", "stage2"))
    theirs = transformers.CLIPModel.from_pretrained(clip).vision_model.state_dict()
    for model in (first, second):
        ours = model.vision.trunk.state_dict()
        assert ours and all(torch.equal(ours[name], theirs[name]) for name in ours)
    before, after = first.state_dict(), second.state_dict()
    for name in ("image_head.words", "text_head.words", "vision.out.weight"):
        assert not torch.equal(before[name], after[name])


def test_what_was_trained_searches_and_shows_its_patches(run, images, tmp_path):
    model = LexLIP.from_pretrained(run / "stage2")
    for number, picture in enumerate(images[:4]):
        picture.save(tmp_path / f"{number}.png")
    with Index.create(tmp_path / "i.lex", model, tmp_path, engine="postings") as index:
        hits = index.search(tmp_path / "0.png", k=4)
        assert hits[0].id == "0.png"
    terms = model.encode_image([images[0]]).indices[:3]
    assert model.locate(images[0], terms).grid == (2, 2)


def test_the_config_is_for_a_frozen_clip():
    chosen = settings.load("clip-b32")
    assert chosen.model.freeze_vision
    assert chosen.model.pretrained["vision"] == "openai/clip-vit-base-patch32"
    width = transformers.CLIPVisionConfig().hidden_size  # of ViT-B/32
    assert width % chosen.model.neck_heads == 0

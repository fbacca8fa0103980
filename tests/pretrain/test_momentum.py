"""Momentum encoder and queues, alone and in stage 2."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from lexlip.data.collection import Collection
from lexlip.models.lexlip import LexLIP
from pretrain import build
from pretrain.data import Pairs
from pretrain.momentum import MomentumEncoder, Queue
from pretrain.settings import Stage
from pretrain.stage1 import Stage1
from pretrain.stage2 import Stage2


def two_layers(seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    return model


@pytest.mark.parametrize("n", [1, 2, 10])
def test_average_in_closed_form(n):
    live, target = two_layers(0), two_layers(1)
    slow = MomentumEncoder(live, 0.9)
    start = [p.clone() for p in slow.model[2].parameters()]
    with torch.no_grad():
        for old, new in zip(live[2].parameters(), target[2].parameters(), strict=True):
            old.copy_(new)
    for _ in range(n):
        slow.update(live)
    for now, before, after in zip(
        slow.model[2].parameters(), start, target[2].parameters(), strict=True
    ):
        assert not torch.equal(now, before)
        assert_close(now, 0.9**n * before + (1 - 0.9**n) * after)


def test_keys_come_without_dropout():
    slow = MomentumEncoder(nn.Sequential(nn.Linear(8, 64), nn.Dropout(0.5)), 0.9)
    slow.train()
    row = torch.ones(1, 8)
    assert torch.equal(slow.model(row), slow.model(row)) and (slow.model(row) != 0).all()


def test_batch_statistics_move_with_the_weights():
    live = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    slow = MomentumEncoder(live, 0.9)
    before = slow.model[1].running_mean.clone()
    live.train()(torch.randn(32, 4) + 5)
    slow.update(live)
    expected = 0.9 * before + 0.1 * live[1].running_mean
    torch.testing.assert_close(slow.model[1].running_mean, expected)
    assert slow.model[1].num_batches_tracked == 1


def test_frozen_parameters_are_shared_and_the_rest_copied_without_gradient():
    live = two_layers()
    slow = MomentumEncoder(live, 0.9)
    for mine, theirs in zip(slow.model[0].parameters(), live[0].parameters(), strict=True):
        assert mine is theirs
    for mine, theirs in zip(slow.model[1:].parameters(), live[1:].parameters(), strict=True):
        assert mine is not theirs and torch.equal(mine, theirs)
        assert not mine.requires_grad and theirs.requires_grad


def numbered(first, n, width=3):
    """Keys that bfloat16 holds exactly: row i is full of i modulo 256."""
    number = torch.arange(first, first + n)
    return (number % 256)[:, None].expand(n, width).float(), number, number + 1000


@pytest.mark.parametrize("sizes", [[3], [7], [3, 3, 3], [5] * 9, [20], [2, 7, 31, 1], [0, 4]])
def test_the_ring_holds_the_last_keys(sizes):
    queue, pushed = Queue(7, 3), 0
    for n in sizes:
        queue.push(*numbered(pushed, n))
        pushed += n
        kept = range(max(0, pushed - 7), pushed)
        assert sorted(queue.owner[queue.filled].tolist()) == list(kept)
        assert queue.filled.sum() == len(kept)
        full = queue.filled
        assert torch.equal(queue.text[full], queue.owner[full] + 1000)
        assert torch.equal(queue.keys[full].float()[:, 0], (queue.owner[full] % 256).float())


def test_the_oldest_keys_leave_first():
    queue = Queue(4, 3)
    for first in (0, 3, 6):
        queue.push(*numbered(first, 3))
    assert sorted(queue.owner.tolist()) == [5, 6, 7, 8]


def test_a_queue_of_no_size_holds_nothing():
    queue = Queue(0, 3)
    queue.push(*numbered(0, 5))
    assert queue.no_negative(torch.arange(5), torch.arange(5)).shape == (5, 0)


def test_keys_are_constants():
    queue, keys = Queue(4, 3), torch.ones(2, 3, requires_grad=True)
    queue.push(keys * 2, torch.arange(2), torch.arange(2))
    assert not queue.keys.requires_grad and queue.keys.grad_fn is None


def test_empty_slots_and_the_same_picture_or_caption_are_no_negatives():
    queue = Queue(5, 3)
    queue.push(torch.ones(3, 3), torch.tensor([10, 11, 12]), torch.tensor([20, 21, 22]))
    found = queue.no_negative(torch.tensor([11, 99, 10]), torch.tensor([98, 22, 20]))
    assert found.tolist() == [
        [False, True, False, True, True],
        [False, False, True, True, True],
        [True, False, False, True, True],
    ]


@pytest.fixture
def settings(tiny_settings):
    stage = Stage(queue_size=10, momentum=0.9, temperature=0.1)
    return replace(tiny_settings, stage1=stage, stage2=stage)


@pytest.fixture
def stage2(checkpoint, settings):
    """Stage 2 right after a checkpoint was loaded, as its command makes it."""
    return Stage2(build.load(checkpoint, settings, LexLIP), settings).train()


@pytest.fixture
def batch(model, captions, images):
    """Six pairs; the first two captions are of one picture."""
    owners = [[captions[0], captions[1]], *([c] for c in captions[2:6])]
    collection = Collection([str(i) for i in range(5)], owners, [b""] * 5)
    views = model.processor.resize(images[:5])[:, None]
    pairs = Pairs.of(collection, views, model.processor.tokenizer, model.lexicon, 16)
    return next(pairs.batches(0, 0, 6))


def test_the_slow_model_starts_as_the_checkpoint(stage2, checkpoint):
    trained = LexLIP.from_pretrained(checkpoint).state_dict()
    for mine in (stage2.model.state_dict(), stage2.slow.model.state_dict()):
        assert mine.keys() == trained.keys()
        assert all(torch.equal(mine[name], trained[name]) for name in trained)


def test_the_first_step_contrasts_as_stage_1_does(stage2, settings, batch):
    # The slow model still equals the live one and the queues are empty: only the batch counts.
    generator = torch.Generator().manual_seed(0)
    first = Stage1(stage2.model, settings)(batch, generator)["contrast"]
    # Keys are stored, and compared, in bfloat16.
    assert stage2(batch, generator)["contrast"].item() == pytest.approx(first.item(), rel=1e-2)
    assert not stage2.images.filled.any()
    stage2.after_step()
    assert stage2.images.filled.sum() == stage2.texts.filled.sum() == 6
    assert sorted(stage2.images.owner[:6].tolist()) == [0, 0, 1, 2, 3, 4]


def test_the_contrast_within_the_batch_is_of_live_vectors_alone(stage2, settings, batch):
    generator = torch.Generator().manual_seed(0)
    before = {k: v.item() for k, v in stage2(batch, generator).items()}
    of_stage1 = Stage1(stage2.model, settings)(batch, generator)["contrast"].item()
    for parameter in stage2.slow.model.parameters():
        if not any(parameter is live for live in stage2.model.parameters()):
            parameter.data.mul_(0.5)
    after = {k: v.item() for k, v in stage2(batch, generator).items()}
    assert before["batch_contrast"] == pytest.approx(of_stage1, rel=1e-5)
    assert after["batch_contrast"] == pytest.approx(before["batch_contrast"], rel=1e-5)
    assert after["contrast"] != pytest.approx(before["contrast"], rel=1e-3)


@torch.no_grad()
def by_hand(model, batch, temperature, times):
    """Both contrasts with loops, when the queue holds the batch's own keys `times` - 1 times."""
    image = model.pool_image(model.vision.features(model.processor.normalise(batch["pictures"])))
    captions = batch["captions"]
    text = model.pool_text(captions["input_ids"], captions["attention_mask"])
    rows = [torch.log1p(pooled[0].relu()) for pooled in (text, image)]
    q_text, q_image = (r / r.norm(dim=1, keepdim=True) for r in rows)
    owner, number = batch["owner"].tolist(), batch["text"].tolist()
    total = 0.0
    for queries, keys in ((q_text, q_image), (q_image, q_text)):
        for i, query in enumerate(queries):
            others = [
                math.exp(query @ keys[j] / temperature)
                for j in range(len(owner))
                if owner[j] != owner[i] and number[j] != number[i]
            ]
            positive = math.exp(query @ keys[i] / temperature)
            total += math.log1p(times * sum(others) / positive)
    return total / 2 / len(owner)


def test_same_pictures_and_captions_in_the_queue_are_no_negatives(stage2, batch):
    stage2.images, stage2.texts = (Queue(12, len(stage2.model.lexicon)) for _ in range(2))
    generator = torch.Generator()
    for times in (1, 2, 3):
        wanted = by_hand(stage2.model, batch, 0.1, times)
        assert stage2(batch, generator)["contrast"].item() == pytest.approx(wanted, rel=1e-2)
        stage2.after_step()
    for queue in (stage2.images, stage2.texts):  # now they are other pictures and captions
        queue.owner.add_(1000)
        queue.text.add_(1000)
    assert stage2(batch, generator)["contrast"] > wanted + 0.1


def test_evaluation_changes_neither_queue_nor_slow_weights(stage2, batch):
    before = {name: value.clone() for name, value in stage2.state_dict().items()}
    stage2.eval()(batch, torch.Generator())
    after = stage2.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_gradient_reaches_the_live_model_only(stage2, batch):
    sum(stage2(batch, torch.Generator()).values()).backward()
    trained = {name for name, p in stage2.named_parameters() if p.grad is not None}
    assert not any(name.startswith("slow.") for name in trained)
    assert {"model.own_word_boost", "model.text_head.bias", "model.image_head.bias"} <= trained
    # What an average is made of moves only after the optimiser's step.
    old = stage2.slow.model.own_word_boost.clone()
    with torch.no_grad():
        stage2.model.own_word_boost.add_(1.0)
    assert torch.equal(stage2.slow.model.own_word_boost, old)
    stage2.after_step()
    assert_close(stage2.slow.model.own_word_boost, old + 0.1)


def test_a_frozen_trunk_is_held_once(checkpoint, settings, batch):
    frozen = replace(settings, model=replace(settings.model, freeze_vision=True))
    stage = Stage2(build.load(checkpoint, frozen, LexLIP), frozen)
    trunks = stage.model.vision.trunk, stage.slow.model.vision.trunk
    pairs = list(zip(*(t.parameters() for t in trunks), strict=True))
    assert pairs and all(a is b and not a.requires_grad for a, b in pairs)
    assert np.isfinite(sum(stage(batch, torch.Generator()).values()).item())

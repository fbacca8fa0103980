"""Micro batches: the gradient of the whole batch, whatever the memory."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lexlip.data.collection import Collection
from lexlip.errors import LexLIPError
from lexlip.models.dense_control import DenseDualEncoder
from pretrain import dense, loop, stage2
from pretrain.data import Pairs
from pretrain.dense import DenseTask
from pretrain.micro_batches import Backward, deal, gather
from pretrain.parallel import World
from pretrain.rerank_heads import HeadsTask
from pretrain.settings import Stage
from pretrain.stage1 import Stage1
from pretrain.stage2 import Stage2

ROWS = 11
STAGE = Stage(queue_size=30, temperature=0.1, kept_patches=0.5, masked_rows=8, texts_per_batch=3)


@pytest.fixture(scope="module")
def pairs(model, captions, images):
    """Nine pictures, some with several captions, some of which are equal."""
    owned = [[captions[i % 8], captions[(i + 3) % 8]][: 1 + i % 2] for i in range(9)]
    collection = Collection([str(i) for i in range(9)], owned, [b""] * 9)
    seen = model.processor.resize(images[:9])
    views = np.stack([seen, seen[..., ::-1], seen[..., ::-1, :]], axis=1)
    extra = ["a red star", "two dogs", "three circles in the snow"]
    return Pairs.of(collection, views, model.processor.tokenizer, model.lexicon, 16, extra)


def task_of(name, make_model, tiny_settings, dropout=0.0):
    name, _, every = name.partition(", ")
    stage = replace(STAGE, dropout=dropout)
    if every:
        known = {"stage2": stage2.WEIGHTS, "dense": dense.WEIGHTS}[name]
        stage = replace(stage, looks=2, weights=dict.fromkeys(known, 1.0))
    settings = replace(tiny_settings, stage1=stage, stage2=stage, dense=stage)
    kinds = {"stage1": Stage1, "stage2": Stage2, "dense": DenseTask}
    model = make_model(kind=DenseDualEncoder) if name == "dense" else make_model()
    with torch.no_grad():  # louder than fresh weights, so that pictures differ
        for parameter in model.vision.parameters():
            if parameter.ndim > 1:
                parameter.mul_(3)
    torch.manual_seed(1)
    task = kinds[name](model, settings).train()
    loop.set_dropout(model, dropout)
    return task


def batch_of(pairs, seed=0):
    return next(pairs.batches(seed, 0, ROWS, texts=3, looks=2))


def taken(task):
    """Gradients, which are then gone."""
    found = {n: p.grad.clone() for n, p in task.named_parameters() if p.grad is not None}
    task.zero_grad(set_to_none=True)
    return found


def backward(task, batch, parts, chance=5, autocast=nullcontext):
    """Losses and gradients of a batch in so many parts."""
    weigh = partial(loop.weighted_sum, task, 1.0)
    losses = Backward(task, World(), parts, autocast)(batch, chance, weigh)
    assert losses.keys() >= {name for name, weight in task.weights.items() if weight}
    return {k: v.item() for k, v in losses.items()}, taken(task)


def close(found, wanted, relative):
    assert found.keys() == wanted.keys() and len(wanted) > 30
    mine, theirs = (torch.cat([d[k].flatten() for k in wanted]).double() for d in (found, wanted))
    assert theirs.isfinite().all() and theirs.norm() > 0
    assert (mine - theirs).norm() < relative * theirs.norm()


NAMES = pytest.mark.parametrize(
    "name", ["stage1", "stage2", "dense", "stage2, all losses", "dense, all losses"]
)


@NAMES
@pytest.mark.parametrize("parts", [2, 3, ROWS])
def test_the_gradient_is_that_of_the_whole_batch(name, parts, pairs, make_model, tiny_settings):
    task = task_of(name, make_model, tiny_settings)
    for seed in range(2):  # in the second step the queues are filled
        batch = batch_of(pairs, seed)
        before = [b.clone() for b in task.buffers()]
        losses, gradients = backward(task, batch, 1)
        again, found = backward(task, batch, parts)
        assert again == pytest.approx(losses, rel=1e-5)
        close(found, gradients, 1e-5)
        assert all(torch.equal(a, b) for a, b in zip(before, task.buffers(), strict=True))
        task.after_step()


@NAMES
def test_pictures_that_are_encoded_once_have_the_gradient_of_copies(
    name, pairs, make_model, tiny_settings
):
    task = task_of(name, make_model, tiny_settings)
    batch = next(pairs.batches(0, 0, 12, texts=3, together=2, looks=2))
    assert len(batch["pictures"]) == 6 and len(batch["owner"]) == 12
    copied = {**batch, "pictures": np.concatenate([batch["pictures"]] * 2)}
    losses, wanted = backward(task, copied, 1)
    for parts in (1, 2, 3):
        again, found = backward(task, batch, parts)
        assert again == pytest.approx(losses, rel=1e-5)
        close(found, wanted, 1e-5)


@NAMES
def test_dropout_of_the_second_pass_is_that_of_the_first(name, pairs, make_model, tiny_settings):
    task, batch, parts, chance = (
        task_of(name, make_model, tiny_settings, 0.3),
        batch_of(pairs),
        4,
        9,
    )
    # All parts at once, each after its own seed, with nothing thrown away: one plain backward.
    drawn = task.draw(batch, torch.Generator().manual_seed(chance))
    encoded, own = [], {}
    for number in range(parts):
        part = deal(drawn, number, parts)
        torch.manual_seed(chance + (number << 40))
        rows = task.encode(part)
        for k, v in task.own_losses(part, rows).items():
            own[k] = own.get(k, 0) + v
        encoded.append({**rows, **task.keys(part)})
    rows = {k: gather([e[k] for e in encoded]) for k in encoded[0]}
    losses = {**own, **task.losses(drawn, rows)}
    loop.weighted_sum(task, 1.0, losses).backward()
    wanted = taken(task)

    again, found = backward(task, batch, parts, chance)
    assert again == pytest.approx({k: v.item() for k, v in losses.items()}, rel=1e-5)
    close(found, wanted, 1e-5)
    with pytest.raises(AssertionError):  # dropout is there
        close(backward(task, batch, parts, chance + 1)[1], wanted, 1e-2)


@NAMES
def test_bf16_reaches_the_same_weights(name, pairs, make_model, tiny_settings):
    # Weights that autocast remembers from the pass without gradient would get none.
    task, batch = task_of(name, make_model, tiny_settings), batch_of(pairs)
    autocast = partial(torch.autocast, "cpu", dtype=torch.bfloat16)
    losses, gradients = backward(task, batch, 1, autocast=autocast)
    again, found = backward(task, batch, 3, autocast=autocast)
    assert all(np.isfinite(v) for v in losses.values())
    assert again == pytest.approx(losses, rel=1e-2)
    close(found, gradients, 0.1)
    exact = backward(task, batch, 1)[1]
    assert found.keys() == exact.keys()
    # A part rounds like the whole: no further from float32 than that is, give or take.
    flat = [torch.cat([g[k].flatten() for k in exact]) for g in (found, gradients, exact)]
    assert (flat[0] - flat[2]).norm() < 2 * (flat[1] - flat[2]).norm() + 1e-3 * flat[2].norm()


@NAMES
def test_no_more_rows_are_encoded_at_a_time_and_none_kept(name, pairs, make_model, tiny_settings):
    task, seen = task_of(name, make_model, tiny_settings), []
    encode = task.encode
    task.encode = lambda part: (
        seen.append((len(part["owner"]), torch.is_grad_enabled())) or encode(part)
    )
    backward(task, batch_of(pairs), 3)
    assert seen == [(4, False), (4, False), (3, False), (4, True), (4, True), (3, True)]


@pytest.mark.parametrize("name", ["stage1", "stage2"])
def test_captions_of_a_picture_are_no_negatives_across_parts(
    name, pairs, make_model, tiny_settings
):
    task, batch = task_of(name, make_model, tiny_settings), batch_of(pairs)
    batch["owner"] = torch.zeros_like(batch["owner"])  # all of one picture
    for _ in range(2):  # and then in the queues as well
        losses, _ = backward(task, batch, 4)
        assert losses["contrast"] == pytest.approx(0, abs=1e-6)
        task.after_step()
    batch["owner"] = torch.arange(ROWS)
    batch["text"] = torch.arange(ROWS)
    assert backward(task, batch, 4)[0]["contrast"] > 1
    batch["text"] = torch.zeros_like(batch["text"])  # nor are equal captions
    if name == "stage1":
        assert backward(task, batch, 4)[0]["contrast"] == pytest.approx(0, abs=1e-6)


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 5))
def test_dealing_and_gathering_lose_nothing(rows, size, parts):
    batch = {"a": torch.arange(rows), "b": {"c": np.arange(rows) * 2}, "shared": {"n": 7}}
    shares = []
    for rank in range(size):
        mine = deal(batch, rank, size)
        dealt = [deal(mine, number, parts) for number in range(parts)]
        for number, part in enumerate(dealt):
            turn = World(rank, size).turn(number, parts)
            assert np.array_equal(part["b"]["c"], batch["b"]["c"][turn :: size * parts])
            assert part["shared"] == {"n": 7}
        shares.append(gather([part["a"] for part in dealt]))
    assert torch.equal(gather(shares), batch["a"])


def test_what_cannot_be_divided_is_refused(make_model, tiny_settings):
    stage = replace(STAGE, micro_batch=4)
    model = make_model()
    resnet = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 8], "depths": [1, 1]}
    normalised = Stage1(make_model(vision=resnet), tiny_settings)
    with pytest.raises(LexLIPError, match="batch normalisation.*freeze_vision=true"):
        loop.micro_batches(normalised, stage, World(), 8)
    assert loop.micro_batches(normalised, stage, World(), 4) == 1
    normalised.model.vision.trunk.requires_grad_(False)
    assert loop.micro_batches(normalised, stage, World(), 9) == 3
    together = replace(stage, captions_together=2)
    normalised.model.eval()
    assert loop.micro_batches(normalised, together, World(), 8) == 2
    for rows, world in ((9, World()), (10, World()), (12, World(0, 4))):
        with pytest.raises(LexLIPError, match="change captions_together"):
            loop.micro_batches(normalised, together, world, rows)
    model.add_heads(token_size=8, gaussian_size=0, layers=1)
    with pytest.raises(LexLIPError, match="HeadsTask trains in one process"):
        loop.micro_batches(HeadsTask(model, tiny_settings, []), stage, World(), 8)


@NAMES
def test_activations_that_are_forgotten_change_no_gradient(name, pairs, make_model, tiny_settings):
    """With dropout, too: what falls out the second time is what fell out the first."""
    task, batch, calls = task_of(name, make_model, tiny_settings, 0.2), batch_of(pairs), []
    layer = task.model.text.trunk.encoder.layer[0]
    layer.intermediate.register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    losses, gradients = backward(task, batch, 1)
    once = calls.count(True)
    loop.forget_activations(task.model)
    calls.clear()
    again, found = backward(task, batch, 1)
    assert calls.count(True) == 2 * once > 0
    assert again == losses
    close(found, gradients, 1e-6)
    assert "gradient_checkpointing" not in task.model.config.to_json_string()


def test_a_trunk_that_cannot_forget_is_an_error(make_model, monkeypatch):
    model = make_model()
    monkeypatch.setattr(type(model.text.trunk), "supports_gradient_checkpointing", False)
    with pytest.raises(LexLIPError, match="text trunk .bert. has no gradient checkpointing"):
        loop.forget_activations(model)

"""Training of the dense branch: resumable to the bit, it learns, and words stay as they are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lexlip import LexLIP
from lexlip.errors import LexLIPError
from lexlip.models.scores.gaussian import csd
from lexlip.models.scores.late import late_interaction
from pretrain import loop, stage1, stage2
from pretrain import rerank_heads as heads
from pretrain.objectives import no_negative

CONFIG = """
name = "tiny"
precision = "no"

[data]
source = "scenes"
scenes = {{ train = 48, dev = 12, test = 0, size = 32 }}
cache = "{cache}"

[model]
image_size = 32
neck_layers = 1
neck_heads = 2
neck_positions = true
patch_grid = 4
max_text_length = 24

[model.vision]
model_type = "resnet"
embedding_size = 16
hidden_sizes = [16, 32]
depths = [1, 1]
layer_type = "basic"

[model.text]
model_type = "bert"
max_position_embeddings = 32
hidden_size = 32
num_hidden_layers = 2
num_attention_heads = 2
intermediate_size = 48

[stage1]
batch_size = 40
masked_rows = 8
head_lr = 1e-3

[stage2]
batch_size = 40
queue_size = 40
head_lr = 1e-3

[heads]
batch_size = 40
head_lr = 3e-3
save_every = 2
dropout = 0.1
kept_patches = 0.5
token_size = 8
gaussian_size = 6
layers = 1

[heads.weights]
naaf = 0.5
soft_contrast = 0.5
uniformity = 0.1
"""
DENSE = {*heads.TOKEN_LOSSES, *heads.GAUSSIAN_LOSSES}
TEXTS = ["a red circle", "", "two blue squares on the left", "a large green star"]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A run of six steps: 240 captions in batches of 40; a trunk with batch normalisation."""
    folder = tmp_path_factory.mktemp("heads")
    path = folder / "tiny.toml"
    path.write_text(CONFIG.format(cache=folder / "cache"))
    return str(path)


@pytest.fixture(scope="module")
def run(config):
    """A folder in which both stages and the heads have been trained."""
    folder = str(Path(config).parent / "run")
    for job in (stage1, stage2, heads):
        job.main(config, folder, False, [])
    return Path(folder)


@pytest.fixture
def again(run, tmp_path):
    """A folder of the same stage 2, for heads of its own."""
    (tmp_path / "stage2").symlink_to(run / "stage2")
    return tmp_path


def log(path):
    return [json.loads(line) for line in Path(f"{path}.jsonl").read_text().splitlines()]


def weights(model, images):
    return model.encode_text(TEXTS).toarray(), model.encode_image(images).toarray()


def test_every_loss_and_each_head_is_logged(run):
    last = log(run / "heads")[-1]
    assert last["step"] == 6 and last.keys() >= DENSE
    assert not last.keys() & stage2.WEIGHTS.keys()
    assert all(np.isfinite(value) for value in last.values())
    for head in ("t2i", "filip", "filip_i2t", "csd"):
        assert 0 <= last[f"{head}_R@1"] <= last[f"{head}_R@5"] <= last[f"{head}_R@10"] <= 1


def test_frozen_towers_give_the_same_words_to_the_bit(run, images):
    before, after = (LexLIP.from_pretrained(run / s) for s in ("stage2", "heads"))
    for old, new in zip(weights(before, images), weights(after, images), strict=True):
        assert old.any() and np.array_equal(old, new)
    old, new = before.state_dict(), after.state_dict()
    assert all(torch.equal(old[name], new[name]) for name in old)  # running means included
    assert {n.split(".")[0] for n in new.keys() - old.keys()} == {"heads"}
    assert before.fingerprint != after.fingerprint


def test_every_part_of_the_heads_moves(run, config, make_model):
    trained = LexLIP.from_pretrained(run / "heads")
    fresh = LexLIP.from_pretrained(run / "stage2")
    torch.manual_seed(0)
    fresh.add_heads(8, 6, layers=1)
    start, end = fresh.heads.state_dict(), trained.heads.state_dict()
    same = {name for name in start if torch.equal(start[name], end[name])}
    assert same == set()
    assert isinstance(trained.config.naaf_threshold, float | None)


def test_the_checkpoint_stands_alone(run, images, tmp_path):
    model = LexLIP.from_pretrained(run / "heads")
    _, seen = model.represent_image(images)
    assert seen.tokens.shape == (12, 16, 8) and seen.mean.shape == (12, 6)
    model.save_pretrained(tmp_path)
    again = LexLIP.from_pretrained(tmp_path)
    assert again.fingerprint == model.fingerprint
    assert np.array_equal(again.represent_image(images)[1].tokens, seen.tokens)


class Killed(Exception):
    """Stands for a power cut."""


def tensors(folder):
    return {
        f"{name}:{key}": value
        for name in ("model.safetensors", "train_state/state.safetensors")
        for key, value in load_file(Path(folder) / name).items()
    }


@pytest.mark.parametrize("step", [1, 5])
def test_a_resumed_run_ends_in_the_same_bits(run, config, again, monkeypatch, step):
    whole_step, steps = heads.HeadsTask.after_step, []

    def dies(self):
        whole_step(self)
        steps.append(1)
        if len(steps) == step:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(heads.HeadsTask, "after_step", dies)
        heads.main(config, str(again), False, [])
    heads.main(config, str(again), True, [])
    whole, resumed = tensors(run / "heads"), tensors(again / "heads")
    assert whole.keys() == resumed.keys()
    assert any(key.endswith("task.miner.threshold") for key in whole)
    assert [key for key in whole if not torch.equal(whole[key], resumed[key])] == []
    ours, theirs = (LexLIP.from_pretrained(f / "heads").config for f in (run, again))
    assert ours.naaf_threshold == theirs.naaf_threshold


@pytest.mark.parametrize(
    ("overrides", "absent"),
    [
        (["heads.gaussian_size=0"], set(heads.GAUSSIAN_LOSSES)),
        (["heads.token_size=0", "heads.layers=0"], set(heads.TOKEN_LOSSES)),
    ],
)
def test_either_head_alone(config, again, images, overrides, absent):
    heads.main(config, str(again), False, overrides)
    assert DENSE - log(again / "heads")[-1].keys() == absent
    model = LexLIP.from_pretrained(again / "heads")
    _, seen = model.represent_image(images)
    assert seen.has_tokens != seen.has_gaussians
    assert seen.has_tokens == ("naaf" not in absent)


def test_towers_that_are_trained_keep_the_losses_of_words(config, again, images):
    heads.main(config, str(again), False, ["heads.freeze_towers=false", "heads.token_count=3"])
    lexical = stage2.WEIGHTS.keys() - {"batch_contrast", "taught"}
    assert log(again / "heads")[-1].keys() >= DENSE | lexical
    before, after = (LexLIP.from_pretrained(again / s) for s in ("stage2", "heads"))
    assert not np.array_equal(weights(before, images)[1], weights(after, images)[1])
    assert after.represent_image(images)[1].tokens.shape == (12, 3, 8)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["heads.token_size=0", "heads.gaussian_size=0"], "no head to train"),
        (["heads.weights.filp=1"], "no loss named .*'filp'"),
    ],
)
def test_what_makes_no_sense_is_one_line(config, again, overrides, says):
    with pytest.raises(LexLIPError, match=says):
        heads.main(config, str(again), False, overrides)
    assert not (again / "heads").exists()


def test_heads_want_a_finished_stage_2(config, tmp_path):
    with pytest.raises(LexLIPError, match="no finished stage 2"):
        heads.main(config, str(tmp_path), False, [])
    assert not (tmp_path / "heads").exists()


def test_a_finished_run_is_not_trained_again(run, config, capsys):
    before = (run / "heads" / "model.safetensors").stat()
    heads.main(config, str(run), True, [])
    assert "finished already" in capsys.readouterr().out
    assert (run / "heads" / "model.safetensors").stat() == before


def task_of(run, config, *overrides):
    """A task, a function that gives its losses on the first batch, and that batch."""
    bench = loop.Workbench.open(config, list(overrides))
    model = LexLIP.from_pretrained(run / "heads")
    captions = list(dict.fromkeys(c for texts in bench.train.captions for c in texts))
    task = heads.HeadsTask(model, bench.settings, captions).train()
    pairs = bench.pairs(model, bench.train, True)
    batch = next(pairs.batches(0, 0, 40))
    return task, lambda: task(batch, torch.Generator().manual_seed(0)), batch


def test_states_of_frozen_texts_are_those_of_the_tower(run, config):
    still = ["heads.dropout=0.0", "model.freeze_vision=true"]
    task, losses, _ = task_of(run, config, *still)
    loop.set_dropout(task.model, 0.0)
    cached = losses()
    task.stage = loop.settings_module.load(config, ["heads.freeze_towers=false"]).heads
    task.train(False)
    live = losses()
    for name in DENSE:
        assert cached[name].item() == pytest.approx(live[name].item(), rel=2e-2, abs=1e-3), name
    sum(cached[name] for name in DENSE).backward()
    grads = {n: p.grad for n, p in task.model.named_parameters() if p.grad is not None}
    assert grads and all(name.startswith("heads.") for name in grads)


def test_heads_learn_a_batch_by_heart(run, config):
    overrides = ["model.freeze_vision=true", "heads.kept_patches=1.0", "heads.mixed=0.0"]
    task, losses, batch = task_of(run, config, *overrides)
    model, captions = task.model, batch["captions"]
    loop.set_dropout(model, 0.0)
    optimizer = torch.optim.AdamW(model.heads.parameters(), lr=3e-3)
    start = {name: loss.item() for name, loss in losses().items()}
    for _ in range(70):
        found = losses()
        sum(found[k] * w for k, w in task.weights.items() if w).backward()
        optimizer.step()
        optimizer.zero_grad()
    for name in ("late_contrast", "closed_form", "soft_contrast"):
        assert found[name].item() < 0.6 * start[name], name
    words = {k: captions[k] for k in ("input_ids", "attention_mask")}
    states = model.text.states(**words, below=(1,))[0]
    positions = model.text.positions(**words)
    text = model.heads.of_text(states, words["attention_mask"], positions)
    image = model.heads.of_image(model.vision, loop.features(model, batch["pictures"]))
    same = no_negative(batch["owner"], batch["text"])
    i2t, t2i = late_interaction(image.tokens, image.mask, text.tokens, text.mask)
    near = -csd(image.mean, image.log_variance, text.mean, text.log_variance)
    rows = torch.arange(len(same))
    shares = [same[scores.argmax(0), rows].float().mean().item() for scores in (i2t, t2i, near)]
    assert min(shares) > 0.7 > 3 * same.float().mean()


def test_heads_do_not_begin_on_a_damaged_checkpoint(run, config, tmp_path):
    shutil.copytree(run / "stage2", tmp_path / "stage2")
    weights = tmp_path / "stage2" / "model.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)
    with pytest.raises(LexLIPError, match="model.safetensors is damaged"):
        heads.main(config, str(tmp_path), False, [])
    assert not (tmp_path / "heads").exists()

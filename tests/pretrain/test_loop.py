"""Training from end to end on a few drawn scenes: resumable to the bit, and it learns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lexlip import LexLIP
from lexlip.data.collection import load_collection
from lexlip.errors import LexLIPError
from lexlip.models.dense_control import DenseDualEncoder
from pretrain import dense, loop, stage1, stage2
from pretrain.settings import Stage

SCENES = {"train": 48, "dev": 12, "test": 0, "size": 32}


@pytest.fixture(scope="module")
def run(tiny_run, tmp_path_factory):
    """A folder in which both stages and the control have been trained."""
    folder = tmp_path_factory.mktemp("training")
    for job in (stage1, stage2, dense):
        job.main(tiny_run, str(folder), False, [])
    return folder


def log(path):
    return [json.loads(line) for line in Path(f"{path}.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("stage", "losses"),
    [("stage1", set(stage1.WEIGHTS)), ("stage2", set(stage2.WEIGHTS)), ("dense", {"contrast"})],
)
def test_every_loss_is_logged_and_finite(run, stage, losses):
    rows = log(run / stage)
    assert rows[-1]["step"] == 6
    assert losses <= rows[-1].keys()
    assert all(np.isfinite(value) for row in rows for value in row.values())
    assert 0 <= rows[-1]["t2i_R@1"] <= rows[-1]["t2i_R@10"] <= 1


@pytest.mark.parametrize(
    ("stage", "kind"), [("stage1", LexLIP), ("stage2", LexLIP), ("dense", DenseDualEncoder)]
)
def test_the_checkpoint_stands_alone(run, tiny_run, stage, kind, tmp_path):
    model = kind.from_pretrained(run / stage)
    scene = load_collection("scenes", "dev", cache=Path(tiny_run).parent / "cache", scenes=SCENES)
    rows = model.encode_document([scene.image(0), scene.image(1)])
    rows = rows.toarray() if kind is LexLIP else rows
    assert np.isfinite(rows).all() and not np.array_equal(rows[0], rows[1])
    assert loop.Checkpoint(run / stage).finished
    # Without the state of training it is the same.
    model.save_pretrained(tmp_path)
    assert kind.from_pretrained(tmp_path).fingerprint == model.fingerprint


def test_stage_2_goes_on_from_stage_1_and_moves_every_part(run):
    first, second = (LexLIP.from_pretrained(run / s).state_dict() for s in ("stage1", "stage2"))
    same = {name for name in first if torch.equal(first[name], second[name])}
    assert same == {"lexicon_ids"}
    # Six small steps stay near where they started.
    assert max((first[n] - second[n]).abs().max() for n in first.keys() - same) < 0.1


def tensors(folder):
    return {
        f"{name}:{key}": value
        for name in ("model.safetensors", "train_state/state.safetensors")
        for key, value in load_file(Path(folder) / name).items()
    }


class Killed(Exception):
    """Stands for a power cut."""


def kill_after(monkeypatch, task, step):
    """Let training die right after the optimiser's step number `step`."""
    after_step, steps = task.after_step, []

    def dies(self):
        after_step(self)
        steps.append(1)
        if len(steps) == step:
            raise Killed

    monkeypatch.setattr(task, "after_step", dies)


@pytest.mark.parametrize("step", [1, 3, 4, 5])
@pytest.mark.parametrize("stage", [1, 2])
def test_a_resumed_run_ends_in_the_same_bits(run, tiny_run, tmp_path, monkeypatch, stage, step):
    job, task = (stage1, stage1.Stage1) if stage == 1 else (stage2, stage2.Stage2)
    name = f"stage{stage}"
    if stage == 2:
        (tmp_path / "stage1").symlink_to(run / "stage1")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after(patch, task, step)
        job.main(tiny_run, str(tmp_path), False, [])
    # Saved every second step: step 3 is lost again, and of a run killed in step 1 all is.
    assert loop.Checkpoint(tmp_path / name).progress.get("step", 0) == (step - 1) // 2 * 2
    assert not loop.Checkpoint(tmp_path / name).finished
    job.main(tiny_run, str(tmp_path), True, [])
    whole, resumed = tensors(run / name), tensors(tmp_path / name)
    assert whole.keys() == resumed.keys()
    kinds = ("optim.model.", "task.slow.", "task.images.keys", "task.texts.next")
    for kind in kinds[: 1 if stage == 1 else 4]:
        assert any(kind in key for key in whole), kind
    different = [key for key in whole if not torch.equal(whole[key], resumed[key])]
    assert different == []


def test_a_finished_stage_is_not_trained_again(run, tiny_run, capsys):
    before = (run / "stage1" / "model.safetensors").stat()
    stage1.main(tiny_run, str(run), True, [])
    assert "finished already" in capsys.readouterr().out
    assert (run / "stage1" / "model.safetensors").stat() == before


def test_stage_2_wants_a_finished_stage_1(tiny_run, tmp_path):
    with pytest.raises(LexLIPError, match="no finished stage 1"):
        stage2.main(tiny_run, str(tmp_path), False, [])
    assert not (tmp_path / "stage2").exists()


def test_a_loss_that_is_no_number_stops_training(tiny_run, tmp_path, monkeypatch):
    whole = stage1.Stage1.forward

    def broken(self, batch, generator):
        losses = whole(self, batch, generator)
        return losses | {"contrast": losses["contrast"] * float("nan")}

    monkeypatch.setattr(stage1.Stage1, "forward", broken)
    with pytest.raises(LexLIPError, match="loss is nan at step 0"):
        stage1.main(tiny_run, str(tmp_path), False, ["stage1.max_bad_steps=1"])
    assert not (tmp_path / "stage1").exists()


def test_frozen_features_train_both_stages(tiny_run, tmp_path):
    overrides = ["model.freeze_vision=true", "model.patch_grid=2", "data.flip=true"]
    stage1.main(tiny_run, str(tmp_path), False, overrides)
    stage2.main(tiny_run, str(tmp_path), False, overrides)
    first, second = (
        LexLIP.from_pretrained(tmp_path / s).state_dict() for s in ("stage1", "stage2")
    )
    for name in first:
        if name.startswith("vision.trunk."):
            assert torch.equal(first[name], second[name]), name
    assert not torch.equal(first["vision.out.weight"], second["vision.out.weight"])


def test_an_unknown_loss_is_named(tiny_run, tmp_path):
    with pytest.raises(LexLIPError, match="no loss named .*'contrats'.*'contrast'"):
        stage1.main(tiny_run, str(tmp_path), False, ["stage1.weights.contrats=1"])


@pytest.mark.parametrize("steps", [1, 7, 100])
def test_the_rate_rises_then_falls(steps):
    rates = [loop.rate(step, steps, 0.1) for step in range(steps)]
    peak = max(1, round(0.1 * steps)) - 1
    assert rates[peak] == 1.0 == max(rates) and min(rates) > 0
    assert (np.diff(rates[: peak + 1]) > 0).all() and (np.diff(rates[peak + 1 :]) < 0).all()
    kept = [loop.rate(step, steps, 0.1, 0.25) for step in range(steps)]
    np.testing.assert_allclose(kept[steps // 10 :], 0.25 + 0.75 * np.array(rates[steps // 10 :]))
    assert loop.rate(steps - 1, steps, 0.1, 1.0) == 1.0


def test_sparsity_ramps_up_quadratically():
    ramp = [loop.ramp(step, 300) for step in range(300)]
    assert ramp[0] == 0 and ramp[50] == pytest.approx(0.25) and set(ramp[100:]) == {1.0}


def test_dropout_is_for_training_and_for_what_is_trained(make_model):
    model = make_model()
    loop.set_dropout(model, 0.5)
    states = torch.randn(2, 17, 32)
    tokens = model.processor.tokenize(["a red circle", "two blue squares"], 16)
    model.train()
    assert not torch.equal(model.text(**tokens), model.text(**tokens))
    assert not torch.equal(model.vision(states), model.vision(states))
    model.eval()
    assert torch.equal(model.text(**tokens), model.text(**tokens))
    assert torch.equal(model.vision(states), model.vision(states))
    loop.set_dropout(model, 0.0)
    model.train()
    assert torch.equal(model.text(**tokens), model.text(**tokens))


def test_the_optimiser_knows_what_is_pretrained(make_model, tiny_settings):
    task = stage1.Stage1(make_model(), tiny_settings)
    stage = Stage(lr=1.0, head_lr=2.0, weight_decay=0.5)

    def groups(settings):
        names = {id(p): n for n, p in task.named_parameters()}
        return {
            names[id(p)]: (group["base"], group["weight_decay"])
            for group in loop.optimizer_for(task, settings, stage).param_groups
            for p in group["params"]
        }

    random = groups(tiny_settings)
    assert random.keys() == {n for n, p in task.named_parameters() if p.requires_grad}
    assert {rate for rate, _ in random.values()} == {2.0}
    assert random["model.own_word_boost"][1] == random["model.text_head.bias"][1] == 0
    assert random["model.vision.out.weight"][1] == 0.5
    loaded = groups(replace(tiny_settings, model=replace(tiny_settings.model, text="folder")))
    assert {n for n, (rate, _) in loaded.items() if rate == 1.0} == {
        n for n in random if n.startswith("model.text.trunk.")
    }


@pytest.mark.slow
def test_a_small_model_learns_its_scenes(tiny_run, tmp_path):
    overrides = [
        "data.scenes.train=24",
        "data.scenes.dev=0",
        "data.dev=train",
        "model.neck_heads=4",
        *(
            f"model.{tower}.{key}={value}"
            for tower in ("vision", "text")
            for key, value in (("hidden_size", 64), ("num_attention_heads", 4))
        ),
        "stage1.epochs=20",
        "stage1.batch_size=60",
        "stage1.masked_rows=16",
        "stage1.head_lr=2e-3",
        "stage1.save_every=10000",
        "stage1.dropout=0.0",  # to learn these by heart is what is asked for
        "stage1.kept_patches=1.0",
    ]
    stage1.main(tiny_run, str(tmp_path), False, overrides)
    model = LexLIP.from_pretrained(tmp_path / "stage1")
    sizes = {**SCENES, "train": 24, "dev": 0}
    scenes = load_collection("scenes", "train", cache=Path(tiny_run).parent / "cache", scenes=sizes)
    captions = [caption for texts in scenes.captions for caption in texts]
    fits = [scenes.qrels[f"{name}#{i}"] for name in scenes.ids for i in range(5)]
    images = model.encode_document([scenes.image(i) for i in range(24)])
    scores = model.similarity(model.encode_query(captions), images)
    best = [scenes.ids[i] for i in scores.argmax(1)]
    found = np.mean([name in fit for name, fit in zip(best, fits, strict=True)])
    chance = np.mean([len(fit) / 24 for fit in fits])
    print(f"R@1 {found:.2f}, chance {chance:.2f}")
    assert chance < 0.15 and found > 0.8
    logged = log(tmp_path / "stage1")[-1]
    assert logged["t2i_R@1"] == pytest.approx(found, abs=0.03)
    # The heaviest words of a picture stand in its own captions.
    said = [set(" ".join(texts).split()) for texts in scenes.captions]
    top = [[word for word, _ in words] for words in model.decode(images, top_k=5)]
    share = np.mean([word in words for row, words in zip(top, said, strict=True) for word in row])
    anyone = np.mean([word in words for row in top for word in row for words in said])
    print(f"grounded P@5 {share:.2f}, of other pictures' captions {anyone:.2f}")
    assert share > 0.6 and share > anyone + 0.2


@pytest.mark.parametrize(
    ("name", "looks", "views", "line"),
    [
        ("stage1", 2, 6, "Stage1 takes one look at a picture: leave looks out"),
        ("stage2", 3, 2, "looks is 3, but a picture has 2 views: enlarge data.crops"),
        ("stage2", -1, 2, "looks is -1"),
    ],
)
def test_looks_that_there_are_not(name, looks, views, line, make_model, tiny_settings):
    kind = {"stage1": stage1.Stage1, "stage2": stage2.Stage2}[name]
    task = kind(make_model(), tiny_settings)
    with pytest.raises(LexLIPError, match=line):
        loop.check_looks(task, looks, views)
    loop.check_looks(task, 0, views)


@pytest.mark.parametrize("name", ["stage2", "dense"])
def test_a_run_with_looks_resumes_in_the_same_bits(name, run, tiny_run, tmp_path, monkeypatch):
    views = ["model.freeze_vision=true", "model.patch_grid=2", "data.flip=true", "data.crops=2"]
    wanted = [f"{name}.looks=3", f"{name}.weights.taught=1"]
    wanted += ["dense.weights.looks=1"] if name == "dense" else []
    job, task = {"stage2": (stage2, stage2.Stage2), "dense": (dense, dense.DenseTask)}[name]
    if name == "stage2":
        stage1.main(tiny_run, str(tmp_path / "whole"), False, views)
        (tmp_path / "cut").mkdir()
        (tmp_path / "cut" / "stage1").symlink_to(tmp_path / "whole" / "stage1")
    job.main(tiny_run, str(tmp_path / "whole"), False, [*views, *wanted])
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after(patch, task, 4)
        job.main(tiny_run, str(tmp_path / "cut"), False, [*views, *wanted])
    job.main(tiny_run, str(tmp_path / "cut"), True, [*views, *wanted])
    whole, resumed = tensors(tmp_path / "whole" / name), tensors(tmp_path / "cut" / name)
    assert whole.keys() == resumed.keys() and any("task.slow." in key for key in whole)
    assert [key for key in whole if not torch.equal(whole[key], resumed[key])] == []
    rows = log(tmp_path / "whole" / name)
    assert all(row["taught"] >= 0 for row in rows)

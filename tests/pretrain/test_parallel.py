"""Two processes train as one: the same gradients, the same queues, one log, one checkpoint.

This file is also what torchrun starts: each process does everything in `cases` and saves what it
got, and the tests compare it with what a single process gets.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import nullcontext
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lexlip.errors import LexLIPError
from lexlip.models.dense_control import DenseDualEncoder
from lexlip.models.lexlip import LexLIP
from pretrain import build, loop
from pretrain.dense import DenseTask
from pretrain.micro_batches import Backward
from pretrain.parallel import GlobalBatchNorm, World, share_statistics
from pretrain.stage1 import Stage1
from pretrain.stage2 import Stage2

TASKS = {
    "stage1": (Stage1, LexLIP),
    "stage2": (Stage2, LexLIP),
    "dense": (DenseTask, DenseDualEncoder),
}
RESNET = (
    "model.vision={model_type='resnet', embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], "
    "layer_type='basic'}"
)
CASES = {
    # Dropout falls on other rows when they are grouped otherwise: none here, but see below.
    "stage1": ["stage1.dropout=0.0"],
    "stage2": ["stage2.dropout=0.0"],
    "dense": ["dense.dropout=0.0"],
    # Rows that cannot be halved, fewer masked captions and texts than processes.
    "stage1-odd": [
        "stage1.dropout=0.0",
        "stage1.batch_size=41",
        "stage1.masked_rows=1",
        "stage1.texts_per_batch=0",
    ],
    # Means over positions: where words are a maximum, rounding may let another position win.
    "dense-resnet": ["dense.dropout=0.0", RESNET],
    # Parts of five rows either way, so that dropout falls on the same.
    "stage1-micro": ["stage1.micro_batch=5"],
    "stage2-micro": ["stage2.micro_batch=5", "sparsity.target_terms=4"],
}


def steps(case, config, count=2):
    """Gradients, losses and all state of a few plain gradient steps."""
    name = case.split("-")[0]
    bench = loop.Workbench.open(config, CASES[case])
    kind, model_kind = TASKS[name]
    settings, stage, world = bench.settings, getattr(bench.settings, name), bench.world
    model = build.build(settings, bench.texts, model_kind)
    torch.manual_seed(1)  # the weak decoder's weights
    task = kind(model, settings).train()
    with torch.no_grad():  # louder than fresh weights, so that every part matters
        for parameter in model.vision.parameters():
            if parameter.ndim > 1:
                parameter.mul_(3)
    loop.set_dropout(model, stage.dropout)
    if world.size > 1:
        share_statistics(model)
    pairs = bench.pairs(model, bench.train, True)
    parts = loop.micro_batches(task, stage, world, stage.batch_size)
    backward = Backward(task, world, parts, nullcontext)
    share, found = (world.rank, world.size), {}
    batches = pairs.batches(0, 0, stage.batch_size, stage.texts_per_batch, 0, share)
    for step, batch in zip(range(count), batches, strict=False):
        losses = backward(batch, 1000 + step, partial(loop.weighted_sum, task, 1.0))
        found |= {f"{step}.loss.{k}": v.detach().clone() for k, v in losses.items()}
        for parameter_name, parameter in task.named_parameters():
            if parameter.grad is not None:
                found[f"{step}.grad.{parameter_name}"] = parameter.grad.clone()
                with torch.no_grad():
                    parameter.sub_(0.01 * parameter.grad)
                parameter.grad = None
        task.after_step()
    found["own_rows"] = torch.tensor(batch["pictures"].shape[0])
    return found | {f"state.{k}": v.clone().contiguous() for k, v in task.state_dict().items()}


def trained(name, config, out, bad_rank=-1, bad_step=-1):
    """State of a task after its loop; on one rank one step's own losses are no number."""
    kind, model_kind = TASKS[name]
    bench = loop.Workbench.open(config, ["stage1.dropout=0.0"])
    model = build.build(bench.settings, bench.texts, model_kind)
    task = kind(model, bench.settings)
    whole, calls = task.own_losses, []

    def own_losses(batch, rows):
        losses = whole(batch, rows)
        calls.append(1)
        broken = bench.world.rank == bad_rank and len(calls) == bad_step
        return {k: v * float("nan") if broken else v for k, v in losses.items()}

    task.own_losses = own_losses
    loop.train(task, bench, getattr(bench.settings, name), out)
    return {k: v.clone().contiguous() for k, v in task.state_dict().items()}


def work(config, folder):
    """What each of the processes does."""
    rank = os.environ["RANK"]
    for case in CASES:
        save_file(steps(case, config), f"{folder}/{case}.{rank}")
    save_file(trained("stage1", config, f"{folder}/run", 1, 3), f"{folder}/trained.{rank}")
    World.leave()


@pytest.fixture(scope="module")
def two(tiny_run, tmp_path_factory):
    """A folder with what each of two processes got."""
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run(
        [*command, __file__, tiny_run, str(folder)], env=environ, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@cache
def alone(case, config):
    return steps(case, config)


def error(a, b):
    """Length of the difference relative to that of `b`."""
    return ((a.double() - b.double()).norm() / b.double().norm().clamp(min=1e-12)).item()


@pytest.mark.parametrize("case", CASES)
def test_two_processes_have_the_gradient_of_one(two, tiny_run, case):
    one, ranks = alone(case, tiny_run), [load_file(two / f"{case}.{rank}") for rank in (0, 1)]
    gradients = [k for k in one if ".grad." in k]
    assert len(gradients) > 30 and all(one[k].isfinite().all() for k in gradients)
    for rank in ranks:
        assert rank.keys() == one.keys()
        assert int(rank["own_rows"]) in (20, 21) if "odd" in case else int(rank["own_rows"]) == 20
        for step in range(2):
            # Of all weights together, and of each that has a gradient worth the name.
            mine, theirs = (
                torch.cat([found[k].flatten() for k in gradients if k.startswith(f"{step}.")])
                for found in (rank, one)
            )
            assert error(mine, theirs) < 1e-5
            for k in gradients:
                if k.startswith(f"{step}.") and one[k].norm() > 1e-4 * theirs.norm():
                    assert error(rank[k], one[k]) < 1e-4, k
    losses = [k for k in one if ".loss." in k]
    assert losses and all(error(ranks[0][k], one[k]) < 1e-5 for k in losses)


@pytest.mark.parametrize("case", CASES)
def test_state_is_the_same_to_the_bit_in_all_processes(two, tiny_run, case):
    first, second = (load_file(two / f"{case}.{rank}") for rank in (0, 1))
    assert all(torch.equal(first[k], second[k]) for k in first if k != "own_rows")
    one = alone(case, tiny_run)
    kept = [k for k in one if k.startswith("state.") and one[k].is_floating_point()]
    for k in kept:
        torch.testing.assert_close(first[k], one[k], rtol=1e-3, atol=1e-6, msg=k)
    if case.startswith("stage2"):  # rows stand in the queues in the order of the batch
        for queue in ("images", "texts"):
            assert torch.equal(first[f"state.{queue}.owner"], one[f"state.{queue}.owner"])
            assert torch.equal(first[f"state.{queue}.text"], one[f"state.{queue}.text"])
            assert (one[f"state.{queue}.owner"] >= 0).sum() == 80
    if "resnet" in case:
        assert any("running_var" in k for k in kept)


def test_a_bad_step_of_one_process_is_skipped_by_all_and_one_log_is_written(two):
    first, second = (load_file(two / f"trained.{rank}") for rank in (0, 1))
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert all(value.isfinite().all() for value in first.values())
    rows = [json.loads(line) for line in (two / "run.jsonl").read_text().splitlines()]
    assert [(row["step"], row["skipped"]) for row in rows] == [(3, 1), (6, 1)]
    assert rows[0]["self_mlm"] is None and np.isfinite(rows[1]["self_mlm"])
    checkpoint = loop.Checkpoint(two / "run")
    checkpoint.verify()
    assert checkpoint.finished and checkpoint.progress["bad"] == {"skipped": 1, "in_a_row": 0}
    saved = load_file(two / "run" / "train_state" / "state.safetensors")
    steps = [v for k, v in saved.items() if k.startswith("optim.") and k.endswith(".step")]
    assert steps and all(step == 5 for step in steps)


@pytest.mark.slow
def test_the_documented_line_starts(tiny_run, tmp_path):
    """As docs/training.md has it, but for the numbers, the config and the folder."""
    root = Path(__file__).resolve().parents[2]
    (line,) = re.findall(r"    (torchrun --standalone .*)", (root / "docs/training.md").read_text())
    line = line.replace("my.toml", tiny_run).replace("runs/mine", str(tmp_path / "run"))
    line = line.replace("_node 4", "_node 2").replace("processes=4", "processes=2")
    command = [sys.executable, "-m", "torch.distributed.run", *line.split()[1:], "stage1.epochs=1"]
    environ = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    checkpoint = loop.Checkpoint(tmp_path / "run" / "stage1")
    checkpoint.verify()
    assert checkpoint.finished


def test_a_launcher_that_runs_one_process_is_found_out(tiny_run, monkeypatch):
    with pytest.raises(LexLIPError, match=r"1 process\(es\) started where 4 must train together"):
        loop.Workbench.open(tiny_run, ["processes=4"])
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(LexLIPError, match="torchrun --nproc_per_node 2"):
        loop.Workbench.open(tiny_run, [])


def test_every_process_reads_its_own_pictures(tiny_run):
    bench = loop.Workbench.open(tiny_run, [])
    pairs = bench.pairs(build.build(bench.settings, bench.texts, LexLIP), bench.train, True)
    whole = list(pairs.batches(3, 1, 40))
    for size in (2, 3, 7):
        shares = [list(pairs.batches(3, 1, 40, share=(rank, size))) for rank in range(size)]
        for number, batch in enumerate(whole):
            rows = np.empty_like(batch["pictures"])
            for rank, share in enumerate(shares):
                assert torch.equal(share[number]["owner"], batch["owner"])
                rows[rank::size] = share[number]["pictures"]
            assert np.array_equal(rows, batch["pictures"])


@pytest.mark.parametrize(
    ("rows", "settings", "size", "message"),
    [
        (3, {}, 4, "a batch of 3 cannot be divided"),
        (6, {"micro_batch": 1}, 4, "cannot be divided into 2 micro batches for each of 4"),
    ],
)
def test_too_many_processes_for_a_batch(make_model, tiny_settings, rows, settings, size, message):
    task = Stage1(make_model(), tiny_settings)
    stage = loop.Stage(**settings)
    with pytest.raises(LexLIPError, match=message):
        loop.micro_batches(task, stage, World(0, size), rows)


def test_only_normalisation_of_pictures_is_shared():
    layers = torch.nn.Sequential(torch.nn.BatchNorm2d(3), torch.nn.Conv2d(3, 3, 1))
    names = list(layers.state_dict())
    share_statistics(layers)
    assert type(layers[0]) is GlobalBatchNorm and list(layers.state_dict()) == names
    with pytest.raises(LexLIPError, match="BatchNorm1d cannot be shared"):
        share_statistics(torch.nn.BatchNorm1d(3))


if __name__ == "__main__":
    work(*sys.argv[1:])

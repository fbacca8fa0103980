"""Killed at any moment and resumed, a run ends in the same bits; what it leaves is never half."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lexlip.errors import LexLIPError
from lexlip.storage.files import sha256_file, write_json
from pretrain import loop, stage1, stage2
from pretrain.progress import Log
from pretrain.stage1 import Stage1

REPOSITORY = Path(__file__).resolve().parents[2]
linux = pytest.mark.skipif(sys.platform != "linux", reason="made of Linux's means")

# Trains a stage whole, then again and again with kill -9 after a random time, until it is finished.
# One import of torch serves all: each run is a fork of this process, which itself never trains.
KILLED = """
import os, random, shutil, signal, sys, time
from pathlib import Path
from pretrain import loop, stage1, stage2

config, folder, seed = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
chance = random.Random(seed)

def train(job, run, resume, seconds=None):
    began, child = time.monotonic(), os.fork()
    if not child:
        job.main(config, str(run), resume, [])
        os._exit(0)
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            assert os.waitstatus_to_exitcode(status) == 0
            return time.monotonic() - began
        if seconds is not None and time.monotonic() - began > seconds:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
        time.sleep(0.002)

kills = {}
for name, job in (("stage1", stage1), ("stage2", stage2)):
    whole = train(job, folder / "whole", False)
    at = kills[name] = []
    while len(at) < 2:
        # Start-up is some third of a run; kills before the first step say little.
        if train(job, folder / "killed", True, whole * chance.uniform(0.3, 1.0)) is not None:
            shutil.rmtree(folder / "killed" / name)  # too late: it was finished
            continue
        at.append(loop.Checkpoint(folder / "killed" / name).progress.get("step", 0))
    train(job, folder / "killed", True)
print("seed", seed, "checkpoints found at kills:", kills)
"""


def hashes(folder):
    """sha256 of weights and of everything that training needs, and of where it stands."""
    names = ("model.safetensors", "train_state/state.safetensors")
    progress = json.loads((folder / "train_state" / "progress.json").read_text())
    return {n: sha256_file(folder / n) for n in names} | {"step": progress["step"]}


def environ():
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}


@linux
def test_kill_9_at_random_moments_changes_nothing(tiny_run, tmp_path, request):
    seed = torch.initial_seed() % 2**31
    done = subprocess.run(
        [sys.executable, "-c", KILLED, tiny_run, str(tmp_path), str(seed)],
        env=environ(),
        capture_output=True,
        text=True,
    )
    print(done.stdout[-300:])
    assert done.returncode == 0, done.stderr[-3000:]
    for stage in ("stage1", "stage2"):
        whole, killed = tmp_path / "whole" / stage, tmp_path / "killed" / stage
        assert hashes(whole) == hashes(killed)
        # Momentum encoder, queues, the optimiser's averages: all of it was compared.
        saved = load_file(killed / "train_state" / "state.safetensors")
        kinds = ["optim."] + (["task.slow.", "task.images.keys"] if stage == "stage2" else [])
        assert all(any(k.startswith(kind) for k in saved) for kind in kinds)
        losses = [
            [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in file]
            for file in (
                (tmp_path / run / f"{stage}.jsonl").read_text().splitlines()
                for run in ("whole", "killed")
            )
        ]
        assert losses[0] == losses[1]
        left = {path.name for path in (tmp_path / "killed").iterdir()}
        assert not [name for name in left if name.startswith(".")], left


@pytest.fixture(scope="module")
def run(tiny_run, tmp_path_factory):
    """A finished stage 1; not to be changed."""
    folder = tmp_path_factory.mktemp("run")
    stage1.main(tiny_run, str(folder), False, [])
    return folder


@pytest.fixture
def copy(run, tmp_path):
    """A copy of it that may be harmed."""
    shutil.copytree(run, tmp_path / "run")
    return tmp_path / "run"


class Killed(Exception):
    """Stands for a power cut."""


def test_a_kill_between_the_two_renames_of_a_save(run, tiny_run, tmp_path, monkeypatch):
    rename, calls = os.rename, []

    def dies(source, target):
        rename(source, target)
        if Path(target).parent == tmp_path:
            calls.append(target)
            if ".old-" in str(target):
                raise KeyboardInterrupt  # a kill that no clean-up follows

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", dies)
        patch.setattr(shutil, "rmtree", lambda *a, **k: None)
        with pytest.raises(KeyboardInterrupt):
            stage1.main(tiny_run, str(tmp_path), False, [])
    assert not (tmp_path / "stage1").exists()
    hidden = {p.name.split(".")[2].split("-")[0] for p in tmp_path.iterdir() if p.is_dir()}
    assert hidden == {"old", "tmp"}
    loop.Checkpoint(tmp_path / "stage1").recover()
    assert loop.Checkpoint(tmp_path / "stage1").progress["step"] == 4  # the new one: it is complete
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == ["stage1"]
    stage1.main(tiny_run, str(tmp_path), True, [])
    assert hashes(tmp_path / "stage1") == hashes(run / "stage1")


def test_half_a_checkpoint_never_takes_the_place_of_a_whole_one(copy):
    target = copy / "stage1"
    shutil.copytree(target, copy / ".stage1.tmp-0123")
    (copy / ".stage1.tmp-0123" / "model.safetensors").unlink()
    (copy / ".stage1.tmp-4567").mkdir()
    (copy / ".stage10.tmp-1").mkdir()  # of another run
    os.rename(target, copy / ".stage1.old-89ab")
    loop.Checkpoint(target).recover()
    loop.Checkpoint(target).verify()
    assert {p.name for p in copy.iterdir() if p.is_dir()} == {"stage1", ".stage10.tmp-1"}


@pytest.mark.parametrize(
    "name", ["model.safetensors", "train_state/state.safetensors", "tokenizer.json", "config.json"]
)
def test_a_flipped_bit_is_found(copy, tiny_run, name):
    file = copy / "stage1" / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(LexLIPError, match=f"{file.name} is damaged .*without --resume") as error:
        stage2.main(tiny_run, str(copy), False, [])
    assert "\n" not in str(error.value) and not (copy / "stage2").exists()
    # ... and when the same stage goes on.
    progress = json.loads((copy / "stage1" / "train_state" / "progress.json").read_text())
    manifest = json.loads((copy / "stage1" / "manifest.json").read_text())
    assert set(manifest["files"]) >= {name, "train_state/progress.json"}
    write_json(copy / "stage1" / "train_state" / "progress.json", progress | {"step": 2})
    with pytest.raises(LexLIPError, match="is damaged"):
        stage1.main(tiny_run, str(copy), True, [])
    file.unlink()
    with pytest.raises(LexLIPError, match="is (damaged|missing)"):
        loop.Checkpoint(copy / "stage1").verify()


def test_checkpoints_of_before_start_stage_2(copy, tiny_run):
    manifest = json.loads((copy / "stage1" / "manifest.json").read_text())
    del manifest["files"], manifest["bad"]
    write_json(copy / "stage1" / "manifest.json", manifest)
    stage2.main(tiny_run, str(copy), False, ["data.scenes.dev=12"])
    assert loop.Checkpoint(copy / "stage2").finished


FULL = """
import json, shutil, subprocess, sys
from pathlib import Path
from lexlip.errors import LexLIPError
from pretrain import stage1

disk, config, out = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
try:
    stage1.main(config, str(disk / "run"), False, [])
    raise SystemExit("the disk was not full")
except LexLIPError as error:
    (out / "error").write_text(str(error))
shutil.copytree(disk / "run", out / "left")
subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
stage1.main(config, str(disk / "run"), True, [])
shutil.copytree(disk / "run", out / "resumed")
"""


@functools.cache
def can_mount():
    """Return whether a process may mount a file system that it alone sees."""
    if shutil.which("unshare") is None:
        return False
    test = "mount -t tmpfs -o size=1m none /tmp"
    return not subprocess.run(["unshare", "-Urm", "sh", "-c", test], capture_output=True).returncode


@linux
def test_a_full_disk_keeps_the_last_checkpoint(run, tiny_run, tmp_path):
    if not can_mount():
        pytest.skip("no file system may be mounted here")
    (tmp_path / "disk").mkdir()
    # One checkpoint and a half: the first save fits, the second, beside it, does not.
    size = sum(p.stat().st_size for p in (run / "stage1").rglob("*") if p.is_file())
    mount = f'mount -t tmpfs -o size={size * 3 // 2 // 1024}k none "$0" && exec "$@"'
    disk = str(tmp_path / "disk")
    program = [sys.executable, "-c", FULL, disk, tiny_run, str(tmp_path)]
    command = ["unshare", "-Urm", "sh", "-c", mount, disk, *program]
    done = subprocess.run(command, env=environ(), capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr[-2000:]
    message = (tmp_path / "error").read_text()
    assert "keeps step 2, step 4 could not be saved" in message and "--resume" in message
    assert "\n" not in message
    left = loop.Checkpoint(tmp_path / "left" / "stage1")
    left.verify()
    assert left.progress["step"] == 2
    assert [p.name for p in (tmp_path / "left").iterdir() if p.is_dir()] == ["stage1"]
    assert hashes(tmp_path / "resumed" / "stage1") == hashes(run / "stage1")


def state(task, optimizer):
    """Everything that a step may change."""
    found = {k: v.clone() for k, v in task.state_dict().items()}
    for name, parameter in task.named_parameters():
        found |= {f"{name}:{k}": v.clone() for k, v in optimizer.state.get(parameter, {}).items()}
    return found


def break_steps(monkeypatch, kind, broken):
    """Make losses of the steps numbered `broken` infinite where it hurts: in the gradient."""
    whole, calls = kind.losses, []

    def losses(self, batch, rows):
        found = whole(self, batch, rows)
        calls.append(1)
        if len(calls) - 1 in broken:
            found["contrast"] = found["contrast"] + (rows["image"] * torch.inf).sum()
        return found

    monkeypatch.setattr(kind, "losses", losses)


def test_a_bad_step_leaves_no_trace(run, tiny_run, tmp_path, monkeypatch):
    shutil.copytree(run / "stage1", tmp_path / "stage1")
    seen = []
    after, skip = stage2.Stage2.after_step, loop.BadSteps.is_bad

    def after_step(self):
        after(self)
        seen.append({k: v.clone() for k, v in self.state_dict().items()})

    def is_bad(self, *numbers):
        bad = skip(self, *numbers)
        seen.extend(["bad"] * bad)
        return bad

    monkeypatch.setattr(stage2.Stage2, "after_step", after_step)
    monkeypatch.setattr(loop.BadSteps, "is_bad", is_bad)
    break_steps(monkeypatch, stage2.Stage2, {1, 5})
    stage2.main(tiny_run, str(tmp_path), False, ["stage2.save_every=100"])
    assert [s == "bad" for s in seen] == [False, True, False, False, False, True]
    last = loop.Checkpoint(tmp_path / "stage2")
    assert last.finished and last.progress["bad"] == {"skipped": 2, "in_a_row": 1}
    saved = load_file(tmp_path / "stage2" / "train_state" / "state.safetensors")
    for name, value in seen[4].items():  # the last step's state is that of the one before
        if not name.startswith("model."):
            assert torch.equal(saved[f"task.{name}"], value), name
    assert {v.item() for k, v in saved.items() if k.endswith(".step")} == {4.0}
    assert all(value.isfinite().all() for value in saved.values())
    rows = [json.loads(line) for line in (tmp_path / "stage2.jsonl").read_text().splitlines()]
    assert [(row["step"], row["skipped"]) for row in rows] == [(2, 1), (6, 2)]
    assert rows[0]["contrast"] is None and rows[0]["image_grounding"] > 0


def test_too_many_bad_steps_end_the_run_before_a_checkpoint(tiny_run, tmp_path, monkeypatch):
    break_steps(monkeypatch, Stage1, {2, 3, 4})
    with pytest.raises(LexLIPError, match="loss is .* at step 4 of .*bad step 3 in a row") as error:
        stage1.main(tiny_run, str(tmp_path), False, ["stage1.max_bad_steps=3"])
    assert "\n" not in str(error.value)
    checkpoint = loop.Checkpoint(tmp_path / "stage1")
    assert checkpoint.progress["step"] == 2  # not 4, which would have come in the middle of them
    checkpoint.verify()


def test_a_gradient_that_is_no_number_is_a_bad_step():
    bad = loop.BadSteps("out", 2)
    assert not bad.is_bad(0, 1.0, 2.0) and bad.is_bad(1, 1.0, float("nan"))
    assert not bad.is_bad(2, 1.0, 2.0) and (bad.skipped, bad.in_a_row) == (1, 0)
    assert bad.is_bad(3, float("inf"), 1.0)
    with pytest.raises(LexLIPError, match="gradient is inf at step 4 of out"):
        bad.is_bad(4, 1.0, float("inf"))


def test_the_log_forgets_what_will_be_done_again(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_text('{"step": 20}\n{"step": 40}\n{"step": 60}\n{"ste')
    log = Log(path, 40)
    log.write({"step": 60, "contrast": 1 / 3, "self_mlm": float("nan")})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"step": 20}, {"step": 40}, {"step": 60, "contrast": 0.33333, "self_mlm": None}
    ]  # fmt: skip
    Log(path)
    assert path.read_text() == ""
    with pytest.raises(LexLIPError, match="cannot be written .*--resume"):
        Log(tmp_path / "run.jsonl" / "below")

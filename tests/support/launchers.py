"""torchrun as launchers that tests start, one a "machine", and end by their ids."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from lexlip.storage.files import sha256_file
from pretrain.checkpoint import Checkpoint

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = ("model.safetensors", "train_state/state.safetensors")


def launch(config, run, *options, settings=()):
    """Start torchrun with these options and stage 1; processes wait 20 s for each other."""
    job = ["-m", "--", "pretrain.stage1", "--config", config, "--run", str(run), "--resume"]
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *options, *job, "stage1.epochs=4",
         "processes=2", "patience=20", *settings], text=True, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1",
             "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"},
    )  # fmt: skip


def children(process):
    """Return the processes that a launcher started."""
    try:
        path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        return [int(number) for number in path.read_text().split()]
    except OSError:
        return []


def step(run):
    """Return the step of the last checkpoint."""
    with suppress(Exception):  # it is being replaced
        return Checkpoint(run / "stage1").progress.get("step", 0)
    return 0


def wait_for(process, run, ranks, after):
    """Wait for a checkpoint of a step while a launcher has so many ranks; return the step."""
    while process.poll() is None:
        if (found := step(run)) >= after and len(children(process)) == ranks:
            return found
        time.sleep(0.01)
    raise AssertionError(f"it was over before: {process.stderr.read()[-2000:]}")


def kill(process):
    """End a launcher and its ranks with SIGKILL, as a power cut ends a machine."""
    for one in (process.pid, *children(process)):
        with suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)
    return process.communicate()[1]


def hashes(run):
    """Return the hashes of weights and state of a checkpoint, which is sound."""
    Checkpoint(run / "stage1").verify()
    return {name: sha256_file(run / "stage1" / name) for name in FILES}

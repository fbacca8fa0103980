"""Memory of a training step: whole batches against micro batches.

python -m pretrain.studies.memory batch=128,256,512 micro=32

Each step runs in a separate process on made-up captions and features; figures are the growth of
its peak resident memory (Linux, macOS).
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from lexlip.cli.console import Job, Overrides
from lexlip.models.lexlip import LexLIP
from lexlip.settings import from_overrides, option
from pretrain import build
from pretrain.loop import micro_batches, weighted_sum
from pretrain.micro_batches import Backward
from pretrain.parallel import World
from pretrain.settings import Model, Stage
from pretrain.settings import Settings as Training
from pretrain.stage1 import Stage1

LENGTH, PATCHES = 32, 49
SHAPE = {
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 256,
}
MIB = 2**20


def made_up(batch: int, words: int) -> tuple[Stage1, dict[str, Any]]:
    """A small model with a lexicon of `words`, and a batch of captions of `LENGTH` tokens."""
    model = Model(
        vision={"model_type": "vit", "patch_size": 32, **SHAPE},
        text={"model_type": "bert", **SHAPE},
        freeze_vision=True,
        neck_heads=4,
    )
    settings = Training(model=model)
    captions = [" ".join(f"w{i}x" for i in range(n, n + 50)) for n in range(0, words, 50)]
    task = Stage1(build.build(settings, captions, LexLIP), settings)
    assert task.model.processor is not None
    random = np.random.default_rng(0)
    ids = torch.from_numpy(random.choice(task.model.lexicon.ids, (batch, LENGTH)))
    target = torch.zeros(batch, len(task.model.lexicon))
    target[:, 0] = 1
    return task.train(), {
        "pictures": random.normal(size=(batch, 1 + PATCHES, 128)).astype(np.float16),
        "captions": {
            "input_ids": ids,
            "word_ids": torch.arange(LENGTH).repeat(batch, 1),
            "attention_mask": torch.ones_like(ids),
        },
        "owner": torch.arange(batch),
        "text": torch.arange(batch),
        "words": target,
    }


def peak() -> int:
    """Highest resident memory of this process so far, bytes."""
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else highest * 1024


def measure(batch: int, micro: int, words: int) -> int:
    """Growth of the peak over one step of stage 1 (gradients made before), bytes."""
    task, rows = made_up(batch, words)
    for parameter in task.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    parts = micro_batches(task, Stage(micro_batch=micro), World(), batch)
    before = peak()
    Backward(task, World(), parts, nullcontext)(rows, 0, partial(weighted_sum, task, 1.0))
    return peak() - before


@dataclass(frozen=True)
class Settings:
    """Settings of the study; each field is a key."""

    batch: tuple[int, ...] = option((128, 256, 512), "batch sizes")
    micro: int = option(32, "rows of a micro batch")
    words: int = option(8000, "words of the lexicon")
    once: bool = option(False, "print the bytes of one step, of the first batch size, instead")


def main(overrides: Overrides = None) -> None:
    """Print what a training step holds in memory, whole batches beside micro batches."""
    settings = from_overrides(Settings, overrides or [])
    micro, words = settings.micro, settings.words
    if settings.once:
        print(json.dumps(measure(settings.batch[0], micro, words)))
        return
    columns = ("batch", "whole", f"micro batches of {micro}", "one B x V", "one B x L x V")
    table = Table(*columns, title="MiB")
    for size in settings.batch:
        grown = []
        for part in (0, micro):
            keys = [f"batch={size}", f"micro={part}", f"words={words}", "once=true"]
            command = [sys.executable, "-m", "pretrain.studies.memory", *keys]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            grown.append(int(done.stdout.split()[-1]) / MIB)
        vectors = 4 * size * words / MIB
        figures = (*grown, vectors, vectors * LENGTH)
        table.add_row(str(size), *(f"{figure:,.0f}" for figure in figures))
    Console().print(table)


app = Job(main, Settings)

if __name__ == "__main__":
    app()

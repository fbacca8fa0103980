"""Several processes train as one: sums over all of them, and everyone's rows beside one's own.

Each process works on its own rows of a batch and holds the whole of what is compared: the vectors
[B, Va] of all rows. So each computes the one loss of the whole batch, keeps the gradient of its own
rows, and the sum over processes is the gradient that a single process would have. (Where remote
rows have no gradient and each process's copy is averaged, contrast comes out N times too small
beside the other losses, and the loss curve does not show it.)
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor, distributed, nn

from lexlip.errors import LexLIPError

PATIENCE = timedelta(hours=4)
"""Time that processes wait while the first one fills a cache or measures the model on dev."""

_meetings = itertools.count()


@dataclass(frozen=True)
class World:
    """This process among all that train together.

    Parameters
    ----------
    rank : int
    size : int

    Examples
    --------
    >>> World(1, 4).turn(2, 3)  # of 3 * 4 parts of a batch the third that process 1 works on
    9
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def join(cls, expected: int = 0, patience: float = 600) -> World:
        """Meet the other processes that the launcher started.

        Parameters
        ----------
        expected : int
            How many there must be; 0 for as many as ``WORLD_SIZE`` says.
        patience : float
            Seconds that they wait for each other when they meet first, and in a step. Then each
            ends with an error, and the launcher starts all again: nobody waits for the dead.

        Raises
        ------
        LexLIPError
            When there are others: a launcher may silently run one process, which would train on
            batches of one process's size as if nothing were wrong.
        """
        expected = expected or int(os.environ.get("WORLD_SIZE", 1))
        # Without being told, accelerate joins no processes on a machine without a GPU.
        cpu = expected > 1 and not torch.accelerator.is_available()
        state = PartialState(cpu=cpu, timeout=timedelta(seconds=patience))
        if state.num_processes != expected:
            raise LexLIPError(
                f"{state.num_processes} process(es) started where {expected} must train together: "
                f"start them with torchrun --nproc_per_node {expected} -m -- pretrain.stage1 ..., "
                f"or set processes={state.num_processes}"
            )
        return cls(state.process_index, state.num_processes)

    @staticmethod
    def leave() -> None:
        """Part from the other processes at the end of a command."""
        if distributed.is_initialized():
            distributed.destroy_process_group()

    @property
    def main(self) -> bool:
        """Whether this is the process that logs, measures and saves."""
        return self.rank == 0

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Let the first process do something, such as to fill a cache, before the others."""
        if not self.main:
            self.meet()
        yield
        if self.main:
            self.meet()

    def meet(self) -> None:
        """Wait for all processes, for `PATIENCE`: the first one may be busy with what is its own.

        Not a barrier of the group, which ends when a step takes too long.
        """
        if self.size == 1:
            return
        store = distributed.distributed_c10d._get_default_store()
        key = f"lexlip-meeting-{next(_meetings)}"
        if store.add(key, 1) == self.size:
            store.set(f"{key}-all", "here")
        store.wait([f"{key}-all"], PATIENCE)

    def turn(self, number: int, parts: int) -> int:
        """Number, among all `parts` x size parts of a batch, of one's own part `number`."""
        assert 0 <= number < parts
        return number * self.size + self.rank

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum over all processes, in place, the same to the bit on each."""
        if self.size > 1:
            distributed.all_reduce(tensor)
        return tensor

    def whole(self, mine: Tensor, total: int) -> Tensor:
        """Rows of all processes in the order of the batch; one's own keep their gradient.

        Parameters
        ----------
        mine : Tensor [b, ...]
            Rows `rank`, `rank` + size, ... of the batch.
        total : int
            Rows of the batch.

        Returns
        -------
        Tensor [total, ...]
        """
        if self.size == 1:
            return mine
        rows = mine.new_zeros(total, *mine.shape[1:])
        rows[self.rank :: self.size] = mine.detach()
        self.sum(rows)  # of zeros and one number: exact
        if mine.requires_grad:
            rows[self.rank :: self.size] = mine
        return rows

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum gradients over all processes; what has none on any of them keeps none."""
        if self.size == 1:
            return
        trained = [p for p in parameters if p.requires_grad]
        has = torch.tensor([float(p.grad is not None) for p in trained])
        device = trained[0].device
        for parameter, anywhere in zip(trained, self.sum(has.to(device)).tolist(), strict=True):
            if anywhere:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                self.sum(parameter.grad)


class _Sum(torch.autograd.Function):
    """Sum over all processes whose gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:  # type: ignore[override]
        total = grads[0].clone()
        distributed.all_reduce(total)
        return total


class GlobalBatchNorm(nn.BatchNorm2d):
    """Batch normalisation with the mean and variance of the rows of all processes.

    torch's own `SyncBatchNorm` refuses tensors that are not on a GPU.
    """

    def forward(self, states: Tensor) -> Tensor:  # noqa: D102
        if not self.training:
            return super().forward(states)
        x, total = states.float(), _Sum.apply
        count = total(x.new_tensor(float(x.numel() // x.shape[1])))
        mean = total(x.sum((0, 2, 3))) / count
        centred = x - mean[:, None, None]
        variance = total(centred.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            assert self.running_mean is not None and self.running_var is not None
            assert self.num_batches_tracked is not None and self.momentum is not None
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
            self.num_batches_tracked.add_(1)
        normal = centred * torch.rsqrt(variance + self.eps)[:, None, None]
        return (normal * self.weight[:, None, None] + self.bias[:, None, None]).to(states.dtype)


def batch_norms(model: nn.Module) -> list[nn.Module]:
    """Layers that mix the rows of a batch and are trained."""
    return [
        module
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        and any(p.requires_grad for p in module.parameters())
    ]


def share_statistics(model: nn.Module) -> None:
    """Let every trained batch normalisation see the rows of all processes; names stay.

    Raises
    ------
    LexLIPError
        For another kind than that over pictures.
    """
    for module in batch_norms(model):
        if type(module) not in (nn.BatchNorm2d, GlobalBatchNorm):
            raise LexLIPError(
                f"a {type(module).__name__} cannot be shared by processes: train in one, or freeze "
                "the vision trunk (model.freeze_vision=true)"
            )
        module.__class__ = GlobalBatchNorm

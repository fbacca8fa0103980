"""The gradient of a batch that is worked on in parts: micro batches, several processes, or both.

What is compared with everything else is only the vectors [B, Va]. So parts are encoded without
keeping their activations, the losses of the whole batch give a gradient to every vector, and each
part is encoded again, with the same dropout, to take that gradient to the weights (GradCache: Gao
et al., RepL4NLP 2021). Memory grows with B x Va, activations with the size of a part alone. The
gradient is that of the whole batch: nothing is approximated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pretrain.parallel import World
from pretrain.task import Task


def deal(batch: Mapping[str, Any], part: int, parts: int) -> dict[str, Any]:
    """Rows `part`, `part` + `parts`, ... of all that a batch holds, as cards are dealt.

    Each part so gets its share of what only the first rows have (masked captions). What the batch
    calls ``shared`` stays whole.

    Examples
    --------
    >>> deal({"owner": [5, 6, 7], "captions": {"ids": [1, 2, 3]}, "shared": {"n": 3}}, 0, 2)
    {'owner': [5, 7], 'captions': {'ids': [1, 3]}, 'shared': {'n': 3}}
    """
    return {
        name: value
        if name == "shared"
        else deal(value, part, parts)
        if isinstance(value, Mapping)
        else value[part::parts]
        for name, value in batch.items()
    }


def gather(parts: Sequence[Tensor]) -> Tensor:
    """Rows of all parts in the order of what was dealt."""
    if len(parts) == 1:
        return parts[0]
    rows = parts[0].new_empty(sum(map(len, parts)), *parts[0].shape[1:])
    for number, part in enumerate(parts):
        rows[number :: len(parts)] = part
    return rows


@dataclass(frozen=True)
class Backward:
    """The backward pass of a training step.

    Parameters
    ----------
    task : Task
    world : World
    parts : int
        Micro batches of each process.
    autocast : callable
        Makes the context in which losses are computed. Each pass has a new one: autocast
        remembers weights that it cast, and those from a pass without gradient have none.
    """

    task: Task
    world: World
    parts: int
    autocast: Callable[[], AbstractContextManager[Any]]

    def __call__(
        self, batch: Mapping[str, Any], chance: int, weigh: Callable[[Mapping[str, Tensor]], Tensor]
    ) -> dict[str, Tensor]:
        """Add the gradient of the whole batch to the parameters, the same in every process.

        Parameters
        ----------
        batch : mapping
            The whole batch; of ``pictures`` and their ``looks`` only the rows of this process.
        chance : int
            Seeds all randomness of the step, so that resuming needs no state of a generator.
        weigh : callable
            Weighted sum of some losses.

        Returns
        -------
        dict of str to Tensor
            Losses of the whole batch, before their weights.
        """
        generator = torch.Generator().manual_seed(chance)
        if self.parts == self.world.size == 1:
            torch.manual_seed(chance)  # dropout's own
            with self.autocast():
                losses = self.task(batch, generator)
            weigh(losses).backward()
            return losses
        return self._in_parts(self.task.draw(batch, generator), chance, weigh)

    def _in_parts(
        self, batch: Mapping[str, Any], chance: int, weigh: Callable[[Mapping[str, Tensor]], Tensor]
    ) -> dict[str, Tensor]:
        task, world, twice = self.task, self.world, self.parts > 1
        read = {k: batch[k] for k in ("pictures", "looks") if k in batch}
        mine = deal({k: v for k, v in batch.items() if k not in read}, world.rank, world.size)
        mine |= read
        dealt = [deal(mine, number, self.parts) for number in range(self.parts)]

        def encode(number: int) -> dict[str, Tensor]:
            # The seed belongs to the rows, whichever process has them: N processes drop out what
            # one does that works on the same parts. Before `own_losses`, which draws on.
            torch.manual_seed(chance + (world.turn(number, self.parts) << 40))
            return task.encode(dealt[number])

        encoded, keys = [], []
        for number, part in enumerate(dealt):
            with self.autocast(), torch.set_grad_enabled(not twice):
                encoded.append(encode(number))
            with self.autocast(), torch.no_grad():
                keys.append(task.keys(part))

        leaves = {k: gather([e[k].detach() for e in encoded]).requires_grad_() for k in encoded[0]}
        fixed = {k: gather([one[k] for one in keys]) for k in keys[0]}
        total = len(batch["owner"])
        with self.autocast():
            rows = {k: world.whole(v, total) for k, v in {**leaves, **fixed}.items()}
            compared = task.losses(batch, rows)
        weigh(compared).backward()

        own: dict[str, Tensor] = {}
        for number, part in enumerate(dealt):
            with self.autocast():
                vectors = encode(number) if twice else encoded[number]
                alone = task.own_losses(part, vectors)
            pulled = {k: v for k, v in vectors.items() if leaves[k].grad is not None}
            gradients = [leaves[k].grad[number :: self.parts] for k in pulled]  # type: ignore[index]
            sums = [weigh(alone)] if alone else []
            torch.autograd.backward([*pulled.values(), *sums], [*gradients, *(None for _ in sums)])
            own = {k: own.get(k, 0) + v.detach() for k, v in alone.items()}
        if own:
            summed = world.sum(torch.stack([v.float() for v in own.values()]))
            own = dict(zip(own, summed, strict=True))
        world.sum_gradients(task.parameters())
        return {**own, **compared}

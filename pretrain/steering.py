"""Sparsity on a budget: weights of regularisers, steered until items have a number of terms."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lexlip.errors import LexLIPError
from pretrain.settings import Sparsity

EVERY = 8
"""Steps from one count to the next: a count encodes the batch once more, without gradient."""

ARRIVAL = 0.6
"""Share of a stage after which the goal is the target. The learning rate falls to zero: at the end
no weight moves a term."""

# Per count, on logarithms. Terms answer several counts late: the proportional part, large beside
# the integral one, keeps the weight from swinging.
INTEGRAL, PROPORTIONAL = 1.0, 3.0
MOST = 0.7
"""Largest step of a factor's logarithm at a count: a doubling."""

LEAST = 1e-3
"""Of a factor: as good as none. Below it the way back would be long, should terms grow again: texts
whose words need no pressure had 6e-5 after half of a stage."""

START = 0.1
"""Factor at first: items bloom before they are pruned, as with a ramp."""


class Steering(nn.Module):
    """Factors on the weights of ``image_sparsity`` and ``text_sparsity``, one controller each.

    The goal goes from the terms at the first count to the target, on a straight line of logarithms.
    A PI controller in velocity form moves the logarithm of the factor by the distance to the goal
    and by the change of that distance. What it remembers is saved with the run.

    Parameters
    ----------
    targets : mapping of str to int
        Target number of terms, of ``image`` and ``text``; none steers nothing.

    Examples
    --------
    >>> steering = Steering({"image": 32})
    >>> for progress in (0.3, 0.6):
    ...     steering.update({"image_terms": 128.0}, progress)
    >>> steering.factor("image") > START, steering.factor("text")
    (True, None)
    """

    def __init__(self, targets: Mapping[str, int]) -> None:
        super().__init__()
        self.targets = dict(targets)
        for side in self.targets:
            # Logarithm of the factor; terms at the first count and the last; distance to the goal.
            state = torch.tensor([math.log(START), 0.0, 0.0, 0.0], dtype=torch.float64)
            self.register_buffer(side, state)

    @classmethod
    def of(cls, settings: Sparsity, weights: Mapping[str, float]) -> Steering:
        """Read the targets of a run.

        Raises
        ------
        LexLIPError
            When a weight to steer is 0.
        """
        if min(settings.target_terms, settings.text_terms) < 0:
            raise LexLIPError("sparsity asks for less than no terms: give numbers above 0")
        targets = {
            "image": settings.target_terms,
            "text": settings.text_terms or settings.target_terms,
        }
        targets = {side: target for side, target in targets.items() if target}
        for side in targets:
            if not weights[f"{side}_sparsity"]:
                raise LexLIPError(
                    f"{side}_sparsity has weight 0, which no factor makes sparse: give it one "
                    f"above 0, or leave sparsity.target_terms out"
                )
        return cls(targets)

    def due(self, step: int) -> bool:
        """Whether terms are to be counted at a step."""
        return bool(self.targets) and step % EVERY == 0

    def factor(self, side: str) -> float | None:
        """Factor on the weight of a side's regulariser; None where it is not steered."""
        return math.exp(self.get_buffer(side)[0]) if side in self.targets else None

    def report(self) -> dict[str, float]:
        """Terms of each steered side at the last count, and its factor."""
        return {
            name: value
            for side in self.targets
            for name, value in (
                (f"batch_{side}_terms", self.get_buffer(side)[2].item()),
                (f"{side}_factor", math.exp(self.get_buffer(side)[0])),
            )
        }

    def update(self, terms: Mapping[str, float], progress: float) -> None:
        """Move the factors after a count.

        Parameters
        ----------
        terms : mapping of str to float
            ``image_terms`` and ``text_terms``: mean terms of an item, as searches would see it.
        progress : float
            Share of the stage that is done, 0..1.
        """
        for side, target in self.targets.items():
            state, now = self.get_buffer(side), max(terms[f"{side}_terms"], 1e-3)
            first = state[1].item() or now
            left = max(0.0, 1 - progress / ARRIVAL)
            distance = math.log(now / target) - left * math.log(first / target)
            move = INTEGRAL * distance + PROPORTIONAL * (distance - state[3].item())
            moved = state[0].item() + min(max(move, -MOST), MOST)
            state[0] = max(moved, math.log(LEAST))
            state[1:] = state.new_tensor([first, now, distance])


def count(pooled: Tensor) -> Tensor:
    """Terms of each row of raw pooled logits [b, Va], float32 [b].

    Examples
    --------
    >>> count(torch.tensor([[0.3, -1.0, 2.0], [-1.0, -1.0, 0.0]])).tolist()
    [2.0, 0.0]
    """
    return (pooled > 0).sum(-1).float()

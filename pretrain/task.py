"""Tasks: training stages as the loop sees them, a model with its losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn

from lexlip.errors import LexLIPError
from pretrain.data import Pairs
from pretrain.masking import kept_patches
from pretrain.validate import validate


class Task(nn.Module):
    """A model with its losses: a batch in, named losses out.

    A task whose `forward` is that of this class says it in parts, so that a batch can be divided
    among processes and micro batches: `draw` for the whole batch, `encode`, `keys` and
    `own_losses` for some of its rows, `losses` for the rows of all. A task may have a `forward` of
    its own instead; it then trains in one process and one pass.

    Attributes
    ----------
    model : LexLIP or DenseDualEncoder
        What the checkpoint is for; everything else of a task lives in ``train_state/``.
    weights : dict of str to float
        Weight of each loss in the sum that is minimised; names that end in ``sparsity`` ramp up.
    ramps : bool
        Whether they do; a model that is sparse already need not bloom again.
    takes_looks : bool
        Whether `keys` averages over several looks at a picture, so that batches have them.
    step : int
        Number of the present step, from 0; the loop sets it.
    progress : float
        Share of the stage that was done before it, 0..1; the loop sets it.
    """

    model: Any
    weights: dict[str, float]
    ramps: bool = True
    takes_looks: bool = False
    step: int = 0
    progress: float = 0.0

    def factor(self, loss: str, ramped: float) -> float:
        """Factor on the weight of a loss at the present step; `ramped` is that of a ramp."""
        return ramped if self.ramps and loss.endswith("sparsity") else 1.0

    def forward(self, batch: Mapping[str, Any], generator: torch.Generator) -> dict[str, Tensor]:
        """Losses of one batch in one pass, before their weights."""
        batch = self.draw(batch, generator)
        rows = {**self.encode(batch), **self.keys(batch)}
        return {**self.own_losses(batch, rows), **self.losses(batch, rows)}

    @property
    def divisible(self) -> bool:
        """Whether a batch can be divided."""
        return type(self).forward is Task.forward

    def draw(self, batch: Mapping[str, Any], generator: torch.Generator) -> dict[str, Any]:
        """Add to the whole batch all that is left to chance (dropout apart).

        What belongs to single rows is added as rows; what is the same for all, under ``shared``.
        """
        raise NotImplementedError

    def encode(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Vectors [b, ...] of some rows of a batch."""
        raise NotImplementedError

    def keys(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Vectors of some rows that take no gradient; nothing by default."""
        return {}

    def own_losses(self, batch: Mapping[str, Any], rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Losses that compare no rows: the share of these rows in the mean over the whole batch."""
        return {}

    def losses(self, batch: Mapping[str, Any], rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Losses of the whole batch, from the vectors of all rows."""
        raise NotImplementedError

    def after_step(self) -> None:
        """Do what follows an optimiser step; nothing by default."""

    def report(self) -> dict[str, float]:
        """Name more figures for the log besides the losses; none by default."""
        return {}

    def validate(self, dev: Pairs, relevant: csr_array, texts: list[str]) -> dict[str, float]:
        """Measure the model on dev after each epoch: by default as a first stage."""
        return validate(self.model, dev, relevant, texts)


def merge_weights(defaults: Mapping[str, float], chosen: Mapping[str, float]) -> dict[str, float]:
    """Loss weights with the run's own choices; an unknown loss is an error."""
    unknown = set(chosen) - set(defaults)
    if unknown:
        raise LexLIPError(f"no loss named {sorted(unknown)}; there are {sorted(defaults)}")
    return {**defaults, **chosen}


def features(model: Any, pictures: np.ndarray) -> Tensor:
    """A cached batch to trunk features: bytes go through the trunk, features already did."""
    if pictures.dtype == np.uint8:
        assert model.processor is not None
        return model.vision.features(model.processor.normalise(pictures).to(model.device))
    return torch.from_numpy(pictures.astype(np.float32)).to(model.device)


def for_captions(pictures: Tensor, rows: int) -> Tensor:
    """What was made of each picture, once for every caption, [rows, ...].

    A batch may hold several captions of each picture: the first of all, then the second of all,
    and so on (`pretrain.data.Pairs.batches`). The picture is encoded once.

    Examples
    --------
    >>> for_captions(torch.tensor([[1], [2]]), 4).flatten().tolist()
    [1, 2, 1, 2]
    """
    times = rows // len(pictures)
    return pictures if times == 1 else pictures.repeat(times, *[1] * (pictures.ndim - 1))


def mean_of_looks(encode: Callable[[Tensor], Tensor], model: Any, looks: np.ndarray) -> Tensor:
    """What an encoder says of pictures on average over several looks at each, [b, ...].

    Parameters
    ----------
    encode : callable
        Trunk features [b, 1 + P, Dv] to rows [b, ...].
    looks : array [b, looks, ...]
        Cached views.
    """
    total = encode(features(model, looks[:, 0]))
    for number in range(1, looks.shape[1]):
        total = total + encode(features(model, looks[:, number]))
    return total / looks.shape[1]


def draw_patches(
    model: Any, pictures: np.ndarray, share: float, generator: torch.Generator
) -> Tensor | None:
    """Patches that a step looks at: the same for all its rows, `None` for all of them."""
    if share >= 1:
        return None
    # Counted on one picture, which neither batch normalisation nor autocast should remember.
    mode, kind = model.vision.training, model.device.type
    model.vision.eval()
    with torch.no_grad(), torch.autocast(kind, enabled=False):
        count = features(model, pictures[:1]).shape[1] - 1
    model.vision.train(mode)
    return kept_patches(count, share, generator)

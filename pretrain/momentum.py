"""Momentum encoders and queues of keys (stage 2; He et al., 2020)."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from pretrain.objectives import no_negative


class MomentumEncoder(nn.Module):
    """A slow copy of the live model, made *after* its weights were loaded.

    The official code copies first and loads afterwards, so that its first keys come from weights
    that no stage trained. Frozen parameters are shared, not copied.

    Parameters
    ----------
    live : nn.Module
    momentum : float
        m of key <- m key + (1 - m) live, once per optimiser step.
    """

    def __init__(self, live: nn.Module, momentum: float) -> None:
        super().__init__()
        self.model: Any
        shared = {id(p): p for p in live.parameters() if not p.requires_grad}
        self.model = copy.deepcopy(live, memo=shared)  # type: ignore[arg-type]
        self.momentum = momentum
        for parameter in self.model.parameters():
            if id(parameter) not in shared:
                parameter.requires_grad_(False)

    def train(self, mode: bool = True) -> MomentumEncoder:
        """Stay in evaluation: keys come without dropout."""
        return super().train(False)

    @torch.no_grad()
    def update(self, live: nn.Module) -> None:
        """Move one step towards the live weights; call it only after an optimiser step.

        Buffers move too: the means and variances of a batch normalisation belong to its weights,
        and those of the last stage do not fit this one's.
        """
        for mine, theirs in (
            (self.model.parameters(), live.parameters()),
            (self.model.buffers(), live.buffers()),
        ):
            for slow, fast in zip(mine, theirs, strict=True):
                if slow is fast:
                    continue
                if slow.is_floating_point():
                    slow.lerp_(fast, 1 - self.momentum)
                else:
                    slow.copy_(fast)


class Queue(nn.Module):
    """A ring of the last `size` keys with the picture that each belongs to.

    Starts empty: unlike the official code's signed noise, only lexicon vectors are
    ever a negative. A batch that reaches past the end wraps around; nothing is dropped.

    Parameters
    ----------
    size : int
    width : int
        Lexicon words.
    dtype : torch.dtype
        Of the keys: that in which the step multiplies.
    """

    keys: Tensor
    owner: Tensor
    text: Tensor
    next: Tensor

    def __init__(self, size: int, width: int, dtype: torch.dtype = torch.bfloat16) -> None:
        super().__init__()
        self.register_buffer("keys", torch.zeros(size, width, dtype=dtype))
        self.register_buffer("owner", torch.full((size,), -1, dtype=torch.int64))
        self.register_buffer("text", torch.full((size,), -1, dtype=torch.int64))
        self.register_buffer("next", torch.zeros((), dtype=torch.int64))

    @property
    def filled(self) -> Tensor:
        """True for slots that hold a key, bool [size]."""
        return self.owner >= 0

    @torch.no_grad()
    def push(self, keys: Tensor, owner: Tensor, text: Tensor) -> None:
        """Add keys [B, width] of pictures `owner` [B] and distinct captions `text` [B]."""
        size = len(self.owner)
        if not size:
            return
        keys, owner, text = keys[-size:], owner[-size:], text[-size:]
        slots = (self.next + torch.arange(len(keys), device=keys.device)) % size
        self.keys[slots] = keys.detach().to(self.keys.dtype)
        self.owner[slots] = owner
        self.text[slots] = text
        self.next.copy_((self.next + len(keys)) % size)

    def no_negative(self, owner: Tensor, text: Tensor) -> Tensor:
        """Slots that are empty, of the same picture or with the same caption, bool [B, size]."""
        return no_negative(owner, text, self.owner, self.text) | ~self.filled[None]

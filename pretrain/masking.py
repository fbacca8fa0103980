"""Whole-word masking (LexLIP section 3.2): 30 % for the encoder, 50 % for the weak decoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

IGNORE = -100


@dataclass(frozen=True)
class Masker:
    """Draws masks over whole words; of the chosen tokens 80 % become [MASK], 10 % a random
    token, 10 % stay (Devlin et al., 2019).

    Parameters
    ----------
    mask_token : int
    compact : int64 Tensor [V]
        Lexicon column of each vocabulary id, -1 off the allow-list: the loss is a softmax over
        the lexicon, so tokens that can carry no weight are masked but never predicted.
    """

    mask_token: int
    compact: Tensor

    def __call__(
        self, input_ids: Tensor, word_ids: Tensor, share: float, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Mask a batch.

        Parameters
        ----------
        input_ids : int64 Tensor [B, L]
        word_ids : int64 Tensor [B, L]
            Which word of its text a token belongs to; -1 for special tokens and padding.
        share : float
            Probability of a word to be chosen.

        Returns
        -------
        masked : int64 Tensor [B, L]
        labels : int64 Tensor [B, L]
            Lexicon column at chosen positions, `IGNORE` elsewhere.
        """
        # Drawn on the CPU, so that a seed means the same on every device.
        (batch, length), device = input_ids.shape, input_ids.device
        draw = torch.rand(batch, length, generator=generator).to(device)
        chosen = (draw.gather(1, word_ids.clamp(min=0)) < share) & (word_ids >= 0)
        fate = torch.rand(batch, length, generator=generator).to(device)
        random_ids = torch.randint(len(self.compact), (batch, length), generator=generator)
        masked = torch.where(chosen & (fate < 0.8), self.mask_token, input_ids)
        masked = torch.where(chosen & (fate >= 0.9), random_ids.to(device), masked)
        target = self.compact.to(device)[input_ids]
        return masked, torch.where(chosen & (target >= 0), target, IGNORE)


def kept_patches(count: int, share: float, generator: torch.Generator) -> Tensor | None:
    """Draw which of `count` patches a step looks at, int64 [K] ascending; None for all of them.

    Examples
    --------
    >>> kept_patches(49, 0.5, torch.Generator().manual_seed(0)).shape
    torch.Size([24])
    """
    if share >= 1:
        return None
    chosen = torch.randperm(count, generator=generator)[: max(1, round(count * share))]
    return chosen.sort().values

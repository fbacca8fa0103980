"""A lexicon head while it is trained: dense vectors to weights over words.

``log(1 + relu(W x + b))``, as D2S has it (Nguyen et al., ECIR 2024). Pictures and texts are centred
on the mean of their own kind first. `LexicalHead.code` returns what a checkpoint keeps, which needs
no torch (`lexlip.models.lexical.learned.LearnedCode`).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from lexlip.models.lexical.code import WordCode
from lexlip.models.lexical.learned import LearnedCode
from lexlip.models.pooling import log_saturate

Kind = Literal["image", "text"]


class LexicalHead(nn.Module):
    """Embeddings [B, d] to weights [B, Va].

    Parameters
    ----------
    size : int
        Number of words, Va.
    width : int
        Numbers of an embedding, d.

    Examples
    --------
    >>> head = LexicalHead(3, 2)
    >>> head.words.data = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    >>> head(torch.tensor([[2.0, 0.0]]), "image").tolist()
    [[0.6931471824645996, 0.0, 0.0]]
    """

    image_mean: Tensor
    text_mean: Tensor

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.words = nn.Parameter(torch.empty(size, width).normal_(0, width**-0.5))
        self.bias = nn.Parameter(torch.zeros(size))
        self.register_buffer("image_mean", torch.zeros(width))
        self.register_buffer("text_mean", torch.zeros(width))

    @classmethod
    def of(cls, code: WordCode) -> LexicalHead:
        """Start a head where a code's words are."""
        head = cls(len(code), code.width)
        head.words.data = torch.from_numpy(np.array(code.atoms))
        head.image_mean.copy_(torch.from_numpy(code.image_mean))
        head.text_mean.copy_(torch.from_numpy(code.text_mean))
        return head

    def code(self, start: WordCode) -> LearnedCode:
        """Return the head as a code, with everything else of the code that it began with."""
        rows, bias = (part.detach().cpu().float().numpy() for part in (self.words, self.bias))
        means = {
            name: getattr(self, name).cpu().float().numpy() for name in ("image_mean", "text_mean")
        }
        return LearnedCode(**start.arrays() | means, rows=rows, bias=bias)

    def centred(self, vectors: Tensor, kind: Kind) -> Tensor:
        """Unit embeddings less the mean of their kind, normalised again."""
        mean = self.image_mean if kind == "image" else self.text_mean
        return normalize(normalize(vectors.float(), dim=-1) - mean, dim=-1)

    def pool(self, vectors: Tensor, kind: Kind) -> Tensor:
        """Logits [B, Va], before log-saturation."""
        return self.centred(vectors, kind) @ self.words.T + self.bias

    def forward(self, vectors: Tensor, kind: Kind) -> Tensor:
        """Weights [B, Va], not negative and not normalised."""
        return log_saturate(self.pool(vectors, kind))

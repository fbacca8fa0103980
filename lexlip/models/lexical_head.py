"""Dense vectors to words: how an embedding of CLIP's kind becomes weights over a vocabulary.

Pictures and texts lie in two separate cones of the joint space (the modality gap: Liang et al.,
2022), so each is centred on its own mean first. Then either

- sparse coding: the fewest words whose vectors add up to the embedding, none subtracted (as SpLiCE
  does: Bhalla et al., 2024); needs no training, only the vectors of the words, or
- a head: ``log(1 + relu(W x + b))``, as D2S has it (Nguyen et al., 2024), which training made of
  them (``python -m pretrain.distil``).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from lexlip.models.pooling import log_saturate

Kind = Literal["image", "text"]


class LexicalHead(nn.Module):
    """Embeddings [B, d] to weights [B, Va].

    Parameters
    ----------
    size : int
        Number of words, Va.
    width : int
        Of an embedding, d.
    steps : int
        Iterations of sparse coding; 0 for a trained head.
    penalty : float
        What a unit of weight costs in sparse coding: 0.02 leaves some 180 words, 0.05 some 60.

    Examples
    --------
    >>> head = LexicalHead(3, 2)
    >>> head.words.data = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    >>> head(torch.tensor([[2.0, 0.0]]), "image").tolist()
    [[0.6931471824645996, 0.0, 0.0]]
    """

    image_mean: Tensor
    text_mean: Tensor

    def __init__(self, size: int, width: int, steps: int = 0, penalty: float = 0.02) -> None:
        super().__init__()
        self.words = nn.Parameter(torch.empty(size, width).normal_(0, width**-0.5))
        self.bias = nn.Parameter(torch.zeros(size))
        self.register_buffer("image_mean", torch.zeros(width))
        self.register_buffer("text_mean", torch.zeros(width))
        self.steps, self.penalty = steps, penalty

    def centred(self, vectors: Tensor, kind: Kind) -> Tensor:
        """Unit embeddings less the mean of their kind, normalised again."""
        mean = self.image_mean if kind == "image" else self.text_mean
        return normalize(normalize(vectors.float(), dim=-1) - mean, dim=-1)

    def pool(self, vectors: Tensor, kind: Kind) -> Tensor:
        """Logits [B, Va] of a trained head, before log-saturation."""
        return self.centred(vectors, kind) @ self.words.T + self.bias

    def forward(self, vectors: Tensor, kind: Kind) -> Tensor:
        """Weights [B, Va], not negative and not normalised."""
        if self.steps:
            centred = self.centred(vectors, kind)
            return sparse_code(centred, self.words, self.penalty, self.steps)
        return log_saturate(self.pool(vectors, kind))


@torch.no_grad()
def sparse_code(targets: Tensor, atoms: Tensor, penalty: float, steps: int = 100) -> Tensor:
    """Minimise ``|x - w D|^2 / 2 + penalty * sum(w)`` over w >= 0, for each row x.

    FISTA (Beck and Teboulle, 2009): a gradient step, a cut at zero, momentum.

    Parameters
    ----------
    targets : Tensor [B, d]
    atoms : Tensor [V, d]
    penalty : float
    steps : int

    Returns
    -------
    Tensor [B, V]

    Examples
    --------
    >>> sparse_code(torch.tensor([[1.0, -1.0]]), torch.eye(2), penalty=0.1).tolist()
    [[0.8999999761581421, 0.0]]
    """
    rate = 1 / torch.linalg.matrix_norm(atoms, 2).square().clamp(min=1e-12)
    weights = moved = targets.new_zeros(len(targets), len(atoms))
    momentum = 1.0
    for _ in range(steps):
        gradient = (moved @ atoms - targets) @ atoms.T
        new = torch.relu(moved - rate * (gradient + penalty))
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        moved = new + (momentum - 1) / following * (new - weights)
        weights, momentum = new, following
    return weights

"""The losses, one function each. Formulas: LexLIP (ICCV 2023) sections 3.2-3.3.

All vectors here are compact (one column per lexicon word). `pooled` are raw max-pooled logits,
`weights` are log-saturated, unit vectors are weights divided by their length.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from pretrain.masking import IGNORE


def unit(weights: Tensor) -> Tensor:
    """Rows to length one; an empty row stays zero instead of becoming NaN."""
    return weights / weights.norm(dim=-1, keepdim=True).clamp(min=1e-6)


def masked_language(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of [N, Va] logits at labelled positions; 0 when nothing was masked."""
    if not (labels != IGNORE).any():
        return logits.sum() * 0.0
    return cross_entropy(logits.float(), labels, ignore_index=IGNORE)


def bottleneck(pooled: Tensor, words: Tensor) -> Tensor:
    """b = softmax(pooled) W: a text or picture squeezed through its word distribution, [B, D].

    Gradient reaches the encoder only through the distribution; the word vectors are constants.
    """
    return torch.softmax(pooled.float(), dim=-1) @ words.detach().float()


def no_negative(
    owner: Tensor, text: Tensor, owners: Tensor | None = None, texts: Tensor | None = None
) -> Tensor:
    """Pairs of the same picture or with the same caption: not to be told apart by contrast.

    Parameters
    ----------
    owner, text : int Tensor [B]
        Numbers of the picture and of the caption of each row.
    owners, texts : int Tensor [N], optional
        The same of what the rows are compared with; the rows themselves when left out.

    Returns
    -------
    bool Tensor [B, N]

    Examples
    --------
    >>> no_negative(torch.tensor([1, 1, 2]), torch.tensor([5, 6, 6])).int().tolist()
    [[1, 1, 0], [1, 1, 1], [0, 1, 1]]
    """
    owners, texts = owner if owners is None else owners, text if texts is None else texts
    return (owner[:, None] == owners[None]) | (text[:, None] == texts[None])


def contrast(
    queries: Tensor, keys: Tensor, temperature: float, same: Tensor | None = None
) -> Tensor:
    """Symmetric InfoNCE of unit rows: row i of `queries` belongs to row i of `keys`.

    Parameters
    ----------
    queries, keys : Tensor [B, Va]
    temperature : float
    same : bool Tensor [B, B], optional
        Pairs off the diagonal that belong together (captions of one picture, equal captions):
        they are not negatives.
    """
    scores = queries @ keys.T / temperature
    if same is not None:
        twin = same & ~torch.eye(len(scores), dtype=torch.bool, device=scores.device)
        scores = scores.masked_fill(twin, -torch.inf)
    target = torch.arange(len(scores), device=scores.device)
    return (cross_entropy(scores, target) + cross_entropy(scores.T, target)) / 2


def queue_contrast(
    queries: Tensor,
    keys: Tensor,
    negatives: Sequence[Tensor],
    temperature: float,
    same: Tensor | None = None,
) -> Tensor:
    """InfoNCE of each query with its own momentum key against a queue (He et al., 2020).

    Parameters
    ----------
    queries, keys : Tensor [B, Va]
        Unit rows of the live encoder of one modality and the momentum encoder of the other.
    negatives : sequence of Tensor [K_n, Va]
        Unit rows, keys of other items: the queue, the batch itself; constants.
    temperature : float
    same : bool Tensor [B, sum of K_n], optional
        Entries that are not negatives of a query.
    """
    positive = (queries * keys.detach()).sum(-1, keepdim=True)
    # Each in its own precision: a float32 copy of the queue would cost more than the product.
    parts = [queries.to(n.dtype) @ n.detach().T for n in negatives]
    negative = torch.cat([part.to(positive.dtype) for part in parts], dim=1)
    if same is not None:
        negative = negative.masked_fill(same, -torch.inf)
    scores = torch.cat([positive, negative], dim=1) / temperature
    return cross_entropy(scores, torch.zeros(len(scores), dtype=torch.int64, device=scores.device))


def flops(weights: Tensor) -> Tensor:
    """sum_j (mean_n |w_nj|)^2: expected multiplications of a search (Paria et al., 2020).

    On unit rows this is the mean cosine of the batch, at most 1, and binds nothing; training
    therefore gives it raw weights, with a ramp.
    """
    return weights.abs().mean(0).square().sum()


def grounding(pooled: Tensor, target: Tensor) -> Tensor:
    """Cross entropy between the caption words of an item and its word distribution.

    The decoder-free relative of the lexicon bottleneck: a picture's words must be able to say
    its captions. Without it contrast invents a code of words that mean nothing.

    Parameters
    ----------
    pooled : Tensor [B, Va]
    target : Tensor [B, Va]
        Non-negative counts of caption words; rows without a word are skipped.
    """
    total = target.sum(-1, keepdim=True)
    rows = total.squeeze(-1) > 0
    if not rows.any():
        return pooled.sum() * 0.0
    share = target[rows] / total[rows]
    return -(share * log_softmax(pooled[rows].float(), dim=-1)).sum(-1).mean()


def taught(scores: Tensor, teacher: Tensor, same: Tensor | None = None) -> Tensor:
    """KL divergence of a batch's scores from a teacher's, over rows and over columns.

    Parameters
    ----------
    scores, teacher : Tensor [B, B]
        Divided by their temperatures; the teacher's are constants.
    same : bool Tensor [B, B], optional
        Pairs off the diagonal to leave out, as in `contrast`.
    """
    teacher = teacher.detach().float()
    scores = scores.float()
    if same is not None:
        twin = same & ~torch.eye(len(scores), dtype=torch.bool, device=scores.device)
        scores, teacher = (s.masked_fill(twin, -1e4) for s in (scores, teacher))
    parts = [
        kl_div(
            log_softmax(one, dim=-1),
            log_softmax(other, dim=-1),
            reduction="batchmean",
            log_target=True,
        )
        for one, other in ((scores, teacher), (scores.T, teacher.T))
    ]
    return (parts[0] + parts[1]) / 2


def kept(weights: Tensor, terms: int) -> Tensor:
    """Weights of the largest `terms` of each row; 0 for the others.

    Examples
    --------
    >>> kept(torch.tensor([[1.0, 3.0, 2.0]]), 2).tolist()
    [[0.0, 3.0, 2.0]]
    """
    if terms >= weights.shape[-1]:
        return weights
    least = weights.detach().topk(terms, dim=-1).values[:, -1:]
    return torch.where(weights >= least, weights, 0.0)

"""The losses of the dense branch, one function each: FILIP, PCME, PCME++, NAAF.

Similarities and matches are [images, texts]; `same` marks pairs that belong together (captions of
one picture, equal captions) and `match` says so with numbers 0..1. Row i and column i are a pair.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import cross_entropy, logsigmoid

from lexlip.models.scores.naaf import optimal_threshold


def late_contrast(
    i2t: Tensor, t2i: Tensor, scale: Tensor | float, same: Tensor | None = None
) -> Tensor:
    """FILIP's two InfoNCE terms (Yao et al., ICLR 2022, equation 3).

    Each with its own similarity: pictures look for their text by `i2t`, texts for their
    picture by `t2i`.

    Parameters
    ----------
    i2t, t2i : Tensor [B, B]
        As `lexlip.models.scores.late.late_interaction` gives them.
    scale : float
        Inverse temperature.
    same : bool Tensor [B, B], optional
        Pairs off the diagonal that are not negatives.
    """
    target = torch.arange(len(i2t), device=i2t.device)
    losses = []
    for scores in (i2t * scale, t2i.T * scale):
        if same is not None:
            scores = scores.masked_fill(off_diagonal(same), -torch.inf)
        losses.append(cross_entropy(scores, target))
    return (losses[0] + losses[1]) / 2


def off_diagonal(same: Tensor) -> Tensor:
    """Pairs that belong together without being row i and column i."""
    return same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)


def soft_contrast(logits: Tensor, match: Tensor) -> Tensor:
    """PCME's loss: -log p of pairs that match, -log(1 - p) of others (CVPR 2021, equation 3).

    p is the mean over all pairs of samples of sigmoid(logit): a plain sigmoid, where the authors'
    program takes sigmoid(2 logit). Gradients favour the samples that fit already, so an item may
    match several others with different parts of itself. Mean over pairs.

    Parameters
    ----------
    logits : Tensor [Bi, Bt, J, J']
        ``shift - scale * distance`` of samples.
    match : bool Tensor [Bi, Bt]
    """
    signed = torch.where(match[:, :, None, None], logits, -logits)
    return -mean_probability(logsigmoid(signed)).mean()


def mean_probability(logs: Tensor) -> Tensor:
    """Logarithm of the mean, over the last two dimensions, of what the logarithms are of."""
    count = logs.shape[-1] * logs.shape[-2]
    return torch.logsumexp(logs.flatten(-2), dim=-1) - np.log(count)


def sample_logits(image: Tensor, text: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """``shift - scale * r`` of all samples [Bi, J, D], [Bt, J', D], as [Bi, Bt, J, J'].

    ``r = sqrt(squared distance + 1e-6)``, so that equal samples have a gradient.
    """
    left, right = image.flatten(0, 1), text.flatten(0, 1)
    squares = (
        left.square().sum(1)[:, None] + right.square().sum(1)[None] - 2 * left @ right.T
    ).clamp(min=0)
    distance = (squares + 1e-6).sqrt()
    grid = distance.unflatten(1, text.shape[:2]).unflatten(0, image.shape[:2])
    return shift - scale * grid.transpose(1, 2)


def closed_form(
    distance: Tensor,
    match: Tensor,
    scale: Tensor | float,
    shift: Tensor | float,
    pseudo: float = 0.1,
    smoothing: float = 0.0,
) -> Tensor:
    """PCME++'s loss: cross entropy of sigmoid(shift - scale * CSD), and pseudo-positives.

    Twice the mean over all pairs, once for each direction. A pair at least as likely as its row's
    own is taken for a match that nobody wrote down, with weight `pseudo`; so is one of its column.

    Parameters
    ----------
    distance : Tensor [B, B]
        `lexlip.models.scores.gaussian.csd`.
    match : Tensor [B, B]
        1 for pairs that match, 0 for others, between them for mixed pictures.
    scale, shift : float
    pseudo : float
    smoothing : float
        Label smoothing: matches are drawn so far towards 1/2.
    """
    logits, match = shift - scale * distance, match.to(distance.dtype)
    own, paired = logits.diagonal().detach(), match.diagonal()

    def loss(target: Tensor) -> Tensor:
        return bce(logits, target * (1 - smoothing) + smoothing / 2)

    total = 2 * loss(match)
    if pseudo:
        rows = torch.where(logits >= own[:, None], paired[:, None], 0.0)
        columns = torch.where(logits >= own[None], paired[None], 0.0)
        for found in (rows, columns):
            total = total + pseudo * loss(torch.maximum(match, found))
    return total


def kl_to_standard(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL divergence of each Gaussian [B, D] from N(0, I), averaged over items and directions."""
    return ((mean.square() + torch.expm1(log_variance) - log_variance) / 2).mean()


def uniformity(points: Tensor) -> Tensor:
    """log of the mean over pairs of exp(-2 |x - y|^2) (Wang and Isola, ICML 2020).

    Parameters
    ----------
    points : Tensor [N, D]
        At least two.
    """
    return torch.logsumexp(-2 * torch.pdist(points).square(), dim=0) - np.log(
        len(points) * (len(points) - 1) / 2
    )


def hinge(scores: Tensor, same: Tensor, margin: float = 0.2) -> Tensor:
    """Hinge loss with the hardest negative of each row and column (VSE++; NAAF, section 3.4).

    Parameters
    ----------
    scores : Tensor [B, B]
    same : bool Tensor [B, B]
        Pairs that are not negatives; the diagonal never is.
    """
    own = scores.diagonal()
    eye = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    negatives = scores.masked_fill(same | eye, -torch.inf)
    rows = torch.relu(margin + negatives.max(1).values - own)
    columns = torch.relu(margin + negatives.max(0).values - own)
    return (rows + columns).mean()


class Mixed(NamedTuple):
    """Pictures mixed of two, and what they match."""

    features: Tensor
    """[n, 1 + P, D]"""

    share: Tensor
    """float [n]: how much of a picture is the first one's; the rest is of its partner."""


def mix(features: Tensor, count: int, generator: torch.Generator) -> Mixed:
    """Mix the first `count` pictures with those at the end of the batch, i with B - 1 - i.

    Every other one by Mixup (all features are averaged), the others by CutMix (a rectangle of
    patches is the partner's), with shares drawn from Beta(2, 2).

    Parameters
    ----------
    features : Tensor [B, 1 + P, D]
        Position 0 is the whole picture's; the P patches form a square, or there is no CutMix.
    count : int
        At most B / 2.
    generator : torch.Generator
        Of the CPU.
    """
    # The median of three uniform numbers has the distribution Beta(2, 2).
    share = torch.rand(count, 3, generator=generator).median(1).values
    corner = torch.rand(count, 2, generator=generator)
    first, partner = features[:count], features.flip(0)[:count]
    grid = round((features.shape[1] - 1) ** 0.5)
    kept = share[:, None].expand(-1, features.shape[1]).clone()
    if grid * grid == features.shape[1] - 1:
        side = ((1 - share).sqrt() * grid).round().clamp(max=grid)
        start = (corner * (grid - side + 1)[:, None]).floor()
        place = torch.arange(grid)
        inside = (place >= start[..., None]) & (place < (start + side[:, None])[..., None])
        cut = (inside[:, 0, :, None] & inside[:, 1, None, :]).flatten(1)
        part = 1 - cut.float().mean(1)
        cutmix = torch.cat([part[:, None], 1 - cut.float()], dim=1)
        chosen = torch.arange(count) % 2 == 1
        kept = torch.where(chosen[:, None], cutmix, kept)
        share = torch.where(chosen, part, share)
    kept = kept.to(features.device)[..., None]
    return Mixed(first * kept + partner * (1 - kept), share.to(features.device))


def mixed_match(match: Tensor, share: Tensor) -> Tensor:
    """Targets of a batch whose first pictures are mixed: [B, B], from those of the pictures.

    Examples
    --------
    >>> mixed_match(torch.eye(3), torch.tensor([0.75])).tolist()
    [[0.75, 0.0, 0.25], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    match = match.to(share.dtype)
    share = share[:, None]
    first = share * match[: len(share)] + (1 - share) * match.flip(0)[: len(share)]
    return torch.cat([first, match[len(share) :]])


class ThresholdMiner(nn.Module):
    """NAAF's two distributions of best cosines, and the threshold between them (section 3.2).

    A batch is sampled from captions whose own picture ranks first: the best cosines of their words
    with that picture, and with the picture of the batch that fits the caption least. Above 200
    words of the first kind the thresholds move 0.7 of the way to the batch's own.

    Parameters
    ----------
    alpha : float
        How much worse it is to take an absent word for present than the reverse.
    """

    threshold: Tensor
    safe: Tensor
    updates: Tensor

    def __init__(self, alpha: float = 2.0, least: int = 200, momentum: float = 0.3) -> None:
        super().__init__()
        self.alpha, self.least, self.momentum = alpha, least, momentum
        for name in ("threshold", "safe"):
            self.register_buffer(name, torch.zeros((), dtype=torch.float64))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def update(
        self, scores: Tensor, image: Tensor, image_mask: Tensor, text: Tensor, text_mask: Tensor
    ) -> None:
        """Learn from a batch of pairs.

        Parameters
        ----------
        scores : Tensor [B, B]
            [images, texts]: what ranks.
        image, image_mask, text, text_mask
            Unit vectors [B, P, d], [B, m, d] and their masks.
        """
        numbers = torch.arange(len(scores), device=scores.device)
        first = (scores.argmax(0) == numbers) & (scores.argmin(0) != numbers)
        texts = numbers[first]
        present = self._best(image[texts], image_mask[texts], text[texts], text_mask[texts])
        worst = scores.argmin(0)[texts]
        absent = self._best(image[worst], image_mask[worst], text[texts], text_mask[texts])
        if len(present) <= self.least:
            return
        mean, deviation = present.mean().item(), present.std().item()
        if not min(deviation, absent.std().item()) > 0:
            return
        found = float(
            optimal_threshold(
                mean, deviation, absent.mean().item(), absent.std().item(), self.alpha
            )
        )
        moved = 1 - self.momentum
        for buffer, value in ((self.threshold, found), (self.safe, mean - 3 * deviation)):
            buffer.mul_(self.momentum).add_(moved * (value if 0 <= value <= 1 else 0.0))
        self.updates += 1

    @staticmethod
    def _best(image: Tensor, image_mask: Tensor, text: Tensor, text_mask: Tensor) -> Tensor:
        """Best cosine of every word of each text with its picture, float64 [words]."""
        cosines = (text.float() @ image.float().transpose(1, 2)).double()
        cosines = cosines.masked_fill(~image_mask[:, None], -1.0)
        return cosines.max(2).values[text_mask] if cosines.numel() else cosines.flatten()


def draw(mean: Tensor, log_variance: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw `count` points of each Gaussian [B, D], with independent noise: [B, count, D]."""
    noise = torch.randn(len(mean), count, mean.shape[1], generator=generator).to(mean)
    return mean[:, None] + torch.exp(log_variance / 2)[:, None] * noise

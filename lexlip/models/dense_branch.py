"""The dense branch: tokens for late interaction and Gaussians, from the towers that give words.

It reads the towers below their last layers and goes on with layers of its own, so that it can be
trained while the towers, and with them all words, stay as they are.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from lexlip.models.config import LexLIPConfig
from lexlip.models.pooling import NEVER
from lexlip.models.towers import VisionTower, by_length, small_encoder
from lexlip.models.trunks import vision_width
from lexlip.storage.views import Views


class Dense(NamedTuple):
    """Output of the branch for a batch of B items, on the device and with its gradient.

    A model without one of the heads gives tokens, or means and log-variances, of width 0.
    """

    tokens: Tensor
    """float32 [B, P, d]: unit vectors of patches or words, zeros where the mask is False."""

    mask: Tensor
    """bool [B, P]: True at an item's own tokens."""

    mean: Tensor
    """float32 [B, D]: unit vectors."""

    log_variance: Tensor
    """float32 [B, D]: natural logarithms of variances."""

    def views(self) -> Views:
        """Return the same for a store: numpy arrays, each item's own tokens first."""
        counts = self.mask.sum(1)
        order = (~self.mask).int().argsort(dim=1, stable=True)
        packed = self.tokens.gather(1, order.unsqueeze(-1).expand_as(self.tokens))
        packed = packed[:, : int(counts.max()) if len(counts) else 0]
        arrays = (t.cpu().numpy() for t in (packed, counts.int(), self.mean, self.log_variance))
        return Views(*arrays)


class TokenReduction(nn.Module):
    """Attention pooling: P patches become K tokens, one for each learned query.

    FILIP's successor Wukong (Gu et al., 2022) found 12 learned tokens better than all 49 patches,
    and a store of them is a quarter as large.

    Parameters
    ----------
    width, count : int

    Examples
    --------
    >>> TokenReduction(8, 3)(torch.randn(2, 49, 8)).shape
    torch.Size([2, 3, 8])
    """

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        # Far enough from zero that the queries look at different patches from the start.
        self.queries = nn.Parameter(torch.empty(count, width).normal_(0, 2 / math.sqrt(width)))

    def forward(self, hidden: Tensor) -> Tensor:
        """Reduce states [B, P, D] to [B, K, D]."""
        scores = self.queries @ self.norm(hidden).transpose(1, 2)
        return torch.softmax(scores, dim=-1) @ hidden


class TokenHead(nn.Module):
    """Linear projection to unit vectors (FILIP, Yao et al., ICLR 2022).

    Examples
    --------
    >>> tokens = TokenHead(8, 4)(torch.randn(1, 2, 8), torch.tensor([[True, False]]))
    >>> tokens.norm(dim=-1).round().tolist()
    [[1.0, 0.0]]
    """

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.projection = nn.Linear(width, size, bias=False)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Turn states [B, P, D] into unit vectors [B, P, d], zeros where the mask is False."""
        tokens = normalize(self.projection(hidden).float(), dim=-1)
        return tokens.masked_fill(~mask.unsqueeze(-1), 0)


class LocalAttention(nn.Module):
    """PCME's local branch: softmax(tanh(Z W1) W2) over positions weighs the states Z."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, max(1, width // 2), bias=False)
        self.outer = nn.Linear(max(1, width // 2), 1, bias=False)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Pool states [B, P, D] to [B, D]; zeros where nothing is to be pooled."""
        scores = self.outer(torch.tanh(self.inner(hidden))).float()
        scores = scores.masked_fill(~mask.unsqueeze(-1), NEVER)
        weights = torch.softmax(scores, dim=1) * mask.unsqueeze(-1)
        return (weights * hidden).sum(1).to(hidden.dtype)


class GaussianHead(nn.Module):
    """Mean and log-variance of an item (PCME, Chun et al., CVPR 2021, section 3.2).

    ``mean = L2(LayerNorm(FC(g) + sigmoid(FC(r))))`` and ``log variance = FC(g) + FC(r')``, with g
    the average of the states and r, r' pooled by local attention, each with weights of its own.
    The authors' head gives the logarithm of the standard deviation; this one, as in PCME++, that
    of the variance.

    Parameters
    ----------
    width, size : int
        Of the states, and of the Gaussian.
    """

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.mean, self.mean_residual = nn.Linear(width, size), nn.Linear(width, size)
        self.mean_attention, self.variance_attention = LocalAttention(width), LocalAttention(width)
        self.norm = nn.LayerNorm(size)
        self.variance = nn.Linear(width, size, bias=False)
        self.variance_residual = nn.Linear(width, size, bias=False)
        # The variances add up to 1 at first, as much as the squared length of the mean. From
        # zero they would add up to `size`, and no distance would tell two items apart.
        self.level = nn.Parameter(torch.full((size,), -math.log(size)))

    def forward(self, hidden: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Turn states [B, P, D] and which of them count into mean and log-variance [B, size]."""
        share = mask.unsqueeze(-1).to(hidden.dtype)
        average = (hidden * share).sum(1) / share.sum(1).clamp(min=1)
        local = torch.sigmoid(self.mean_residual(self.mean_attention(hidden, mask)))
        mean = normalize(self.norm(self.mean(average) + local).float(), dim=-1)
        spread = self.variance_residual(self.variance_attention(hidden, mask))
        return mean, (self.variance(average) + spread + self.level).float()


class Branch(nn.Module):
    """One modality's private layers and heads.

    Parameters
    ----------
    config : LexLIPConfig
    layers : nn.Module
        A transformer encoder at the width of the states that it reads.
    width : int
    count : int
        Tokens to which the states are reduced, 0 for all.
    """

    def __init__(self, config: LexLIPConfig, layers: Any, width: int, count: int = 0) -> None:
        super().__init__()
        self.layers = layers
        self.reduction = TokenReduction(width, count) if config.token_size and count else None
        self.tokens = TokenHead(width, config.token_size) if config.token_size else None
        self.gaussian = GaussianHead(width, config.gaussian_size) if config.gaussian_size else None

    def forward(self, states: Tensor, mask: Tensor) -> Dense:
        """Turn states [B, P, D] after the private layers into dense views."""
        mean = log_variance = states.new_zeros(len(states), 0, dtype=torch.float32)
        tokens = states.new_zeros(len(states), 0, 0, dtype=torch.float32)
        if self.gaussian is not None:
            mean, log_variance = self.gaussian(states, mask)
        if self.reduction is not None:
            states = self.reduction(states)
            mask = mask.new_ones(states.shape[:2])
        if self.tokens is not None:
            tokens = self.tokens(states, mask)
        else:
            mask = mask[:, :0]
        return Dense(tokens, mask, mean, log_variance)


class DenseBranch(nn.Module):
    """Both modalities' private layers and heads; ``model.heads`` of a LexLIP that has them.

    The text side reads the text tower ``config.head_layers`` layers below its last and goes on
    with as many of its own; the image side reads the trunk's features, beside the neck. With no
    layers of their own they read what the words are read from.

    Attributes
    ----------
    match_scale, match_shift : scalar Parameter
        a and b of PCME++'s ``P(match) = sigmoid(b - a * CSD)``, a plain sigmoid.
    sample_scale, sample_shift : scalar Parameter
        a and b of PCME's ``P(match) = mean sigmoid(b - a * r)`` over the distances r of samples,
        a plain sigmoid too (the authors' program has sigmoid(2 (...)), half of both).
    """

    def __init__(self, config: LexLIPConfig) -> None:
        super().__init__()
        text: Any = config.text_config
        self.depth = min(config.head_layers, text.num_hidden_layers)
        layers = small_encoder(
            text.hidden_size,
            self.depth,
            text.num_attention_heads,
            intermediate=getattr(text, "intermediate_size", None),
        )
        self.text = Branch(config, layers, text.hidden_size)
        width = vision_width(config.vision_config)
        layers = small_encoder(width, config.head_layers, config.neck_heads)
        self.image = Branch(config, layers, width, config.token_count)
        self.match_scale, self.match_shift, self.sample_scale, self.sample_shift = (
            nn.Parameter(torch.tensor(5.0)) for _ in range(4)
        )

    def start(self, trunk: Any, neck: Any) -> None:
        """Let the private layers begin as copies of those beside which they stand.

        A text trunk whose layers are not BERT's leaves the text side at its random weights.
        """
        above = list(getattr(getattr(trunk, "encoder", None), "layer", []))
        for mine, theirs in (
            (self.text.layers.layer, above[len(above) - self.depth :]),
            (self.image.layers.layer, neck.layer),
        ):
            for layer, model in zip(mine, theirs, strict=False):
                if _shapes(layer) == _shapes(model):
                    layer.load_state_dict(copy.deepcopy(model.state_dict()))

    def of_text(self, states: Tensor, attention_mask: Tensor, positions: Tensor) -> Dense:
        """Dense views of texts.

        Parameters
        ----------
        states : Tensor [B, L, D]
            Of the text trunk, `depth` layers below its last.
        attention_mask : int64 Tensor [B, L]
        positions : bool Tensor [B, L]
            Tokens that are words: no padding, no [CLS], [SEP] or [UNK].
        """

        def run(part: Tensor, mask: Tensor) -> Tensor:
            allow = mask[:, None, None, :].to(part.dtype)
            return self.text.layers(part, attention_mask=(1 - allow) * NEVER).last_hidden_state

        states = by_length(run, states, attention_mask) if self.depth else states
        return self.text(states, positions)

    def of_image(self, vision: VisionTower, features: Tensor, kept: Tensor | None = None) -> Dense:
        """Dense views of trunk features [B, 1 + P, Dv]; `kept` as in `VisionTower`."""
        seen = vision.seen(features, kept)
        layers = self.image.layers if len(self.image.layers.layer) else vision.neck
        states = layers(seen).last_hidden_state[:, 1:]
        return self.image(states, torch.ones(states.shape[:2], dtype=torch.bool).to(states.device))


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in module.state_dict().items()}


def to_views(parts: Sequence[Dense], count: int, config: LexLIPConfig) -> Views:
    """Join several batches, `count` items in all; there are none of a model without heads."""
    if parts:
        return Views.concatenate([part.views() for part in parts])
    nothing = np.zeros((count, config.gaussian_size), np.float32)
    tokens = np.zeros((count, 0, config.token_size), np.float32)
    return Views(tokens, np.zeros(count, np.int32), nothing, nothing)


def has_heads(config: LexLIPConfig) -> bool:
    """Whether a model of this shape has a dense branch."""
    return bool(config.token_size or config.gaussian_size)

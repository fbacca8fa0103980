"""The two towers that LexLIP and its dense control share: pixels and tokens to hidden states."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, pad
from torch.nn.modules.batchnorm import _BatchNorm
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertEncoder

from lexlip.models.config import LexLIPConfig
from lexlip.models.trunks import at_size, feature_map, takes_embeddings, tower, vision_width


def small_encoder(
    width: int, layers: int, heads: int, dropout: float = 0.0, intermediate: int | None = None
) -> BertEncoder:
    """Randomly initialised transformer layers (the image side's neck, the weak decoder, ...)."""
    config = BertConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=intermediate or 4 * width,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    config._attn_implementation = "eager"
    return BertEncoder(config)


class VisionTower(nn.Module):
    """Vision trunk, averaged patch grid, and the trainable neck that follows it."""

    trunk: Any
    neck: Any
    out: nn.Linear

    def __init__(self, config: LexLIPConfig) -> None:
        super().__init__()
        self.grid = config.patch_grid
        self.trunk = tower(config.vision_config)
        width = vision_width(config.vision_config)
        text_width = config.text_config.hidden_size  # type: ignore[union-attr]
        self.neck = small_encoder(width, config.neck_layers, config.neck_heads)
        if config.neck_positions:
            self.places = nn.Parameter(torch.zeros(1 + self.grid**2, width))
        self.out = nn.Linear(width, text_width)

    def features(self, pixel_values: Tensor) -> Tensor:
        """Trunk output with its patches averaged to the grid.

        Parameters
        ----------
        pixel_values : Tensor [B, 3, H, W]

        Returns
        -------
        Tensor [B, 1 + grid * grid, Dv]
            Position 0 is the trunk's own [CLS] (the mean where it has none): context for the
            neck, never pooled. This is what a cache of a frozen trunk holds.
        """
        whole, patches = feature_map(self.trunk, pixel_values)
        if self.grid and patches.shape[2:] != (self.grid, self.grid):
            patches = adaptive_avg_pool2d(patches, self.grid)
        return torch.cat([whole, patches.flatten(2).transpose(1, 2)], dim=1)

    def resize(self, size: int) -> None:
        """Read pictures of `size` pixels from now on: position embeddings are interpolated."""
        self.trunk = at_size(self.trunk, size)

    def train(self, mode: bool = True) -> VisionTower:
        """Frozen layers keep the batch statistics that belong to their weights."""
        super().train(mode)
        for part in self.trunk.modules():
            if isinstance(part, _BatchNorm) and not any(p.requires_grad for p in part.parameters()):
                part.eval()
        return self

    def forward(self, features: Tensor, kept: Tensor | None = None) -> Tensor:
        """Features [B, 1 + P, Dv] to patch states [B, P, D] at the text tower's width.

        With `kept` (int64 [K], patch numbers from 0) only those patches are looked at, K states
        come back, and the step costs K / P: augmentation and speed at once (Li et al., FLIP, 2023).
        """
        return self.out(self.neck(self.seen(features, kept)).last_hidden_state[:, 1:])

    def seen(self, features: Tensor, kept: Tensor | None = None) -> Tensor:
        """Input of the neck: features with places, where they are learned, and kept patches.

        The trunk's [CLS] always stays, at position 0.
        """
        if hasattr(self, "places"):
            features = features + self.places
        if kept is not None:
            features = torch.cat([features[:, :1], features[:, 1:][:, kept]], dim=1)
        return features


class TextTower(nn.Module):
    """A text trunk and the rule which of its positions count."""

    trunk: Any

    def __init__(self, config: LexLIPConfig) -> None:
        super().__init__()
        self.trunk = tower(config.text_config)
        self.excluded = tuple(config.excluded_token_ids or ())

    @property
    def word_embeddings(self) -> Tensor:
        """Input word embeddings, [V, D]."""
        return self.trunk.get_input_embeddings().weight

    def positions(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """True where a token takes part in pooling: no padding, no [CLS], [SEP] or [UNK]."""
        mask = attention_mask.bool()
        for token in self.excluded:
            mask = mask & (input_ids != token)
        return mask

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Token ids [B, L] to hidden states [B, L, D]."""
        return self.states(input_ids, attention_mask, below=(0,))[0]

    def states(self, input_ids: Tensor, attention_mask: Tensor, below: Sequence[int]) -> Tensor:
        """Token ids [B, L] to states `below` layers under the last, [len(below), B, L, D]."""
        entry, given = "input_ids", input_ids
        if takes_embeddings(self.trunk):
            # Looked up once: the gradient of each look-up is a table as large as the vocabulary.
            entry, given = "inputs_embeds", self.trunk.get_input_embeddings()(input_ids)

        def run(part: Tensor, mask: Tensor) -> Tensor:
            output = self.trunk(
                **{entry: part}, attention_mask=mask, output_hidden_states=any(below)
            )
            # CLIP's last state is normalised once more after its last layer.
            return torch.stack(
                [output.hidden_states[-1 - n] if n else output.last_hidden_state for n in below]
            )

        return by_length(run, given, attention_mask)


def by_length(
    run: Callable[[Tensor, Tensor], Tensor], states: Tensor, attention_mask: Tensor
) -> Tensor:
    """Run rows of states [B, L, D] in groups of similar length, each cut to its own longest.

    A batch is as long as its longest text, twice the average one. What padding remains comes back
    as zeros.

    Parameters
    ----------
    run : callable
        Takes states [b, l, D] and their attention mask [b, l]; returns [..., b, l, D'].
    states : Tensor [B, L, D] (or anything else [B, L, ...], such as token ids)
    attention_mask : int64 Tensor [B, L]

    Returns
    -------
    Tensor [..., B, L, D']
    """
    lengths, longest = attention_mask.sum(1), states.shape[1]
    groups = lengths.argsort(stable=True).chunk(max(1, min(4, len(lengths) // 32)))
    parts = []
    for rows in groups:
        # Multiples of four keep the number of distinct shapes, each compiled once, small.
        width = min(longest, -(-int(lengths[rows].max()) // 4) * 4)
        output = run(states[rows, :width], attention_mask[rows, :width])
        parts.append(pad(output, (0, 0, 0, longest - width)))
    return torch.cat(parts, dim=-3).index_select(-3, torch.cat(groups).argsort())


def batches(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    """Consecutive slices of at most `size` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]

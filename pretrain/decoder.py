"""The weakened decoder: two layers that can guess masked words only with the bottleneck's help."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lexlip.models.lexlip import LexLIP
from lexlip.models.pooling import NEVER
from lexlip.models.towers import small_encoder
from pretrain.objectives import bottleneck, masked_language


class WeakDecoder(nn.Module):
    """Fills a half-masked caption from a word distribution (LexLIP section 3.2).

    The [CLS] position of the caption's embeddings is replaced by the bottleneck vector, which
    gets neither position embedding nor LayerNorm; output goes through the text head. One decoder
    serves picture -> text and text -> text.

    Parameters
    ----------
    width : int
    heads : int
    layers : int
        Two: strong enough for grammar, too weak to do without the words it is given.
    """

    def __init__(self, width: int, heads: int, layers: int = 2) -> None:
        super().__init__()
        self.encoder = small_encoder(width, layers, heads)
        for module in self.encoder.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(
        self,
        model: LexLIP,
        pooled: Sequence[Tensor],
        masked: Sequence[Tensor],
        attention_mask: Sequence[Tensor],
        labels: Sequence[Tensor],
    ) -> list[Tensor]:
        """Loss of guessing captions from each source, all sources in one pass.

        Parameters
        ----------
        model : LexLIP
        pooled : sequence of Tensor [B_s, Va]
            Raw pooled logits of each source.
        masked, attention_mask, labels : sequence of int64 Tensor [B_s, L]
            The captions that each source must help to fill in.

        Returns
        -------
        list of Tensor
            One loss a source.
        """
        embedded = model.text.trunk.embeddings(input_ids=torch.cat(list(masked)))
        squeezed = bottleneck(torch.cat(list(pooled)), model.words).to(embedded.dtype)
        states = torch.cat([squeezed.unsqueeze(1), embedded[:, 1:]], dim=1)
        allow = torch.cat(list(attention_mask))[:, None, None, :].to(states.dtype)
        states = self.encoder(states, attention_mask=(1 - allow) * NEVER).last_hidden_state
        target = torch.cat(list(labels))
        chosen = target >= 0
        logits = model.text_head.logits(states[chosen])
        sizes = [int((part >= 0).sum()) for part in labels]
        return [
            masked_language(guess, truth)
            for guess, truth in zip(logits.split(sizes), target[chosen].split(sizes), strict=True)
        ]

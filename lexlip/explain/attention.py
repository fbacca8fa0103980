"""What the text tower looks at: a comparison beside an explanation, and no explanation itself.

Attention of the last layer is a picture that the literature on CLIP likes to show. LexLIP's words
are maxima over all positions, [CLS] is not among them, and no score is made of its attention;
`lexlip.explain.provenance.text_provenance` says what a score is made of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lexlip.explain.provenance import whole_words

if TYPE_CHECKING:
    from lexlip.models.lexlip import LexLIP


@torch.no_grad()
def text_attention(model: LexLIP, text: str) -> list[tuple[str, float]]:
    """Share of each word in what the text's summary position attends to in the last layer.

    The summary position is [CLS], or the last token where a tokenizer has none (an end-of-text
    token). Heads are averaged, the pieces of a word are added up, special tokens are left out, and
    what remains is brought to a sum of 1.

    Parameters
    ----------
    model : LexLIP
    text : str

    Returns
    -------
    list of (str, float)
        Words in the order of the text; empty for a text without any.

    Examples
    --------
    >>> text_attention(model, "a red circle")                    # doctest: +SKIP
    [('a', 0.21), ('red', 0.33), ('circle', 0.46)]
    """
    assert model.processor is not None
    tokens, words, numbers = whole_words(model, text)
    output = model.text.trunk(**tokens, output_attentions=True)
    row = output.attentions[-1][0].mean(0)[_summary(model, tokens["input_ids"][0])]
    shares = [0.0] * len(words)
    for number, share in zip(numbers, row.tolist(), strict=True):
        if number >= 0:
            shares[number] += share
    total = sum(shares) or 1.0
    return [(word, share / total) for word, share in zip(words, shares, strict=True)]


def _summary(model: LexLIP, ids: torch.Tensor) -> int:
    """Return the position that speaks for the whole text."""
    start = model.processor.tokenizer.cls_token_id  # type: ignore[union-attr]
    at = ids.tolist()
    return at.index(start) if start in at else len(at) - 1

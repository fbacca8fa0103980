"""Words of a text and their shares of attention, for tokenizers of any kind."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from typing import Any

# A Chinese character or Japanese letter is a word; anything else goes by letters and digits.
_CJK = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+|[^\w\s]+")

Span = tuple[int, int]


def word_spans(text: str) -> list[Span]:
    """Find the words of a text: first and last character, the last excluded.

    Examples
    --------
    >>> word_spans("red dog, \u7ea2")
    [(0, 3), (4, 7), (7, 8), (9, 10)]
    """
    return [match.span() for match in _WORD.finditer(text)]


def token_spans(tokenizer: Any, text: str, ids: Sequence[int], offsets: Any) -> list[Span | None]:
    """Find the place of each token in a text; None for special tokens.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizer
    text : str
    ids : sequence of int
        Its tokens.
    offsets : list of (int, int) or None
        As the tokenizer says; None where it cannot, as SentencePiece's.
    """
    if offsets is not None:
        return [(first, last) if last > first else None for first, last in offsets]
    special = set(tokenizer.all_special_ids)
    # SigLIP's tokenizer drops punctuation and case.
    kept = [(at, c.lower()[0]) for at, c in enumerate(text) if c not in string.punctuation]
    bare = "".join(c for _, c in kept)
    spans: list[Span | None] = []
    start = 0
    for number, token in zip(ids, tokenizer.convert_ids_to_tokens(ids), strict=True):
        piece = token.strip("\u2581").lower()
        at = -1 if number in special else bare.find(piece, start)
        if at < 0:
            spans.append(None)
        elif not piece:  # a start of the word that follows
            at += len(bare[at:]) - len(bare[at:].lstrip())
            place = kept[at][0] if at < len(kept) else len(text)
            spans.append((place, place))
        else:
            start = at + len(piece)
            spans.append((kept[at][0], kept[start - 1][0] + 1))
    return spans


def shares(text: str, spans: Sequence[Span | None], weights: Sequence[float]) -> list[float]:
    """Add up the weights of tokens by word, and normalise them to a sum of 1.

    Parameters
    ----------
    text : str
    spans : sequence of (int, int) or None
        Of each token.
    weights : sequence of float
        Of each token.

    Examples
    --------
    >>> shares("red dog", [None, (0, 2), (2, 3), (3, 7)], [0.5, 0.125, 0.125, 0.75])
    [0.25, 0.75]
    """
    words = word_spans(text)
    sums = [0.0] * len(words)
    for span, weight in zip(spans, weights, strict=True):
        if span is not None:
            # The most characters in common; a space before a word belongs to the word.
            common = [
                min(last, span[1]) - max(first, span[0]) + 0.5 * (span[1] <= first)
                for first, last in words
            ]
            best = max(range(len(words)), key=common.__getitem__, default=-1)
            if best >= 0 and common[best] > 0:
                sums[best] += weight
    total = sum(sums) or 1.0
    return [part / total for part in sums]

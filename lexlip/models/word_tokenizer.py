"""Word tokenizers: a BERT tokenizer whose vocabulary is a list of words."""

from __future__ import annotations

from collections.abc import Iterable

from transformers import BertTokenizer

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def word_tokenizer(words: Iterable[str]) -> BertTokenizer:
    """Return a tokenizer of these words, lower-case, sorted behind the special tokens.

    Examples
    --------
    >>> word_tokenizer(["star", "red"]).tokenize("Red circle")
    ['red', '[UNK]']
    """
    tokens = [*SPECIAL, *sorted(set(words))]
    return BertTokenizer(vocab={token: i for i, token in enumerate(tokens)})

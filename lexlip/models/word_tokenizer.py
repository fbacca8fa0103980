"""Word tokenizers, whose vocabulary is a list of words, and any of the library tokenizers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from lexlip.errors import require

if TYPE_CHECKING:
    from transformers import BertTokenizer

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def word_tokenizer(words: Iterable[str]) -> BertTokenizer:
    """Return a transformers tokenizer of these words, lower-case, sorted behind the special tokens.

    Examples
    --------
    >>> word_tokenizer(["star", "red"]).tokenize("Red circle")
    ['red', '[UNK]']
    """
    require("transformers")
    from transformers import BertTokenizer

    tokens = [*SPECIAL, *sorted(set(words))]
    return BertTokenizer(vocab={token: i for i, token in enumerate(tokens)})


def lexicon_tokenizer(words: Sequence[str]) -> Any:
    """Return a tokenizers.Tokenizer of these words, in their order behind the special tokens.

    Words of any script keep their accents. Needs no transformers.

    Examples
    --------
    >>> lexicon_tokenizer(["red", "über"]).encode("Über red").tokens
    ['über', 'red']
    """
    from tokenizers import Tokenizer, normalizers, pre_tokenizers
    from tokenizers.models import WordLevel

    vocabulary = {token: number for number, token in enumerate((*SPECIAL, *words))}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


class WordTokenizer:
    """A tokenizers.Tokenizer as a `lexlip.models.speaker.Tokenizer`.

    Attributes
    ----------
    raw : tokenizers.Tokenizer
    unk_token : str or None
    """

    def __init__(self, raw: Any) -> None:
        self.raw, self.unk_token = raw, getattr(raw.model, "unk_token", None)

    def __call__(self, text: str, *, add_special_tokens: bool = True) -> dict[str, list[int]]:
        """Return ``{"input_ids": [...]}``, the ids of a text's tokens."""
        return {"input_ids": self.raw.encode(text, add_special_tokens=add_special_tokens).ids}

    def tokenize(self, text: str) -> list[str]:
        """Return the tokens of a text, without special ones."""
        return self.raw.encode(text, add_special_tokens=False).tokens

"""A vocabulary without a network: a text asks for its own words.

An index of vectors from elsewhere has one where no model speaks their words. Queries are words,
best with weights: ``dog^3 beach^1``.
"""

from __future__ import annotations

import hashlib
import os
import string
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from lexlip.data.given import as_texts
from lexlip.errors import LexLIPError
from lexlip.lexicon import Lexicon
from lexlip.models.speaker import SpeakerMixin
from lexlip.models.typed import as_meant
from lexlip.storage.files import MANIFEST
from lexlip.storage.seal import read_sealed, write_sealed

FORMAT = "lexlip-word-list/1"
NO_PICTURES = "the index was imported without a model: ask with words"
_MARKS = string.punctuation


def is_word_list(name: str | os.PathLike[str]) -> bool:
    """Say whether a folder holds a word list."""
    path = Path(name) / MANIFEST
    return path.is_file() and read_sealed(path).get("format") == FORMAT


class WordList(SpeakerMixin):
    """A `lexlip.models.speaker.Speaker` of texts whose words stand for themselves.

    Parameters
    ----------
    words : sequence of str
        All different; a term is the place of its word.

    Attributes
    ----------
    takes_any_word : bool
        Words with weights that no document has match nothing: queries come from an encoder
        elsewhere, whose vocabulary is larger than what the documents have of it.
    no_pictures : str
        What is said where pictures are given.

    Examples
    --------
    >>> words = WordList(["red", "heart", "##ing"])
    >>> words.words_of("A red, red heart!")
    [('red', 1.0), ('heart', 1.0)]
    """

    takes_any_word = True
    no_pictures = NO_PICTURES

    def __init__(self, words: Sequence[str]) -> None:
        unknown = "[UNK]"
        while unknown in words:
            unknown += "?"
        self.lexicon = Lexicon((*words, unknown), np.arange(len(words)))
        self.tokenizer = _Spaces(self.lexicon.numbers, unknown)
        self.name_or_path = ""

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the words."""
        return hashlib.sha256(f"{FORMAT}\n{self.lexicon.hash}".encode()).hexdigest()

    def encode_text(self, texts: Sequence[str], batch_size: int = 128) -> csr_array:
        """Texts to weights over the vocabulary: 1 for each word that they have, float32 [N, V].

        `batch_size` has no effect here.
        """
        rows = [self.tokenizer.known(as_meant(text)) for text in as_texts(texts)]
        ends = np.cumsum([0, *map(len, rows)])
        ids = np.array([number for row in rows for number in row], np.int64)
        ones = np.ones(len(ids), np.float32)
        return csr_array((ones, ids, ends), shape=(len(rows), len(self.lexicon.tokens)))

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the words into a folder."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        facts = {"format": FORMAT, "words": list(self.lexicon.tokens[:-1])}
        write_sealed(Path(folder) / MANIFEST, facts)

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str]) -> WordList:
        """Read the words of a folder.

        Raises
        ------
        LexLIPError
            When they are missing or damaged.
        """
        facts = read_sealed(Path(name) / MANIFEST)
        words = facts.get("words")
        if facts.get("format") != FORMAT or not isinstance(words, list):
            raise LexLIPError(f"{name} holds no word list: import the vectors again")
        found = cls([str(word) for word in words])
        found.name_or_path = str(name)
        return found


class _Spaces:
    """A tokenizer that divides at white space: a `lexlip.models.speaker.Tokenizer`."""

    def __init__(self, numbers: dict[str, int], unknown: str) -> None:
        self._numbers, self.unk_token = numbers, unknown

    def __call__(self, text: str, *, add_special_tokens: bool = True) -> dict[str, list[int]]:
        """Return ``{"input_ids": [...]}``, the id of each word; the last one is that of others."""
        words = [text] if text in self._numbers else text.split()
        found = [self._number(word) for word in words]
        return {"input_ids": [len(self._numbers) if it is None else it for it in found]}

    def tokenize(self, text: str) -> list[str]:
        """Return the words of a text, as they are."""
        return text.split()

    def known(self, text: str) -> list[int]:
        """Return the ids of a text's different words, ascending; those that are unknown are not."""
        whole = " ".join(text.split())
        words: Iterable[str] = [whole] if whole in self._numbers else whole.split()
        return sorted({n for word in words if (n := self._number(word)) is not None})

    def _number(self, word: str) -> int | None:
        bare = word.strip(_MARKS)
        spellings = (word, word.lower(), bare, bare.lower())
        return next((self._numbers[it] for it in spellings if it in self._numbers), None)

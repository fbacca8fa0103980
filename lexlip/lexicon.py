"""The lexicon: which vocabulary ids may carry a weight, and how weights become words again."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from lexlip.errors import LexLIPError, check_count

# Function words say nothing about a picture, yet stand in most captions: as terms they would
# only make postings long. Numbers and prepositions of place ("two", "above") are kept.
STOP_WORDS = frozenset(
    "a an the and or but if of at by for with about to from in on onto into is are was were be "
    "been being am as it its it's this that these those there their they them he him his she her "
    "hers who whom which what while than then so such some any each other another has have had "
    "having do does did doing not no nor can could will would shall should may might must i me my "
    "we our us you your also just very more most s t d ll m re ve o".split()
)

END = "</w>"  # of a word, in CLIP's vocabulary
STARTS = ("\u0120", "\u2581")  # of words, in byte-level and SentencePiece vocabularies


def split_words(text: str) -> list[str]:
    """Lower-case words of letters and digits: the plainest tokeniser.

    Examples
    --------
    >>> split_words("Two Dogs run .")
    ['two', 'dogs', 'run']
    """
    return re.findall(r"[^\W_]+", text.lower())


def may_be_term(token: str) -> bool:
    """True for words and pieces of letters, digits and their marks, in any script.

    One letter of the Latin alphabet means nothing; one Chinese character is a word. Function words
    (`STOP_WORDS`) are another question.
    """
    bare = token.removeprefix("##")
    if not any(map(str.isalnum, bare)) or (len(bare) == 1 and bare.isascii()):
        return False
    return all(c.isalnum() or unicodedata.category(c).startswith("M") for c in bare)


def vocabulary(tokenizer: Any) -> tuple[str, ...]:
    """A tokenizer's vocabulary in id order, spelled as people read it.

    WordPieces (``dog``, ``##gy``) stay as they are. Where the tokenizer marks the ends of words, as
    CLIP's does, ``dog</w>`` is spelled ``dog`` and the beginning ``dog`` of longer words ``dog…``,
    which is not a term. The end of a rare word (``ing``) cannot be told from a word.

    Raises
    ------
    LexLIPError
        For a tokenizer that marks the starts of words (RoBERTa, T5): the pieces inside of them,
        which look like words, cannot be told from words at the start of a text.
    """
    table = tokenizer.get_vocab()
    tokens = tuple(sorted(table, key=table.__getitem__))
    ends = sum(token.endswith(END) for token in tokens)
    if sum(token.startswith(STARTS) for token in tokens) > len(tokens) // 10:
        raise LexLIPError(
            f"{type(tokenizer).__name__} marks the starts of words and has no lexicon of whole "
            "words: choose a BERT-like text tower (WordPieces) or CLIP's"
        )
    if ends <= len(tokens) // 10:
        return tokens
    special = set(tokenizer.all_special_tokens)

    def spelled(token: str) -> str:
        if token in special:
            return token
        text = tokenizer.convert_tokens_to_string([token.removesuffix(END)]).strip()
        if not text or "\ufffd" in text:  # some bytes of a letter
            return f"{token}…"
        return text if token.endswith(END) else f"{text}…"

    return tuple(map(spelled, tokens))


@dataclass(frozen=True, repr=False)
class Lexicon:
    """A tokenizer's vocabulary with the allow-list of ids that may carry a weight.

    Vectors inside the model are *compact*: one column per allowed id. Everything outside sees
    the full vocabulary, so that term ids mean the same in every index of one tokenizer.

    Parameters
    ----------
    tokens : tuple of str, length V
        The vocabulary in id order.
    ids : int64 array [Va]
        Allowed ids, ascending.

    Examples
    --------
    >>> lexicon = Lexicon(("[PAD]", "a", "dog", "red"), np.array([2, 3]))
    >>> full = lexicon.expand(np.array([[0.5, 0.0]], dtype=np.float32))
    >>> full.shape, lexicon.decode(full)
    ((1, 4), [[('dog', 0.5)]])
    """

    tokens: tuple[str, ...]
    ids: np.ndarray

    @classmethod
    def from_tokenizer(
        cls,
        tokenizer: Any,
        texts: Iterable[Sequence[int]] | None = None,
        min_count: int = 1,
        stop_words: bool = False,
    ) -> Lexicon:
        """Choose the allow-list: no special, [unused], punctuation, one-letter or dead ids.

        Parameters
        ----------
        tokenizer : PreTrainedTokenizerFast
            Source of the vocabulary.
        texts : iterable of token id sequences, optional
            The training captions; an id seen fewer than `min_count` times is dead: nothing could
            teach the encoders what it means.
        min_count : int
            See `texts`.
        stop_words : bool
            Keep function words.
        """
        tokens = vocabulary(tokenizer)
        special = set(tokenizer.all_special_tokens)
        allowed = np.array(
            [
                t not in special and may_be_term(t) and (stop_words or t.lower() not in STOP_WORDS)
                for t in tokens
            ]
        )
        if texts is not None:
            counts = np.zeros(len(tokens), dtype=np.int64)
            for ids in texts:
                counts += np.bincount(np.asarray(ids, dtype=np.int64), minlength=len(tokens))
            allowed &= counts >= min_count
        return cls(tokens, np.flatnonzero(allowed))

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        """Say how many words there are, and name some."""
        words = [repr(self.tokens[number]) for number in self.ids[:3]]
        said = ", ".join([*words, "..."] if len(self) > 3 else words)
        return f"<Lexicon: {len(self):,} words of {len(self.tokens):,} tokens: {said}>"

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Id of each token that may carry a weight."""
        return {self.tokens[number]: int(number) for number in self.ids}

    @cached_property
    def compact(self) -> np.ndarray:
        """Column of each vocabulary id, -1 when it is off the allow-list; int64 [V]."""
        table = np.full(len(self.tokens), -1, dtype=np.int64)
        table[self.ids] = np.arange(len(self.ids))
        return table

    @cached_property
    def hash(self) -> str:
        """sha256 over tokens and allow-list: two indexes with one hash share their term ids."""
        digest = hashlib.sha256("\n".join(self.tokens).encode())
        digest.update(self.ids.astype("<i8").tobytes())
        return digest.hexdigest()

    def expand(self, weights: np.ndarray) -> csr_array:
        """Compact dense weights [N, Va] -> sparse float32 [N, V] over the full vocabulary."""
        rows, columns = np.nonzero(weights)
        values = weights[rows, columns].astype(np.float32)
        shape = (weights.shape[0], len(self.tokens))
        return csr_array((values, (rows, self.ids[columns])), shape=shape)

    def decode(self, weights: csr_array, top_k: int | None = None) -> list[list[tuple[str, float]]]:
        """Read each row as words with weights, heaviest first (ties by term id).

        Examples
        --------
        >>> lexicon = Lexicon(("cat", "dog"), np.arange(2))
        >>> lexicon.decode(csr_array(np.array([[1.0, 2.0]])), top_k=1)
        [[('dog', 2.0)]]
        """
        if top_k is not None:
            top_k = check_count("top_k", top_k, 0)
        weights = csr_array(weights)
        words = []
        for row in range(weights.shape[0]):
            span = slice(weights.indptr[row], weights.indptr[row + 1])
            ids, values = weights.indices[span], weights.data[span]
            order = np.lexsort((ids, -values))[:top_k]
            words.append([(self.tokens[ids[i]], float(values[i])) for i in order])
        return words

"""Documents on their way in or out: ids, impacts or weights, metadata, and the words of terms."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lexlip.errors import LexLIPError
from lexlip.filters.columns import nfc
from lexlip.lexicon import Lexicon

if TYPE_CHECKING:
    from lexlip.filters.columns import Value
    from lexlip.index import Index

_MANY = 1024


class Documents(NamedTuple):
    """Some documents of an index."""

    ids: list[str]
    rows: csr_array  # [N, V], impacts 1..255
    metadata: list[dict[str, Value]]


@dataclass(frozen=True)
class Source:
    """An index that is read from its first document to its last, by id.

    Attributes
    ----------
    index : Index
    lexicon : Lexicon
    """

    index: Index
    lexicon: Lexicon

    @property
    def width(self) -> int:
        """V, the number of words; terms beyond it are said of documents, and stay here."""
        return len(self.lexicon.tokens)

    def __iter__(self) -> Iterator[Documents]:
        for names, rows in self.index.engine.walk():
            rows = rows if rows.shape[1] <= self.width else rows[:, : self.width]
            for start in range(0, len(names), _MANY):
                some = names[start : start + _MANY]
                held = self.index.engine.fetch(some)
                found = csr_array(rows[start : start + len(some)])
                yield Documents(some, found, [it or {} for it in held])

    def words(self, joiner: str | None = None) -> list[str]:
        """Return a name for each term, no two alike.

        Parameters
        ----------
        joiner : str, optional
            What stands for white space inside of a word: formats of words in a line have no room
            for it.

        Examples
        --------
        >>> lexicon = Lexicon(("hot dog", "red", "red"), np.arange(3))
        >>> Source(None, lexicon).words("_")
        ['hot_dog', 'red#1', 'red']
        """
        tokens, own = self.lexicon.tokens, self.lexicon.numbers
        names = [t if joiner is None else joiner.join(t.split()) or "#" for t in tokens]
        first = {name: own[name] for name in names if name in own}  # whoever is spelled so
        for term in self.lexicon.ids.tolist():
            if own[tokens[term]] == term:
                first.setdefault(names[term], term)
        return [
            name if first.get(name) == term else f"{name}#{term}" for term, name in enumerate(names)
        ]


class Vocabulary:
    """The terms of a lexicon by the names that files have for them.

    Parameters
    ----------
    lexicon : Lexicon

    Examples
    --------
    >>> vocabulary = Vocabulary(Lexicon(("hot dog", "red", "red"), np.arange(3)))
    >>> [vocabulary.term(name) for name in ("hot_dog", "hot dog", "red", "red#1", "blue")]
    [0, 0, 2, 1, None]
    """

    def __init__(self, lexicon: Lexicon) -> None:
        self._numbers, self._tokens = lexicon.numbers, lexicon.tokens
        self._allowed = set(lexicon.ids.tolist())
        self._joined = {
            "_".join(t.split()): n for t, n in self._numbers.items() if any(map(str.isspace, t))
        }

    def term(self, name: str) -> int | None:
        """Return the id of a word, None where the lexicon lacks it."""
        for spelled in (name, nfc(name)):
            if spelled in self._numbers:
                return self._numbers[spelled]
            if spelled in self._joined:
                return self._joined[spelled]
        word, mark, number = name.rpartition("#")
        if mark and number.isascii() and number.isdigit() and int(number) in self._allowed:
            token = self._tokens[int(number)]
            return int(number) if word in (token, "_".join(token.split()) or "#") else None
        return None


def plain(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata that JSON can carry: infinity is left out."""
    return {
        name: value for name, value in metadata.items()
        if not (isinstance(value, float) and math.isinf(value))
    }  # fmt: skip


def check_weight(value: Any) -> float:
    """Return a weight as a float; 0 is a word that is not there.

    Raises
    ------
    LexLIPError
        For anything but a number from 0 that is finite.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value <= sys.float_info.max:
        raise LexLIPError(f"weight {value!r:.40} is no number from 0")
    return float(value)


def check_word(word: str) -> None:
    """Refuse a word that no vocabulary can have.

    Raises
    ------
    LexLIPError
        For an empty one, and one with a lone surrogate.
    """
    if not word:
        raise LexLIPError("has an empty word")
    if not word.isascii() and any("\ud800" <= letter <= "\udfff" for letter in word):
        raise LexLIPError(f"has the word {word!r:.60}, which is not valid Unicode")


def columns_of(metadata: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return the metadata of documents as columns, None where one lacks a value."""
    names = dict.fromkeys(name for row in metadata for name in row)
    return {name: [row.get(name) for row in metadata] for name in names}


def as_rows(vectors: Sequence[Mapping[int, float]], width: int) -> csr_array:
    """Return {term: weight} of documents as rows, float64 [N, width]."""
    ends = np.cumsum([0, *map(len, vectors)])
    terms = np.array([term for vector in vectors for term in vector], np.int32)
    weights: NDArray[np.float64] = np.array([w for it in vectors for w in it.values()], np.float64)
    rows = csr_array((weights, terms, ends), shape=(len(vectors), width))
    rows.sort_indices()
    return rows

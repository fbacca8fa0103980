"""Frequent words of an index: what to try there, and what is near to an unknown word."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from itertools import combinations, islice
from typing import NamedTuple

from lexlip.engines.base import Condition, Engine
from lexlip.lexicon import STOP_WORDS, Lexicon, may_be_term
from lexlip.models.speaker import said_term

_GENERAL = 0.6
"""Share of the documents above which a word says little about any."""

_AT_ONCE = 512  # words counted in one go, so that searches need not wait long
_PAIRED = 8  # telling words whose pairs are tried


class FrequentWord(NamedTuple):
    """A word, and how many documents have it."""

    word: str
    documents: int


def frequent_words(engine: Engine, lexicon: Lexicon, said: bool) -> list[FrequentWord]:
    """Return the words of an index, most frequent first; function words and pieces are left out.

    Parameters
    ----------
    engine : Engine
    lexicon : Lexicon
        Of the model that made the index.
    said : bool
        Whether words are said of documents, beside those that find them: these are counted then.
    """
    words = {
        term: word
        for word, term in lexicon.numbers.items()
        if len(word) > 2 - (not word.isascii()) and _whole(word)
    }
    terms = {said_term(lexicon, term) if said else term: word for term, word in words.items()}
    counts: dict[int, int] = {}
    remaining = iter(terms)
    while some := list(islice(remaining, _AT_ONCE)):
        counts |= engine.frequencies(some)
    found = [FrequentWord(word, counts[term]) for term, word in terms.items() if counts[term]]
    return sorted(found, key=lambda one: (-one.documents, one.word))


def _whole(word: str) -> bool:
    pieces = word.split()
    known = not word.startswith("##") and not word.isdigit() and all(map(may_be_term, pieces))
    return known and word.lower() not in STOP_WORDS


def telling(words: Sequence[FrequentWord], total: int, most: int = 12) -> list[FrequentWord]:
    """Choose words to try: a mixture of frequent and rarer ones, none of nearly all documents.

    A word that p of the documents have is worth ``p (log p)^2``, which is largest at p = 0.14:
    words of nearly all, and of a single one, find nothing that one would look for. Of words with
    one beginning (dog, dogs) the better is taken. Every third word is a rarer one.

    Parameters
    ----------
    words : sequence of FrequentWord
        Of `frequent_words`.
    total : int
        Documents of the index.
    most : int

    Examples
    --------
    >>> some = [FrequentWord("thing", 99), FrequentWord("dog", 15), FrequentWord("dogs", 3)]
    >>> telling(some, 100)
    [FrequentWord(word='dog', documents=15)]
    """
    total = max(total, 1)
    least = 3 if total > 30 else 1

    def worth(one: FrequentWord) -> tuple[float, str]:
        share = min(one.documents / total, 1)
        return (-share * math.log(share) ** 2, one.word)

    fit = sorted((w for w in words if w.documents <= max(1, _GENERAL * total)), key=worth)
    kept: list[FrequentWord] = []
    for one in (w for w in fit if w.documents >= least):
        if not any(_alike(one.word, other.word) for other in kept):
            kept.append(one)
        if len(kept) == 4 * most:
            break
    half = max(most - most // 3, len(kept) - most // 3) if len(kept) <= most else 2 * most
    common, rarer = iter(kept[:half]), iter(kept[half:])
    mixed: list[FrequentWord] = []
    for place in range(most):
        chosen = next(rarer if place % 3 == 2 else common, None)
        chosen = chosen or next(common, None) or next(rarer, None)
        if chosen is None:
            break
        mixed.append(chosen)
    return mixed


def _alike(one: str, other: str) -> bool:
    short, long = sorted((one, other), key=len)
    return long.startswith(short[: max(4, len(short) - 1)] if len(short) > 4 else short)


def pairs(
    engine: Engine, lexicon: Lexicon, words: Sequence[FrequentWord], said: bool, most: int = 4
) -> list[tuple[str, str]]:
    """Return pairs of words that stand together in documents; each word comes once."""
    found: list[tuple[str, str]] = []
    used: set[str] = set()
    for one, other in combinations([word for word, _ in words[:_PAIRED]], 2):
        if len(found) == most or {one, other} & used:
            continue
        terms = [lexicon.numbers[one], lexicon.numbers[other]]
        conditions = [Condition((said_term(lexicon, t) if said else t,)) for t in terms]
        if engine.search({conditions[0].terms[0]: 1}, 1, conditions=conditions):
            found.append((one, other))
            used |= {one, other}
    return found


def near(text: str, words: Sequence[FrequentWord], most: int = 4) -> list[str]:
    """Return words of an index that are written much like those of a text.

    Examples
    --------
    >>> near("zebras", [FrequentWord("zebra", 5), FrequentWord("dog", 9)])
    ['zebra']
    """
    known = [word for word, _ in words]
    found: dict[str, None] = {}
    for word in (w for w in text.lower().split() if w not in STOP_WORDS):
        found |= dict.fromkeys(difflib.get_close_matches(word, known, most, 0.6))
    return list(found)[:most]

"""Lexicons of everyday words, by frequency, and texts as people ask them, by language.

The words come from wordfreq (Speer, 2022), which has 44 languages. Verbs, colours and adjectives
are among them, not only nouns. The texts are lexlip's own: they tell what people ask about, not how
any picture looks.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path

from lexlip.errors import LexLIPError
from lexlip.lexicon import STOP_WORDS

SIZE = 4096
"""Words of a lexicon; twice as many find no better, and cost twice the time to code."""

FUNCTION_WORDS = 150
"""Most frequent words of a language that are left out: they say nothing of a picture."""

BANKS = Path(__file__).parent / "bank"
"""A text file per language, one text a line."""


def everyday_words(languages: Sequence[str] = ("en",), size: int = SIZE) -> list[str]:
    """Return the most frequent words of some languages, most frequent first.

    Left out are each language's `FUNCTION_WORDS` first words, words with anything but letters and
    their marks, and in scripts with short words of little meaning, those of one or two letters.
    Several languages share the places evenly.

    Parameters
    ----------
    languages : sequence of str
        Codes such as "en", "de", "zh".
    size : int

    Raises
    ------
    LexLIPError
        For a language without word frequencies.

    Examples
    --------
    >>> words = everyday_words(size=2000)
    >>> [word in words for word in ("dog", "red", "running", "the", "ments")]
    [True, True, True, False, False]
    """
    import wordfreq

    known = wordfreq.available_languages()
    for language in languages:
        if language not in known:
            raise LexLIPError(
                f"no word frequencies for language {language!r}: give one of "
                f"{', '.join(sorted(known))}, or a file of words with --words"
            )
    listed = [_words_of(language, size) for language in languages]
    chosen: dict[str, None] = {}
    for rank in range(max(map(len, listed), default=0)):
        for words in listed:
            if rank < len(words) and len(chosen) < size:
                chosen.setdefault(words[rank])
    return list(chosen)


def _words_of(language: str, size: int) -> list[str]:
    import wordfreq

    found = wordfreq.top_n_list(language, 2 * size + 1000)[FUNCTION_WORDS:]
    return [word for word in found if _tells(word)][:size]


def _tells(word: str) -> bool:
    if word in STOP_WORDS or not all(unicodedata.category(c)[0] in "LM" for c in word):
        return False
    ideographs = any("CJK" in unicodedata.name(c, "") or c >= "\u3040" for c in word)
    return ideographs or len(word) > 2


def asked_texts(languages: Sequence[str]) -> list[str]:
    """Return texts as people ask them, of those languages that have a bank.

    Parameters
    ----------
    languages : sequence of str

    Examples
    --------
    >>> len(asked_texts(["en"])) >= 300, asked_texts(["xx"])
    (True, [])
    """
    files = [BANKS / f"{language}.txt" for language in languages]
    return [
        line
        for file in files
        if file.is_file()
        for line in file.read_text(encoding="utf-8").splitlines()
        if line
    ]

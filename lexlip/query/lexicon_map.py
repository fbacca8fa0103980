"""Queries in one language against an index in another: a table of words that the user gives."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from lexlip.errors import LexLIPError
from lexlip.query.query import Query
from lexlip.query.tree import Part, Phrase

_SPACELESS = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")
"""Scripts, as Unicode names their letters, that put no space between two words."""


@dataclass(frozen=True)
class LexiconMap:
    """A table from words and phrases of a query's language to words of the index's language.

    A text is read from left to right, the longest entry first. Where a script puts spaces between
    words, an entry is whole words; where it does not (Chinese, Japanese, Thai), any characters in
    a row. Other words stay as they are: they may be words of the index's language.

    Attributes
    ----------
    entries : mapping of str to str
        An empty text leaves a word out.

    Examples
    --------
    >>> table = LexiconMap({"红色": "red", "心": "heart", "的": "", "rote Blumen": "red flowers"})
    >>> table.text("两个 红色的心"), table.text("große Rote Blumen")
    ('两个 red heart', 'große red flowers')
    >>> print(table.query(Query.parse("红色 + 2:心 -心>=20")))
    red + 2:heart -heart>=20
    """

    entries: Mapping[str, str]

    @classmethod
    def read(cls, path: str | Path) -> LexiconMap:
        """Read lines of: a word or phrase, a tab, what it is; empty lines and ``#`` are skipped.

        A word that has several lines becomes all that they say.

        Raises
        ------
        LexLIPError
            For a file that cannot be read, and for the number of a line without a tab.
        """
        try:
            lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise LexLIPError(f"lexicon map {path} cannot be read ({error}): UTF-8 text") from None
        entries: dict[str, str] = {}
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.startswith("#"):
                continue
            source, tab, target = line.partition("\t")
            if not tab or not source.strip():
                raise LexLIPError(f"{path} line {number} is not an entry: write word, tab, meaning")
            known = entries.get(source.strip(), "")
            entries[source.strip()] = f"{known} {target.strip()}".strip()
        if not entries:
            raise LexLIPError(f"{path} has no entries: write lines of word, tab, meaning")
        return cls(entries)

    @cached_property
    def _starting(self) -> dict[str, list[tuple[str, str]]]:
        """Entries by their first character, longest first."""
        found: dict[str, list[tuple[str, str]]] = {}
        for source, target in self.entries.items():
            if source := _normal(source):
                found.setdefault(source[0], []).append((source, target))
        for entries in found.values():
            entries.sort(key=lambda entry: -len(entry[0]))
        return found

    def text(self, text: str) -> str:
        """Return a text in the index's language."""
        plain, at, parts, rest = _normal(text), 0, [], ""
        while at < len(plain):
            for source, target in self._starting.get(plain[at], ()):
                if plain.startswith(source, at) and _whole(plain, at, at + len(source)):
                    parts += [rest, target]
                    rest, at = "", at + len(source)
                    break
            else:
                rest, at = rest + plain[at], at + 1
        return " ".join(" ".join([*parts, rest]).split())

    def query(self, query: Query) -> Query:
        """Return a query whose texts and words are in the index's language.

        Raises
        ------
        LexLIPError
            When the table leaves nothing of a word that must be there, or must not.
        """

        def phrase(asked: Phrase) -> Phrase:
            if not (text := self.text(asked.text)):
                raise LexLIPError(f"the lexicon map leaves nothing of {asked.text!r:.60}")
            return replace(asked, text=text)

        def words(pairs: tuple[tuple[str, float], ...]) -> tuple[tuple[str, float], ...]:
            return tuple((new, value) for word, value in pairs for new in self.text(word).split())

        parts = []
        for part in query.parts:
            if isinstance(part.content, str):
                if text := self.text(part.content):
                    parts.append(Part(text, part.weight))
            elif isinstance(part.content, tuple):
                parts.append(Part(words(part.content), part.weight))
            else:
                parts.append(part)
        return replace(
            query,
            parts=tuple(parts),
            musts=tuple(map(phrase, query.musts)),
            exclusions=tuple(map(phrase, query.exclusions)),
            boosts=words(query.boosts),
        )


def _normal(text: str) -> str:
    """One form of texts that look the same: full-width letters, capitals, composed accents."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())


def _joined(character: str) -> bool:
    """True for a character that belongs to the word next to it."""
    if unicodedata.name(character, "").startswith(_SPACELESS):
        return False
    return character.isalnum() or unicodedata.category(character).startswith("M")


def _whole(text: str, start: int, end: int) -> bool:
    """True where text[start:end] neither begins nor ends within a word."""
    begins = start == 0 or not (_joined(text[start - 1]) and _joined(text[start]))
    return begins and (end == len(text) or not (_joined(text[end - 1]) and _joined(text[end])))

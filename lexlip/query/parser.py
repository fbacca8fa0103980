"""The grammar of queries: reads ``"flower" + 2:bee -people must:bridge`` and writes it again.

A text without signs is that text. Beyond it, by example:

``a red flower + a bee``
    Two texts, added up. Bare words that stand together are one text; ``+`` begins another.
``2:bee  0.5:"a red car"  +img:street.jpg  2:img:"my street.jpg"``
    A weight, or a picture. A weight takes the one word after it, or the text in quotes.
``-people  - people  -"red car"  -people>=40``
    Nothing with that word (with all words in the quotes), or with an impact of at least 40.
``-0.5:people``
    A minus with a weight is arithmetic: half of the text's words are subtracted.
``must:bridge  must:"red car"  must:bridge>=40``
    Only what has the word (all words in the quotes).
``red^64 circle^58 people^-10``
    Words of the vocabulary with their weights, as queries are printed. They stand for themselves;
    a text stands for all words that the model makes of it.
``boost:red^2``
    Twice the weight of red, once everything is added up.
``missing:20``
    A word of the query that a picture lacks counts as an impact of -20, not 0.

A sign, weight or prefix is one at the beginning of a word only: ``t-shirt``, ``16:9`` and ``C++``
are words. Within quotes ``\\"`` is a quote, and ``\\\\`` a backslash.

Typographic characters are read as those of a keyboard (`lexlip.models.typed`): ``–people``,
``−0.5:people``, ``“red car”``, ``must:bridge≥40``. A dash between two spaces is punctuation.
"""

from __future__ import annotations

import math
import re

from lexlip.errors import LexLIPError
from lexlip.models.typed import signs
from lexlip.query.tree import MAX_PARTS, MAX_WEIGHT, Part, Phrase, Tree, picture_path, unescaped

MAX_TEXT = 65_536
"""Longest query in characters."""

_NUMBER = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_SPACE = re.compile(r"\s*")
_WEIGHT = re.compile(rf"({_NUMBER}):(?=[^\s0-9])")
_PREFIX = re.compile(r"(must|img|boost):(?=\S)|(missing):(?=[0-9])")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"(\S*)', re.DOTALL)
_BARE = re.compile(rf"(\S+?)(\^-?{_NUMBER}|>=[0-9]+)?(?=\s|\Z)")


def parse(text: str, images: bool = True) -> Tree:
    """Read a query.

    Parameters
    ----------
    text : str
    images : bool
        False refuses ``img:``, for queries from people who may not read this machine's files.

    Raises
    ------
    LexLIPError
        For a text outside the grammar: the place, and what to write.

    Examples
    --------
    >>> parse("a red t-shirt?").parts
    (Part(content='a red t-shirt?', weight=1.0),)
    >>> print(parse('"flower" + 2:bee - people must:"red car">=9  -.5:night red^3'))
    flower + 2:bee -0.5:night + red^3 must:"red car">=9 -people
    """
    return _Parser(text, images).parse()


class _Parser:
    """Walks over the text once, from left to right."""

    def __init__(self, text: str, images: bool) -> None:
        if isinstance(text, str) and len(text) > MAX_TEXT:
            raise LexLIPError(f"the query has {len(text)} characters: at most {MAX_TEXT}")
        if not isinstance(text, str) or not signs(text)[0].strip():
            raise LexLIPError('the query is empty: write one such as "red flower" + 2:bee')
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise LexLIPError(
                f"the query is not valid Unicode at character {error.start + 1}: leave that out"
            ) from None
        self.typed, self.images, self.at = text, images, 0
        self.text, self.places = signs(text)
        self.parts: list[Part] = []
        self.musts: list[Phrase] = []
        self.exclusions: list[Phrase] = []
        self.boosts: list[tuple[str, float]] = []
        self.penalty = 0
        self.run: list[str] = []  # bare words that are one text so far
        self.words: list[tuple[str, float]] = []  # words^weight that are one part so far
        self.times = 1.0  # the weight of that part

    def error(self, at: int, fix: str) -> LexLIPError:
        """Say where the grammar broke, and what to write."""
        place = self.text[at : at + 20]
        where = f"at character {at + 1}, {place!r:.60}" if place.strip() else "at its end"
        return LexLIPError(f"query {self.text!r:.200} is wrong {where}: {fix}")

    def parse(self) -> Tree:
        """Read the whole text."""
        self.skip()
        while self.at < len(self.text):
            self.item()
            self.skip()
        self.flush()
        return Tree(
            tuple(self.parts),
            tuple(self.musts),
            tuple(self.exclusions),
            tuple(self.boosts),
            self.penalty,
        )

    def skip(self) -> None:
        self.at = _SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]

    def flush(self) -> None:
        """End the text, or the part of words, that the last items made."""
        if self.run:
            self.parts.append(Part(" ".join(self.run)))
        if self.words:
            self.parts.append(Part(tuple(self.words), self.times))
        self.run, self.words = [], []
        if len(self.parts) > MAX_PARTS:
            raise LexLIPError(f"the query has more than {MAX_PARTS} parts: give fewer")

    def item(self) -> None:
        """Read an optional sign, weight and prefix, and the item they belong to."""
        start, sign = self.at, self.text[self.at]
        if sign in "+-":
            self.at += 1
            self.skip()
            if self.text[self.at : self.at + 1] in ("", "+", "-"):
                raise self.error(start, f"write a word after one {sign}; text with signs in quotes")
        else:
            sign = ""
        weight = 1.0
        if number := _WEIGHT.match(self.text, self.at):
            weight, self.at = self.number(number[1], self.at), number.end()
        prefix = ""
        if named := _PREFIX.match(self.text, self.at):
            prefix, self.at = named[1] or named[2], named.end()
        at = self.at
        phrase, tail, quoted = self.operand(prefix == "img")
        if prefix == "img":
            self.picture(start, phrase, sign, weight, number is not None)
        elif prefix:
            if sign == "-" or number:
                raise self.error(start, f"write {prefix}: without a sign and a weight")
            self.clause(at, prefix, phrase, tail)
        elif tail.startswith("^"):
            self.word(start, phrase, tail, sign, weight, number is not None)
        elif sign == "-" and not number:
            self.exclusions.append(self.phrase(at, phrase, tail))
        elif quoted and tail:
            raise self.error(at, "write >= after must: or -, not after a text")
        elif number or quoted:
            self.flush()
            self.parts.append(Part(phrase + tail, -weight if sign == "-" else weight))
        else:
            if sign == "+" or self.words:
                self.flush()
            self.run.append(phrase + tail)

    def operand(self, whole: bool) -> tuple[str, str, bool]:
        """Read a phrase and its optional suffix: ^number or >=number.

        Of a `whole` bare word nothing is taken off. Paths and words of the vocabulary stay as they
        were typed.
        """
        at = self.at
        if self.text[at] == '"':
            found = _QUOTED.match(self.text, at)
            if found is None:
                raise self.error(at, 'close the quotes; a quote within them is \\"')
            self.at = found.end()
            phrase, tail = found[1], found[2]
            if whole or tail.startswith("^"):
                phrase = self.typed[self.places[at] + 1 : self.places[found.end(1)]]
            phrase = unescaped(phrase)
            if not phrase.strip():
                raise self.error(at, "write something between the quotes")
            if tail and not re.fullmatch(rf"\^-?{_NUMBER}|>=[0-9]+", tail):
                raise self.error(self.at - len(tail), "put a space after the closing quote")
            if whole and tail:
                raise self.error(self.at - len(tail), "nothing goes behind a picture")
            return phrase, tail, True
        found = _BARE.match(self.text, at)
        assert found is not None  # something that is no space stands here
        self.at = found.end()
        phrase, tail = (found[0], "") if whole else (found[1], found[2] or "")
        if whole or tail.startswith("^"):
            start = self.places[at - 1] + 1 if at else 0
            phrase = self.typed[start : self.places[at + len(phrase)]]
        return phrase, tail, False

    def number(self, text: str, at: int) -> float:
        value = float(text)
        if not abs(value) <= MAX_WEIGHT:
            raise self.error(at, f"weights go up to {MAX_WEIGHT:,.0f}")
        return value

    def phrase(self, at: int, text: str, tail: str) -> Phrase:
        """Return the argument of must: and -: words, and optionally the impact they need."""
        if tail.startswith("^"):
            raise self.error(at, "a weight has no place here: write >= and an impact 1 to 255")
        at_least = int(tail[2:][:9]) if tail else 1
        if not 1 <= at_least <= 255:
            raise self.error(at, "impacts are 1 to 255")
        return Phrase(text, at_least)

    def clause(self, at: int, prefix: str, phrase: str, tail: str) -> None:
        if prefix == "must":
            self.musts.append(self.phrase(at, phrase, tail))
        elif prefix == "boost":
            if not tail.startswith("^") or tail[1] == "-":
                raise self.error(at, "write how much, 0 or more: boost:red^2")
            self.boosts.append((phrase, self.number(tail[1:], at)))
        else:
            if tail or not re.fullmatch("[0-9]{1,3}", phrase) or not int(phrase) <= 255:
                raise self.error(at, "write a whole number 0 to 255, as in missing:20")
            self.penalty = int(phrase)

    def picture(self, start: int, path: str, sign: str, weight: float, given: bool) -> None:
        if not self.images:
            raise self.error(start, "pictures are not allowed here: write words")
        if sign == "-" and not given:
            raise self.error(start, "a picture has no one word to leave out: write -1:img:")
        self.flush()
        try:
            self.parts.append(Part(picture_path(path), -weight if sign == "-" else weight))
        except LexLIPError as error:
            raise self.error(start, str(error)) from None

    def word(self, start: int, word: str, tail: str, sign: str, weight: float, given: bool) -> None:
        """Take word^number: words side by side are one part, as long as their weights agree."""
        if sign == "-" and not given:
            shown = "".join(c for c in word[:40] if c.isprintable())
            raise self.error(start, f"to subtract a word write {shown}^-{tail[1:40].strip('-')}")
        value = math.copysign(self.number(tail[1:].strip("-"), start), -1 if "-" in tail[:2] else 1)
        if self.run or sign == "+" or weight != self.times:
            self.flush()
        self.times = weight
        self.words.append((word, -value if sign == "-" else value))

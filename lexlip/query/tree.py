"""The query tree: parts, conditions and boosts as they are written, and their text.

`lexlip.query.parser` reads such texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lexlip.errors import LexLIPError
from lexlip.models.typed import BLANK, DOUBLE_QUOTES

MAX_PARTS = 64
"""Most texts, pictures and lists of words in one query: each text and picture is encoded."""

MAX_WEIGHT = 1e6
"""Largest weight of a part or a word, either sign."""

_PLAIN = re.compile(r"(?:##)?[^\W\d_]\w*(?:['-]\w+)*")
_ESCAPED = re.compile(f"([{DOUBLE_QUOTES}\\\\\uff3c])")
_UNESCAPED = re.compile(r"\\" + _ESCAPED.pattern)
_PATH = re.compile(f"[^\\s{BLANK}{DOUBLE_QUOTES}]+")
_URL = re.compile(r"(?:data:|[a-z][a-z0-9+.-]+:/)", re.IGNORECASE)

Words = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Part:
    """A summand: a text (`str`), a picture (path, bytes, PIL) or words with weights."""

    content: str | Words | Any
    weight: float = 1.0


@dataclass(frozen=True)
class Phrase:
    """Words that must all be there, or must not, with impacts of `at_least` or more."""

    text: str
    at_least: int = 1


@dataclass(frozen=True)
class Tree:
    """A query as it was written."""

    parts: tuple[Part, ...] = ()
    musts: tuple[Phrase, ...] = ()
    exclusions: tuple[Phrase, ...] = ()
    boosts: tuple[tuple[str, float], ...] = ()
    penalty: int = 0

    def __str__(self) -> str:
        return " ".join(_written(self))


def picture_path(source: str | Path) -> Path:
    """Return the path of a picture.

    Raises
    ------
    LexLIPError
        For a URL: nothing is fetched.
    """
    if _URL.match(str(source)):
        raise LexLIPError(f"{str(source)[:100]} is a URL: download the picture, then give its path")
    return Path(source)


def _written(tree: Tree) -> Iterator[str]:
    """Yield the items of a query, so that reading them gives the same query."""
    for number, part in enumerate(tree.parts):
        negative = part.weight < 0
        if number and not negative:
            yield "+"
        times = "" if part.weight == 1 else f"{'-' * negative}{_number(abs(part.weight))}:"
        if isinstance(part.content, str):
            yield times + _quoted(part.content)
        elif isinstance(part.content, tuple):
            yield from (f"{times}{_quoted(word)}^{_number(value)}" for word, value in part.content)
        elif isinstance(part.content, Path):
            path = str(part.content)
            yield f"{times}img:{path if _PATH.fullmatch(path) else _quoted(path)}"
        else:
            yield f"{times}img:(a picture)"
    for sign, phrases in (("must:", tree.musts), ("-", tree.exclusions)):
        for phrase in phrases:
            least = f">={phrase.at_least}" if phrase.at_least > 1 else ""
            yield f"{sign}{_quoted(phrase.text)}{least}"
    for word, factor in tree.boosts:
        yield f"boost:{_quoted(word)}^{_number(factor)}"
    if tree.penalty:
        yield f"missing:{tree.penalty}"


def _quoted(text: str) -> str:
    if _PLAIN.fullmatch(text):
        return text
    return '"' + _ESCAPED.sub(r"\\\1", text) + '"'


def unescaped(text: str) -> str:
    """Return what was written between quotes."""
    return _UNESCAPED.sub(r"\1", text)


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))

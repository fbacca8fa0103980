"""TREC files: ids in one word, runs whose scores fall, and topics in all dialects.

Columns of runs and judgements are parted by white space, so white space in an id is written in per
cent, as in addresses: ``my%20dog.jpg``. A per cent sign that could be taken for such a code becomes
``%25``. Whatever lexlip writes it reads again as the same id.
"""

from __future__ import annotations

import html
import json
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from numbers import Integral
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, unquote

import numpy as np

from lexlip.data.readers import lines, lines_of, why_not_json
from lexlip.errors import LexLIPError

_CODES = sorted(
    {quote(chr(code)) for code in range(0x3001) if chr(code).isspace()} | {"%25"}, key=len
)
_CODE = re.compile("|".join(reversed(_CODES)), re.IGNORECASE)
_SURROGATE = re.compile("[\ud800-\udfff]")
_AMBIGUOUS = re.compile("%(?=[0-9A-Fa-f]{2})")

_TOPIC = re.compile(r"<(top|topic)\b([^>]*)>(.*?)(?=</\1>|<\1\b|\Z)", re.DOTALL | re.IGNORECASE)
_NUMBER = re.compile(r"""\b(?:number|num|id|qid)\s*=\s*["']?([^"'>\s]+)""", re.IGNORECASE)
_FIELD = r"<{0}\b[^>]*>\s*(?:{1}:)?\s*([^<]*)"
_MOST = 1e38
"""Scores beyond do not fit into 32 bits."""

_IDS = ("_id", "id", "qid", "query_id", "query-id", "number", "num")
_TEXTS = ("text", "query", "title", "question", "caption")


def one_word(id: str) -> str:
    """Return an id as TREC files hold it, without white space.

    Raises
    ------
    LexLIPError
        For an empty id.

    Examples
    --------
    >>> one_word("my dog.jpg"), one_word("100%.jpg"), one_word("a%20b.jpg")
    ('my%20dog.jpg', '100%.jpg', 'a%2520b.jpg')
    """
    if not id:
        raise LexLIPError("an empty id cannot be written to a TREC file: give it a name")
    return re.sub(r"\s", lambda found: quote(found.group()), _AMBIGUOUS.sub("%25", id))


def from_word(word: str) -> str:
    """Return the id that `one_word` wrote, in composed form.

    Examples
    --------
    >>> from_word("my%20dog.jpg"), from_word("100%.jpg"), from_word("a%2520b.jpg")
    ('my dog.jpg', '100%.jpg', 'a%20b.jpg')
    """
    plain = _CODE.sub(lambda found: unquote(found.group()), word)
    return unicodedata.normalize("NFC", plain)


def run_lines(query: str, ranking: Iterable[tuple[str, float]], tag: str) -> Iterator[str]:
    """Yield the lines of a run, ``query Q0 item rank score tag``, with scores that fall.

    Evaluators sort by score and break ties by id, or in an order of their own, so equal scores
    would measure another ranking. A score that does not fall becomes the next smaller number of
    32 bits, which is how trec_eval holds scores.

    Parameters
    ----------
    query : str
    ranking : iterable of (str, float)
        Ids with scores, best first.
    tag : str
        Name of the run.

    Examples
    --------
    >>> list(run_lines("q1", [("my dog.jpg", 208), ("b.jpg", 208)], "lexlip"))
    ['q1 Q0 my%20dog.jpg 1 208 lexlip', 'q1 Q0 b.jpg 2 207.99998 lexlip']
    """
    query, tag, last = one_word(query), one_word(tag), np.float32(np.inf)
    for rank, (item, score) in enumerate(ranking, 1):
        said = str(score if isinstance(score, Integral) else float(score))
        fits = -_MOST <= score <= _MOST
        value = np.float32(score if fits else math.copysign(_MOST, score))
        if not (fits and value < last):
            value = min(value, np.nextafter(last, np.float32(-np.inf)))
            said = np.format_float_positional(value, trim="-")
        last = value
        yield f"{query} Q0 {one_word(item)} {rank} {said} {tag}"


def read_topics(path: str | Path) -> dict[str, str]:
    """Read queries by id: topics of TREC, lines of id and tab and text, or JSON lines.

    Parameters
    ----------
    path : str or Path
        UTF-8, also gzipped (``.gz``). ``<top>`` or ``<topic>`` blocks with a number and a title or
        query; ``id <tab> text`` lines; or a JSON object a line with `id`, `_id`, `qid` or
        `query_id`, and `text`, `query` or `title`. A byte order mark, any line ends and blank
        lines are fine.

    Raises
    ------
    LexLIPError
        No such file, no query, a line of another form, an id that was there before.
    """
    return {name: text for _, name, text in each_topic(path)}


def each_topic(path: str | Path, file: IO[bytes] | None = None) -> Iterator[tuple[str, str, str]]:
    """Yield (place, id, text) of queries as they are read, `read_topics` one by one.

    Lines are read as they are asked for, so that a file may be of any length; topics of TREC are
    read as a whole. A place is ``line 7`` or ``topic 7``. A `file` is read in place of the path,
    which is its name in errors then.
    """
    path = Path(path)
    every_line = lines(path) if file is None else lines_of(file, path)
    rows = ((number, line) for number, line in every_line if line.strip())
    first = next(rows, None)
    if first is None:
        raise LexLIPError(f"{path} has no query: write lines of id, tab, text")
    every, start = chain([first], rows), first[1].lstrip()
    found: Iterator[tuple[str, str, str]]
    if start.startswith("<"):
        found = _topics(path, "\n".join(line for _, line in every))
    elif start.startswith("{"):
        found = (_json_query(path, number, line) for number, line in every)
    else:
        found = _tabbed_queries(path, every)
    there: set[str] = set()
    for place, name, text in found:
        for what, said in (("an id", name), ("a text", text)):
            if not said.isascii() and _SURROGATE.search(said):
                raise LexLIPError(f"{path}, {place} has {what} that is not valid Unicode")
        if name in there:
            raise LexLIPError(f"{path}, {place} has an id that was there before: {name[:60]!r}")
        there.add(name)
        yield place, name, text
    if not there:
        raise LexLIPError(f"{path} has no query: write lines of id, tab, text")


def _tabbed_queries(path: Path, rows: Iterable[tuple[int, str]]) -> Iterator[tuple[str, str, str]]:
    """Yield the queries of lines, without a line of column names."""
    for place, (number, line) in enumerate(rows):
        found = _tabbed_query(path, number, line)
        if place or found[1].lower() not in _IDS or found[2].lower() not in _TEXTS:
            yield found


def _topics(path: Path, text: str) -> Iterator[tuple[str, str, str]]:
    for place, block in enumerate(_TOPIC.finditer(text), 1):
        said = _field(block[3], "num", "Number") or _found(_NUMBER.search(block[2]))
        query = _field(block[3], "title", "Topic") or _field(block[3], "query", "Query")
        if not said or not query:
            raise LexLIPError(f"{path}, topic {place} has no number, or neither title nor query")
        yield f"topic {place}", from_word(said), query


def _field(text: str, name: str, label: str) -> str:
    return _found(re.search(_FIELD.format(name, label), text, re.IGNORECASE))


def _found(match: re.Match[str] | None) -> str:
    return "" if match is None else " ".join(html.unescape(match[1]).split())


def _json_query(path: Path, number: int, line: str) -> tuple[str, str, str]:
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise LexLIPError(f"{path}, line {number} is not JSON ({why_not_json(error)})") from None
    row = row if isinstance(row, dict) else {}
    name, text = _first(row, _IDS), _first(row, _TEXTS)
    if not isinstance(name, str | int) or not isinstance(text, str):
        raise LexLIPError(f"{path}, line {number} has no id, or no text: {line[:60]!r}")
    return f"line {number}", from_word(str(name)), text


def _first(row: dict[str, Any], names: Sequence[str]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _tabbed_query(path: Path, number: int, line: str) -> tuple[str, str, str]:
    name, tab, text = line.partition("\t")
    if not tab or not name.strip() or not text.strip():
        raise LexLIPError(f"{path}, line {number} is not 'id <tab> text': {line[:60]!r}")
    return f"line {number}", from_word(name.strip()), text.strip()

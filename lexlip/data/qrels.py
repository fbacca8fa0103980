"""Judgements: files of TREC qrels, ``query 0 item grade``, or of BEIR, ``query item grade``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lexlip.data.readers import lines
from lexlip.data.trec import from_word
from lexlip.errors import LexLIPError
from lexlip.filters.columns import nfc


def judgements(path: Path) -> Iterator[tuple[int, str, str, bool]]:
    """Yield the number of each line, its query, its item, and whether the item is relevant.

    Fields are parted by tabs, or else by white space, which ids then hold in per cent
    (`lexlip.data.trec`). There are four, or three without the iteration; the first line may name
    them. A grade above 0 is relevant.

    Raises
    ------
    LexLIPError
        No such file, or a line of another form.
    """
    first = True
    for number, line in lines(path):
        if not line.strip():
            continue
        fields = [field.strip() for field in line.split("\t")]
        if len(fields) not in (3, 4):
            fields = line.split()
        header, first = first, False
        try:
            query, item, grade = fields[0], fields[-2], float(fields[-1])
            if len(fields) not in (3, 4) or not query or not item:
                raise ValueError
        except (ValueError, IndexError):
            if header and len(fields) in (3, 4) and "quer" in fields[0].lower():
                continue
            raise LexLIPError(
                f"{path}, line {number} is not 'query 0 item grade': {line[:60]!r}"
            ) from None
        yield number, nfc(from_word(query)), nfc(from_word(item)), grade > 0


def read_qrels(path: Path) -> dict[str, set[str]]:
    """Return the relevant items of each query that has any.

    Raises
    ------
    LexLIPError
        See `judgements`.
    """
    qrels: dict[str, set[str]] = {}
    for _, query, item, relevant in judgements(path):
        if relevant:
            qrels.setdefault(query, set()).add(item)
    return qrels

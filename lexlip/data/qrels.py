"""Judgements: files of TREC qrels, one ``query 0 item grade`` a line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lexlip.data.readers import lines
from lexlip.errors import LexLIPError


def judgements(path: Path) -> Iterator[tuple[int, str, str, bool]]:
    """Yield the number of each line, its query, its item, and whether the item is relevant.

    Fields are parted by tabs where a line has any, otherwise by white space; a grade above 0 is
    relevant.

    Raises
    ------
    LexLIPError
        No such file, or a line of another form.
    """
    for number, line in lines(path):
        if not line.strip():
            continue
        try:
            query, _, item, grade = line.split("\t") if "\t" in line else line.split()
            relevant = int(grade) > 0
        except ValueError:
            raise LexLIPError(
                f"{path}, line {number} is not 'query 0 item grade': {line[:60]!r}"
            ) from None
        yield number, query, item, relevant


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

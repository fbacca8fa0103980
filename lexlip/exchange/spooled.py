"""Imported documents on the disk: read, checked and counted before an index is written."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lexlip.errors import LexLIPError
from lexlip.exchange.documents import as_rows, check_word, columns_of
from lexlip.filters.columns import merge_kinds, nfc, read_columns
from lexlip.storage.ids import check_ids
from lexlip.storage.spool import Spool

_MANY = 1024
_NAMED = 3


@dataclass
class Imported:
    """The outcome of an import.

    Attributes
    ----------
    documents : int
    wrong : list of (str, str)
        Places and reasons of the documents that were left out.
    unknown : Counter
        Words that the lexicon lacks, and how many documents have each.
    said : list of str
        What became of weights, a line each.
    """

    documents: int = 0
    wrong: list[tuple[str, str]] = field(default_factory=list)
    unknown: Counter[str] = field(default_factory=Counter)
    said: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return all that is to be said, a line each."""
        lines = list(self.said)
        if self.unknown:
            named = ", ".join(f"{w!r:.40} {n:,}x" for w, n in self.unknown.most_common(_NAMED))
            more = ", ..." if len(self.unknown) > _NAMED else ""
            lines.append(
                f"{len(self.unknown):,} words that the lexicon lacks were left out ({named}{more})"
            )
        if self.wrong:
            lines.append(f"{counted(len(self.wrong))} left out: {in_words(self.wrong)}")
        return lines


def rows_with_repeats(rows: csr_array) -> set[int]:
    """Return the rows that have a column twice.

    Examples
    --------
    >>> rows_with_repeats(csr_array(([1, 2, 3], [0, 4, 4], [0, 1, 3]), shape=(2, 5)))
    {1}
    """
    numbers = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
    keys = np.sort(numbers * np.int64(rows.shape[1]) + rows.indices)
    return set((keys[1:][keys[1:] == keys[:-1]] // rows.shape[1]).tolist())


def counted(count: int) -> str:
    """Return "3 documents"."""
    return f"{count:,} document{'s' * (count != 1)}"


def in_words(wrong: Sequence[tuple[str, str]]) -> str:
    """Name the first few, each with its reason."""
    more = f"; and {len(wrong) - _NAMED:,} more" if len(wrong) > _NAMED else ""
    return "; ".join(f"{place} {reason}" for place, reason in wrong[:_NAMED]) + more


class Terms(Protocol):
    """Words to terms: those of a lexicon, or all that come."""

    def term(self, name: str) -> int | None:
        """Return the term of a word, None for none."""


class AllWords:
    """Numbers words as they come."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def term(self, name: str) -> int | None:
        """Return the term of a word, which is new if it was not there."""
        return self.numbers.setdefault(nfc(name), len(self.numbers))


class Spooled:
    """Documents that were read and checked, on the disk, before anything is written."""

    def __init__(self, folder: Path, terms: Terms, done: Imported) -> None:
        self.folder, self.terms, self.done = folder, terms, done
        self.rows = Spool(folder / "rows", np.float64)
        self.ids: dict[str, None] = {}
        self._metadata = open(folder / "metadata.jsonl", "w+", encoding="utf-8")
        self.scale: float | None = None
        self.width = 0
        self._kinds: dict[str, Any] = {}

    def put(self, id: str, vector: Mapping[str, float], facts: Any) -> None:
        """Take one document, whose words may be unknown.

        Raises
        ------
        LexLIPError
            For an id that cannot be, or that was there before.
        """
        name = self._new(id)
        self._check(facts)
        found: dict[int, float] = {}
        for word in vector:
            check_word(word)
        for word, weight in vector.items():
            term = self.terms.term(word)
            if term is None:
                self.done.unknown[word] += 1
            elif weight:
                found[term] = found.get(term, 0.0) + weight
        self._keep(name, facts)
        self.rows.append(as_rows([found], max(found, default=-1) + 1))
        self.width = max(self.width, max(found, default=-1) + 1)

    def _new(self, id: str) -> str:
        (name,) = check_ids([nfc(id)])
        if name in self.ids:
            raise LexLIPError(f"has an id that was there before: {name[:60]!r}")
        return name

    def _keep(self, name: str, facts: Any) -> None:
        self.ids[name] = None
        self._metadata.write(json.dumps(facts) + "\n")

    def _check(self, facts: Any) -> None:
        if not isinstance(facts, dict):
            raise LexLIPError("has metadata that are no object")
        if facts:
            one = read_columns(columns_of([facts]), 1)
            self._kinds = dict(merge_kinds(self._kinds, one))

    def take_rows(
        self,
        ids: Sequence[str],
        rows: csr_array,
        metadata: Sequence[Any],
        place: str,
        repeated: Collection[int] = (),
    ) -> None:
        """Take documents whose columns are terms already; those of `repeated` are wrong."""
        bad = ~(np.isfinite(rows.data) & (rows.data >= 0))
        wrong = set((np.searchsorted(rows.indptr, np.flatnonzero(bad), "right") - 1).tolist())
        kept = []
        for row, id in enumerate(ids):
            try:
                if row in wrong:
                    raise LexLIPError("has a weight that is no number from 0")
                if row in repeated:
                    raise LexLIPError("has a word twice")
                name = self._new(id)
                self._check(metadata[row])
            except LexLIPError as error:
                self.done.wrong.append((f"{place}, {id[:60]!r}", str(error)))
                continue
            self._keep(name, metadata[row])
            kept.append(row)
        some = csr_array(rows[np.array(kept, np.int64)], dtype=np.float64)
        some.sum_duplicates()
        some.eliminate_zeros()
        self.rows.append(some)
        self.width = max(self.width, some.shape[1])

    def chunks(self) -> Iterator[tuple[list[str], csr_array, list[dict[str, Any]]]]:
        """Yield what was taken, some thousand documents at a time."""
        names = list(self.ids)
        self._metadata.seek(0)
        for start in range(0, len(names), _MANY):
            some = names[start : start + _MANY]
            rows = self.rows.rows(start, start + len(some), self.width)
            yield some, rows, [json.loads(self._metadata.readline()) for _ in some]

    def close(self) -> None:
        """Close the files."""
        self.rows.close()
        self._metadata.close()


class Table:
    """Columns of a matrix to terms; a word that no document has counts for nothing."""

    def __init__(self, words: Sequence[str], spooled: Spooled, path: Path) -> None:
        self._path = path
        self._words, self._spooled = words, spooled
        self._terms = np.full(len(words), -2, np.int64)  # not looked up yet

    def count(self, columns: NDArray[Any]) -> None:
        """Look up the words of some entries, and count unknown ones."""
        for column, times in zip(*np.unique(columns, return_counts=True), strict=True):
            word = self._words[column]
            if self._terms[column] == -2:
                self._named(word)
                term = self._spooled.terms.term(word)
                self._terms[column] = -1 if term is None else term
            if self._terms[column] == -1:
                self._spooled.done.unknown[word] += int(times)

    def _named(self, word: str) -> None:
        try:
            check_word(word)
        except LexLIPError as error:
            raise LexLIPError(f"{self._path} {error}: write it again") from None

    def known(self, rows: csr_array) -> csr_array:
        """Return rows over the terms."""
        terms = self._terms[rows.indices]
        kept = terms >= 0
        ends = np.concatenate([[0], np.cumsum(kept)])[rows.indptr]
        shape = (rows.shape[0], int(self._terms.max(initial=-1)) + 1)
        found = csr_array((rows.data[kept].astype(np.float64), terms[kept], ends), shape=shape)
        found.sort_indices()
        return found

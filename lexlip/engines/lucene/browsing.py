"""Browsing a Lucene index: documents in the order of a column, and values with counts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from heapq import nsmallest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scipy.sparse import csr_array

from lexlip.engines.lucene.bridge import PACKAGE, READING, SEARCHING, classes, readable_errors
from lexlip.engines.lucene.metadata import STORED, field_name, join
from lexlip.engines.lucene.snapshot import ID, Snapshot
from lexlip.engines.lucene.walking import walk
from lexlip.engines.rows import load_values
from lexlip.filters.columns import Kind, Value

if TYPE_CHECKING:
    from lexlip.filters.where import Where


class Browses:
    """The part of `LuceneEngine` that lists documents without a query."""

    path: Path

    @abstractmethod
    def _current(self) -> Snapshot: ...

    @abstractmethod
    def _held(self) -> AbstractContextManager[Snapshot]: ...

    def walk(self) -> Iterator[tuple[list[str], csr_array]]:
        """Yield all documents by id, in chunks; see `Engine.walk`."""
        with self._held() as snapshot, readable_errors(self.path):
            yield from walk(snapshot)

    @property
    def kinds(self) -> Mapping[str, Kind]:
        """Columns and their kinds; see `Engine.kinds`."""
        return dict(self._current().kinds)

    def ordered(
        self, column: str | None, k: int, where: Where | None = None, descending: bool = True
    ) -> list[tuple[str, Value | None]]:
        """Return the first documents by a column; see `Engine.ordered`."""
        with self._held() as snapshot, readable_errors(self.path):
            if column is not None and column not in snapshot.kinds:
                return []
            with READING:
                clauses = snapshot.clauses(where, (), None)
                if column is not None:
                    field = field_name(snapshot.kinds[column], column)
                    clauses.append((classes().FieldExistsQuery(field), "FILTER"))
                query = join(classes(), (classes().MatchAllDocsQuery(), "FILTER"), *clauses)
                sort = _sort(snapshot.kinds, column, descending)
            hits = _found(snapshot, query, min(k, snapshot.most), sort)
            names = [str(name) for name in hits.docids]
            if column is None:
                return [(name, None) for name in names]
            with READING:
                stored = [document.get(STORED) for document in hits.lucene_documents]
        values = [load_values(text, snapshot.kinds).get(column) for text in stored]
        return list(zip(names, values, strict=True))

    def counts(self, column: str, most: int, where: Where | None = None) -> list[tuple[Value, int]]:
        """Return the most frequent values of a column; see `Engine.counts`.

        Terms say how often they occur, in dead documents and those that a filter leaves out too:
        terms that may be among the first are counted. Where a filter leaves fewer documents than
        there are terms, the values of these documents are read.
        """
        with self._held() as snapshot, readable_errors(self.path):
            kind = snapshot.kinds.get(column)
            with READING:
                clauses = snapshot.clauses(where, (), None)
            if kind is None:
                return []
            if kind in ("int", "float"):
                return self._read(column, where)[:most]
            field = field_name(kind, column)
            with READING:
                terms = _terms(snapshot, field)
            if where is not None and _count(snapshot, *clauses) < len(terms):
                return self._read(column, where)[:most]
            found: list[tuple[Value, int]] = []
            exactly = where is not None or int(snapshot.reader.numDeletedDocs()) > 0
            for text, upper in sorted(terms, key=lambda term: (-term[1], term[0])):
                if len(found) >= most and upper < found[most - 1][1]:
                    break
                value = (classes().KeywordField.newExactQuery(field, text), "FILTER")
                count = _count(snapshot, value, *clauses) if exactly else upper
                if count:
                    found.append((text == "True" if kind == "bool" else text, count))
                    found.sort(key=lambda pair: (-pair[1], pair[0]))
                    del found[most:]
        return found

    def matching(self, where: Where | None = None) -> int:
        """Return how many documents fulfil a filter; see `Engine.matching`."""
        with self._held() as snapshot, readable_errors(self.path):
            if where is None:
                return snapshot.documents
            with READING:
                clauses = snapshot.clauses(where, (), None)
            return _count(snapshot, *clauses)

    def _read(self, column: str, where: Where | None) -> list[tuple[Value, int]]:
        """Count values by reading them: those of numbers, which have no terms, and of a few."""
        counted: dict[Value, int] = {}
        for _, value in self.ordered(column, self._current().most, where):
            if value is not None:
                counted[value] = counted.get(value, 0) + 1
        return nsmallest(len(counted), counted.items(), key=lambda pair: (-pair[1], pair[0]))


def _sort(kinds: Mapping[str, Kind], column: str | None, descending: bool) -> Any:
    """Return the order of a column, then of ids."""
    lucene = classes()
    least = lucene.SortedSetSelector_Type.MIN
    by_id = lucene.KeywordField.newSortField(ID, False, least)
    if column is None:
        return lucene.Sort(by_id)
    field = field_name(kinds[column], column)
    if kinds[column] in ("int", "float"):
        smallest = lucene.SortedNumericSelector_Type.MIN
        by = lucene.DoubleField.newSortField(field, descending, smallest)
    else:
        by = lucene.KeywordField.newSortField(field, descending, least)
    return lucene.Sort(by, by_id)


def _found(snapshot: Snapshot, query: Any, k: int, sort: Any) -> Any:
    plain = classes().cast(PACKAGE + "search.Query", query)
    with SEARCHING.on(snapshot.searcher):
        top = snapshot.searcher.search(plain, k, sort, False)
    return classes().ScoredDocs.fromTopDocs(top, snapshot.searcher)


def _terms(snapshot: Snapshot, field: str) -> list[tuple[str, int]]:
    """Return the terms of a field and their documents, dead ones too; call it under `READING`."""
    lucene = classes()
    plain = lucene.cast(PACKAGE + "index.IndexReader", snapshot.reader)
    terms = lucene.MultiTerms.getTerms(plain, field)
    found: list[tuple[str, int]] = []
    if terms is not None:
        each = lucene.cast(PACKAGE + "index.TermsEnum", terms.iterator())
        while (term := each.next()) is not None:
            found.append((str(term.utf8ToString()), int(each.docFreq())))
    return found


def _count(snapshot: Snapshot, *clauses: tuple[Any, str]) -> int:
    query = join(classes(), *clauses)
    with SEARCHING.on(snapshot.searcher):
        return int(snapshot.searcher.count(query))

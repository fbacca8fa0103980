"""One commit of a Lucene index as a searcher sees it, and what narrows a search down in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lexlip.engines.base import Condition
from lexlip.engines.lucene.bridge import PACKAGE, SEARCHING, classes
from lexlip.engines.lucene.metadata import KINDS, FilterQueries, join, load_kinds
from lexlip.filters.where import Where
from lexlip.impacts import MAX_IMPACT

ID = "id"  # the name that ScoredDocs reads
IMPACTS = "impacts"
_MOST_FILTERS = 64


class Snapshot:
    """One commit. Searches hold its reader open while a commit replaces it."""

    def __init__(self, directory: Any) -> None:
        lucene = classes()
        self.reader = lucene.DirectoryReader.open(directory)
        # pyjnius cannot choose among overloads that take a subclass.
        plain = lucene.cast(PACKAGE + "index.IndexReader", self.reader)
        self.searcher = lucene.IndexSearcher(plain)
        self.searcher.setSimilarity(lucene.ImpactSimilarity())
        self.documents = int(self.reader.numDocs())
        self.most = max(1, int(self.reader.maxDoc()))
        terms = lucene.MultiTerms.getTerms(plain, IMPACTS)
        self.postings = int(terms.getSumDocFreq()) if terms is not None else 0
        data = self.reader.getIndexCommit().getUserData()
        self.user_data = {str(key): str(data.get(key)) for key in data.keySet().toArray()}
        self.kinds = load_kinds(self.user_data.pop(KINDS, None))
        self.generation = int(self.reader.getIndexCommit().getGeneration())
        self._filters: dict[Where, Any] = {}
        self._frequencies: dict[int, int] = {}

    def _filter(self, where: Where) -> Any:
        """Return the query of a filter, the same object again so that Lucene's cache knows it."""
        query = self._filters.get(where)
        if query is None:
            where.check(self.kinds)
            if len(self._filters) >= _MOST_FILTERS:
                self._filters.clear()
            query = FilterQueries(classes(), self.kinds).query(where.expression)
            self._filters[where] = query
        return query

    def clauses(
        self, where: Where | None, conditions: Sequence[Condition], among: Sequence[str] | None
    ) -> list[tuple[Any, str]]:
        """Return (query, FILTER or MUST_NOT) pairs for `join`: they add nothing to scores.

        Call it under `READING`.
        """
        clauses = [] if where is None else [(self._filter(where), "FILTER")]
        for condition in conditions:
            needed = [clause for term in condition.terms for clause in _has(term, condition)]
            whole = [(join(classes(), *needed), "MUST_NOT")]
            clauses += needed if condition.present else whole
        if among is not None:
            clauses.append((with_ids(among), "FILTER"))
        return clauses

    def frequencies(self, terms: Sequence[int]) -> dict[int, int]:
        """Return how many documents have each term, dead ones included.

        Call it under `READING`.
        """
        new_term = classes().Term
        for term in set(terms) - self._frequencies.keys():
            self._frequencies[term] = int(self.reader.docFreq(new_term(IMPACTS, str(term))))
        return {term: self._frequencies[term] for term in terms}

    def find(self, names: Sequence[str]) -> Any:
        """Return the ScoredDocs of the documents with these ids, in any order."""
        query = with_ids(names)
        with SEARCHING.on(self.searcher):
            top = self.searcher.search(query, len(names))
        return classes().ScoredDocs.fromTopDocs(top, self.searcher)


def with_ids(names: Sequence[str]) -> Any:
    """Return the query that finds the documents with these ids."""
    lucene = classes()
    keys = [lucene.BytesRef(name.encode("utf-8")) for name in names]
    return lucene.KeywordField.newSetQuery(ID, *keys)


def _has(term: int, condition: Condition) -> list[tuple[Any, str]]:
    """Return the clauses of the documents that have a term with impact enough."""
    lucene, query = classes(), PACKAGE + "search.Query"
    there = lucene.cast(query, lucene.TermQuery(lucene.Term(IMPACTS, str(term))))
    if condition.at_least == 1:
        return [(there, "FILTER")]
    # Term frequencies are the impacts; they are read for documents that have the term.
    impact = lucene.TermFreqValueSource(
        IMPACTS, str(term), IMPACTS, lucene.BytesRef(str(term).encode())
    )
    source = lucene.cast(PACKAGE + "queries.function.ValueSource", impact)
    low, high = str(condition.at_least), str(MAX_IMPACT)
    enough = lucene.FunctionRangeQuery(source, low, high, True, True)
    return [(there, "FILTER"), (lucene.cast(query, enough), "FILTER")]

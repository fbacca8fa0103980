"""One commit of a Lucene index as a searcher sees it, and what narrows a search down in it."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from lexlip.engines.base import Condition
from lexlip.engines.lucene.bridge import PACKAGE, READING, SEARCHING, classes
from lexlip.engines.lucene.metadata import KINDS, FilterQueries, join, load_kinds
from lexlip.errors import LexLIPError
from lexlip.filters.where import Where
from lexlip.impacts import MAX_IMPACT, MAX_QUERY_TERMS

ID = "id"  # the name that ScoredDocs reads
IMPACTS = "impacts"
EXPLAINED = re.compile(rf"([0-9.]+) = weight\({IMPACTS}:([0-9]+)")
"""Lucene's account of a score names each term and, at weight 1, its impact."""

_MOST_FILTERS = 64
_MANY = 1024


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

    def ids(self) -> list[str]:
        """Return the ids of all documents."""
        with READING:
            names = self.terms_of(ID)
        if len(names) == self.documents:
            return names
        alive: set[str] = set()  # the terms of deleted documents are still there
        for start in range(0, len(names), _MANY):
            alive |= set(self.find(names[start : start + _MANY]).docids)
        return [name for name in names if name in alive]

    def impacts(self, names: Sequence[str], parse: Callable[[Mapping[int, int]], Any]) -> csr_array:
        """Return all impacts of documents, in the order of the ids, [N, V].

        Parameters
        ----------
        names
            N ids.
        parse
            Makes a query of {term: weight}.
        """
        if not names:
            return csr_array((0, 0), dtype=np.int32)
        hits = self.find(list(dict.fromkeys(names)))
        numbers = dict(zip(hits.docids, hits.lucene_docids, strict=True))
        if missing := [name for name in names if name not in numbers]:
            raise LexLIPError(f"no document {missing[0]!r}: is it committed?")
        found: dict[str, dict[int, int]] = {name: {} for name in numbers}
        with READING:
            terms = list(map(int, self.terms_of(IMPACTS)))
            for start in range(0, len(terms), MAX_QUERY_TERMS):
                query = parse(dict.fromkeys(terms[start : start + MAX_QUERY_TERMS], 1))
                for name, account in self.accounts(query, numbers):
                    read = EXPLAINED.findall(account)
                    found[name] |= {int(term): int(float(value)) for value, term in read}
        rows = [found[name] for name in names]
        places = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        columns = np.array([term for row in rows for term in row], np.int32)
        values = np.array([impact for row in rows for impact in row.values()], np.int32)
        shape = (len(rows), int(columns.max(initial=-1)) + 1)
        return csr_array((values, (places, columns)), shape=shape)

    def terms_of(self, field: str) -> list[str]:
        """Return all terms of a field, those of dead documents too; call it under `READING`."""
        lucene = classes()
        terms = lucene.MultiTerms.getTerms(
            lucene.cast(PACKAGE + "index.IndexReader", self.reader), field
        )
        found: list[str] = []
        if terms is not None:
            each = lucene.cast(PACKAGE + "index.TermsEnum", terms.iterator())
            while (term := each.next()) is not None:
                found.append(str(term.utf8ToString()))
        return found

    def accounts(self, query: Any, documents: Mapping[str, int]) -> Iterator[tuple[str, str]]:
        """Yield the name of each document, and Lucene's account of its score for a query.

        The query is prepared once; call it under `READING`.
        """
        lucene = classes()
        plain = lucene.cast(PACKAGE + "search.Query", query)
        weight = self.searcher.createWeight(
            self.searcher.rewrite(plain), lucene.ScoreMode.COMPLETE, 1.0
        )
        weight = lucene.cast(PACKAGE + "search.Weight", weight)
        leaves = list(self.reader.leaves().toArray())
        bases = [int(leaf.docBase) for leaf in leaves]
        for name, number in documents.items():
            at = bisect_right(bases, number) - 1
            yield name, str(weight.explain(leaves[at], number - bases[at]).toString())

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

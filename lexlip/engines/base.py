"""The engine protocol, and the checks that keep all engines equal.

The contract: impacts are integers 1..255, query weights integers 1..64, at most 1,024 terms a
query. A score is the integer sum of weight times impact, below 2**24, so that every engine
returns the same integers. Hits are ordered by score, largest first, then by id in string (code
point) order; this holds at the cut too, where integer impacts make ties common. A document that
shares no term with the query is no hit.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from scipy.sparse import csr_array

from lexlip.errors import LexLIPError, check_count
from lexlip.impacts import MAX_IMPACT, MAX_QUERY_TERMS, MAX_QUERY_WEIGHT
from lexlip.storage.ids import check_ids

if TYPE_CHECKING:
    from lexlip.engines.candidates import Candidates
    from lexlip.filters.columns import Kind, Value
    from lexlip.filters.where import Where
    from lexlip.storage.views import Vectors


class Hit(NamedTuple):
    """One found document: its id and its score.

    An engine's score is an integer > 0. Where words are subtracted (`lexlip.query.search`) it may
    be 0 or less; that of a rescored search (`lexlip.rerank.rescore`) is a cosine.
    """

    id: str
    score: float


@dataclass(frozen=True)
class Condition:
    """A condition on hits: they have all of some terms, or they do not have all of them.

    Attributes
    ----------
    terms : tuple of int
    at_least : int
        A term counts as there when its impact is so large, 1..255.
    present : bool
        False turns the condition around.
    """

    terms: tuple[int, ...]
    at_least: int = 1
    present: bool = True


Columns = Mapping[str, Sequence[Any]] | None
"""Metadata: name -> a value of each document."""


class Engine(Protocol):
    """An inverted index of impacts, and metadata to filter by.

    All that reads (`search`, `contributions`, `fetch`, `ids`, `impacts`, `len`, `stats`) shows the
    last `commit`.

    Attributes
    ----------
    keeps_vectors : bool
        Whether `add` takes dense vectors. For an engine that does not, an index keeps them beside
        it, by id.
    """

    keeps_vectors: bool

    def add(
        self,
        ids: Sequence[str],
        impacts: csr_array,
        columns: Mapping[str, Sequence[Any]] | None = None,
        vectors: Vectors | None = None,
    ) -> None:
        """Add documents; an id that is there already is replaced, the last one wins.

        Parameters
        ----------
        ids
            N names, not empty.
        impacts
            [N, V] integers 1..255. An empty row makes a document that no query finds.
        columns
            Metadata: name -> N values (bool, int, float, str or None). A column holds one type;
            int and float mix to float, None is a missing value. A replaced document loses what
            it had.
        vectors
            N dense vectors, where `keeps_vectors`: of all documents, or of none.

        Raises
        ------
        LexLIPError
            For anything else, and for values that do not go with those of earlier documents.
            Nothing is added then.
        """
        ...

    def copy(self, of: Sequence[str], ids: Sequence[str], columns: Columns = None) -> None:
        """Add documents with the impacts and vectors of others, exactly.

        Parameters
        ----------
        of
            N ids of documents of the last commit.
        ids, columns
            As for `add`; a document may take its own impacts, and other metadata.

        Raises
        ------
        LexLIPError
            As `add`, and when there is no such document.
        """
        ...

    def delete(self, ids: Iterable[str]) -> int:
        """Delete documents by id and return how many were there (uncommitted ones too)."""
        ...

    def commit(self) -> None:
        """Make all additions and deletions visible, all at once."""
        ...

    def search(
        self,
        terms: Mapping[int, int],
        k: int,
        where: Where | None = None,
        conditions: Sequence[Condition] = (),
        among: Sequence[str] | None = None,
    ) -> list[Hit]:
        """Return the best `k` hits for {term id: weight}; unknown terms match nothing.

        Parameters
        ----------
        terms
            {term id: weight 1..64}, at most 1,024.
        k
            1 or more.
        where
            Only documents that fulfil this filter are hits: the best k of them, exactly.
        conditions
            Only documents that fulfil all of these are hits; at most 1,024 terms together.
        among
            Only documents with these ids are hits; unknown ids are none.

        Raises
        ------
        LexLIPError
            For a query or a condition off the contract, or a filter that does not fit the columns.
        """
        ...

    def candidates(
        self,
        terms: Mapping[int, int],
        k: int,
        where: Where | None = None,
        conditions: Sequence[Condition] = (),
    ) -> Candidates:
        """Return the documents that `search` returns, as arrays: ids are read when needed."""
        ...

    def locate(self, hits: Sequence[Hit]) -> Candidates:
        """Return hits as `candidates` does; those that are gone are left out."""
        ...

    def contributions(self, id: str, terms: Iterable[int]) -> dict[int, int]:
        """Return {term: impact} for those of `terms` that document `id` has, in their order.

        Times the query's weights they add up to the score: what an explanation is made of.

        Raises
        ------
        LexLIPError
            When there is no such document.
        """
        ...

    def fetch(self, ids: Sequence[str]) -> list[dict[str, Value] | None]:
        """Return the metadata {column: value} of documents, missing values left out.

        None for a missing document.
        """
        ...

    def ids(self) -> list[str]:
        """Return the ids of all documents, in any order."""
        ...

    def impacts(self, ids: Sequence[str]) -> csr_array:
        """Return all impacts of N documents, as they were added: integers [N, V].

        V may be smaller than it was: no document has a later term. Slower than a search, much
        faster than encoding anew: it reads all postings, in one pass for all documents.

        Raises
        ------
        LexLIPError
            When there is no such document.
        """
        ...

    def walk(self) -> Iterator[tuple[list[str], csr_array]]:
        """Yield all documents of the last commit, by id, some thousand at a time.

        Each time (N ids, impacts int32 [N, V]), in memory that does not grow with the index, ids
        and some bytes a document aside. Do not commit meanwhile.
        """
        ...

    def frequencies(self, terms: Iterable[int]) -> dict[int, int]:
        """Return {term: how many documents have it}: the postings that a search reads.

        Those of deleted and replaced documents count until they are merged away.
        """
        ...

    @property
    def kinds(self) -> Mapping[str, Kind]:
        """The columns of the metadata, and what kind of values each holds."""
        ...

    def ordered(
        self, column: str | None, k: int, where: Where | None = None, descending: bool = True
    ) -> list[tuple[str, Value | None]]:
        """Return the first k documents by their value in a column, each as (id, value).

        Documents without a value in it are left out; equal values come in the order of ids. None
        orders by id, and no value is read.

        Parameters
        ----------
        column
            None, or one of `kinds`; documents have no value in another one.
        k
            1 or more.
        where
            Only documents that fulfil this filter.
        descending
            Largest value first.

        Raises
        ------
        LexLIPError
            For a filter that does not fit the columns.
        """
        ...

    def counts(self, column: str, most: int, where: Where | None = None) -> list[tuple[Value, int]]:
        """Return the most frequent values of a column, each as (value, documents).

        The most frequent value is the first; equal counts come in the order of values.

        Parameters
        ----------
        column
            One of `kinds`; documents have no value in another one.
        most
            Values that are returned.
        where
            Only documents that fulfil this filter are counted.

        Raises
        ------
        LexLIPError
            For a filter that does not fit the columns.
        """
        ...

    def matching(self, where: Where | None = None) -> int:
        """Return how many documents fulfil a filter.

        Raises
        ------
        LexLIPError
            For a filter that does not fit the columns.
        """
        ...

    def __len__(self) -> int:
        """Return the number of documents, those with an empty row included."""
        ...

    @property
    def generation(self) -> int:
        """The number of the commit that is shown: a later commit has a larger one."""
        ...

    def stats(self) -> dict[str, int]:
        """Return `documents`, `postings` and `bytes` on disk.

        Postings of deleted and replaced documents count until they are merged away.
        """
        ...

    def compact(self) -> None:
        """Commit, merge everything and drop what is dead: slow, then searches are faster."""
        ...

    def stale(self) -> bool:
        """Say whether there is a newer commit than the one that is shown; takes microseconds."""
        ...

    def reopen(self) -> bool:
        """Show the newest commit, which another engine or process may have made.

        Returns whether there was a newer one. Uncommitted changes stay as they are.
        """
        ...

    def verify(self) -> list[str]:
        """Read every byte of the newest commit again; return one line for each damaged file."""
        ...

    def close(self) -> None:
        """Let go of files and memory; what was not committed is lost. Closing twice is fine."""
        ...


def _integer(value: Any) -> int | None:
    """Return an int for Python and numpy integers, None for anything else (2.9 must not be 2)."""
    try:
        return None if isinstance(value, (bool, np.bool_)) else operator.index(value)
    except TypeError:
        return None


def check_terms(terms: Iterable[int]) -> list[int]:
    """Return term ids as plain ints.

    Raises
    ------
    LexLIPError
        For anything but whole numbers from 0.
    """
    checked = []
    for term in terms:
        number = _integer(term)
        if number is None or number < 0:
            raise LexLIPError(f"term {term!r} is no term id: it must be a whole number from 0")
        checked.append(number)
    return checked


def check_query(terms: Mapping[int, int], k: int) -> tuple[dict[int, int], int]:
    """Return the query and `k` as plain ints.

    Raises
    ------
    LexLIPError
        For k < 1, more than 1,024 terms, negative term ids, or weights other than integers 1..64.

    Examples
    --------
    >>> check_query({7: 64}, 10)
    ({7: 64}, 10)
    """
    count = check_count("k", k)
    if len(terms) > MAX_QUERY_TERMS:
        raise LexLIPError(
            f"the query has {len(terms)} terms: keep the heaviest {MAX_QUERY_TERMS} at most"
        )
    weights = terms.values()
    # Plain ints, as most queries have them, are checked without a loop in Python.
    if {*map(type, terms), *map(type, weights)} == {int} and min(terms) >= 0:
        if 1 <= min(weights) and max(weights) <= MAX_QUERY_WEIGHT:
            return dict(terms), count
    checked = {}
    for number, weight in zip(check_terms(terms), weights, strict=True):
        value = _integer(weight)
        if value is None or not 1 <= value <= MAX_QUERY_WEIGHT:
            raise LexLIPError(
                f"term {number} has weight {weight!r}: it must be a whole number "
                f"1 to {MAX_QUERY_WEIGHT}; see lexlip.impacts.quantise_query"
            )
        checked[number] = value
    return checked, count


def check_conditions(conditions: Sequence[Condition]) -> tuple[Condition, ...]:
    """Return the conditions with plain ints.

    Raises
    ------
    LexLIPError
        For a condition without terms, negative term ids, an impact other than an integer 1..255, or
        more than 1,024 terms.
    """
    checked = []
    for condition in conditions:
        terms, at_least = tuple(check_terms(condition.terms)), _integer(condition.at_least)
        if not terms:
            raise LexLIPError("a condition has no terms: say which a document must have")
        if at_least is None or not 1 <= at_least <= MAX_IMPACT:
            raise LexLIPError(
                f"a condition asks for impacts of at least {condition.at_least!r}: "
                f"it must be a whole number 1 to {MAX_IMPACT}"
            )
        checked.append(Condition(terms, at_least, bool(condition.present)))
    if sum(len(condition.terms) for condition in checked) > MAX_QUERY_TERMS:
        raise LexLIPError(f"conditions on more than {MAX_QUERY_TERMS} terms: give fewer")
    return tuple(checked)


def check_documents(ids: Sequence[str], impacts: csr_array) -> tuple[list[str], csr_array]:
    """Return ids and impacts ready for an engine: canonical int32 CSR without stored zeros.

    Raises
    ------
    LexLIPError
        When the numbers of ids and rows differ, or impacts are not integers 1..255.
    """
    names = check_ids(ids)
    matrix = csr_array(impacts, copy=True)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    if matrix.ndim != 2 or matrix.shape[0] != len(names):
        raise LexLIPError(f"{len(names)} ids but impacts of shape {matrix.shape}: one row an id")
    if not np.issubdtype(matrix.dtype, np.integer):
        raise LexLIPError(f"impacts are {matrix.dtype}: use lexlip.impacts.quantise first")
    if matrix.nnz and (matrix.data.min() < 1 or matrix.data.max() > MAX_IMPACT):
        raise LexLIPError(
            f"impacts range from {matrix.data.min()} to {matrix.data.max()}: "
            f"they must be 1 to {MAX_IMPACT}"
        )
    return names, matrix.astype(np.int32)

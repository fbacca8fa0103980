"""Curves: the cost of fewer terms, coarser impacts and shorter queries, on your own vectors.

Pruned vectors are written into temporary indexes of the same engine, with the same metadata: bytes
and times are those of real files and real searches. They are normalised and quantised
again, as `lexlip index` would do it; but they start from impacts, so an index that is built anew
may differ from the one measured in a few impacts, by a step.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from scipy.sparse import csr_array

from lexlip.build.encode import CHUNK
from lexlip.build.manifest import normalises
from lexlip.engines import Engine, Hit, open_engine
from lexlip.errors import LexLIPError
from lexlip.impacts import (
    Lengths,
    dequantise,
    document_rows,
    fit_scale,
    quantise,
    quantise_query,
    query_terms,
)

if TYPE_CHECKING:
    from lexlip.index import Index

TERMS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
BITS = (6, 5, 4, 3)
QUERY_TERMS = (8, 16, 32)
LEVELS = (32, 16, 8, 4)
DEFAULT_QUERY_TERMS, DEFAULT_LEVELS, ALL_BITS = 64, 64, 8
K = 10
"""Hits that are compared."""

_ROUNDS, TIMED = 5, 200
"""Rounds of searches that are timed, and queries in each."""

_FEW = 1000
Qrels = Mapping[str, set[str]]
S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True)
class Setting:
    """One way to index and to ask.

    Parameters
    ----------
    max_terms
        Terms kept of a picture: ``lexlip index --max-terms``.
    bits
        Bits of an impact. An index has 8; fewer are measured only.
    query_terms
        Terms kept of a query: ``lexlip search --query-terms``.
    levels
        Weights of a query's terms are 1..levels: `Index.query(max_weight=)`.
    rescore
        Hits ordered by the vectors before quantising: ``lexlip search --rescore``.
    """

    max_terms: int
    bits: int = ALL_BITS
    query_terms: int = DEFAULT_QUERY_TERMS
    levels: int = DEFAULT_LEVELS
    rescore: int = 0


@dataclass(frozen=True)
class Point:
    """Cost and recall of a setting.

    Parameters
    ----------
    setting
    terms
        Mean terms of a picture.
    bytes
        Size of the engine's files, metadata included, over the number of pictures.
    ms
        Median time of one search for ten hits, the query's vector being at hand.
    agreement
        Share of the ten best hits of the whole index that are still among the ten best.
    recall
        ``{"R@1": ...}``: share of judged queries with a relevant picture among the first k.
    """

    setting: Setting
    terms: float
    bytes: float
    ms: float
    agreement: float
    recall: Mapping[str, float] = field(default_factory=dict)


def read_impacts(engine: Engine, terms: Sequence[int], width: int) -> tuple[list[str], csr_array]:
    """Read all documents back from an engine, whichever it is.

    A search for one term with weight 1 finds every document that has it, and its score is the
    impact. Documents without any term stay unseen.

    Parameters
    ----------
    engine : Engine
    terms : sequence of int
        Term ids that documents may have.
    width : int
        V.

    Returns
    -------
    ids : list of str
        In order.
    impacts : csr_array int32 [N, V]

    Examples
    --------
    >>> from lexlip.engines import PostingsEngine
    >>> engine = PostingsEngine()
    >>> engine.add(["b", "a", "empty"], csr_array([[7, 0, 1], [0, 0, 255], [0, 0, 0]]))
    >>> engine.commit()
    >>> ids, impacts = read_impacts(engine, range(3), 3)
    >>> ids, impacts.toarray().tolist()
    (['a', 'b'], [[0, 0, 255], [7, 0, 1]])
    >>> engine.close()
    """
    rows: dict[str, int] = {}
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for term in terms:
        hits = engine.search({term: 1}, _FEW)  # most terms are rare, and room for hits costs time
        if len(hits) == _FEW:
            hits = engine.search({term: 1}, len(engine))
        if hits:
            numbers = np.array([rows.setdefault(hit.id, len(rows)) for hit in hits])
            scores = np.array([hit.score for hit in hits], dtype=np.int32)
            found.append((scores, numbers, np.full(len(hits), term)))
    if not found:
        raise LexLIPError("the index holds no picture with words: nothing to tune")
    data, places, columns = (np.concatenate(part) for part in zip(*found, strict=True))
    impacts = csr_array((data, (places, columns)), shape=(len(rows), width))
    ids = sorted(rows)
    return ids, impacts[[rows[name] for name in ids]]


def prune(
    impacts: csr_array,
    scale: float,
    max_terms: int,
    bits: int = ALL_BITS,
    *,
    normalise: Lengths = True,
) -> csr_array:
    """Return impacts [N, V] as an index with fewer terms and fewer bits would hold them.

    `normalise` as in `lexlip.impacts.document_rows`.

    Examples
    --------
    >>> prune(csr_array([[30, 40, 5]]), 50, max_terms=2).toarray().tolist()
    [[191, 255, 0]]
    """
    rows = document_rows(dequantise(impacts, scale), max_terms, normalise)
    most = 2**bits - 1
    return quantise(rows, fit_scale(rows, most), most)


def success(found: Mapping[str, Sequence[str]], qrels: Qrels) -> dict[str, float]:
    """Return the share of the queries of `qrels` with a relevant id among the first 1, 5 and 10.

    Examples
    --------
    >>> success({"q": ["b", "a"]}, {"q": {"a"}})
    {'R@1': 0.0, 'R@5': 1.0, 'R@10': 1.0}
    """
    return {
        f"R@{k}": sum(not right.isdisjoint(found.get(q, ())[:k]) for q, right in qrels.items())
        / len(qrels)
        for k in (1, 5, K)
    }


def agreement(found: Mapping[str, Sequence[str]], whole: Mapping[str, Sequence[str]]) -> float:
    """Return the mean share of the hits of the whole index that are found again, by query."""
    shares = [len(set(hits) & set(found[q])) / len(hits) for q, hits in whole.items() if hits]
    return float(np.mean(shares)) if shares else 1.0


@dataclass(frozen=True)
class Documents:
    """Contents of an index: N ids, impacts [N, V] at `scale`, and metadata.

    `normalise` as in `lexlip.impacts.document_rows`.
    """

    ids: list[str]
    impacts: csr_array
    scale: float
    metadata: Sequence[Mapping[str, Any]] = ()
    normalise: Lengths = True

    @classmethod
    def of(cls, index: Index) -> Documents:
        """Read an index."""
        lexicon = index.model.lexicon
        ids, impacts = read_impacts(index.engine, lexicon.ids.tolist(), len(lexicon.tokens))
        metadata: list[Mapping[str, Any]] = []
        for start in range(0, len(ids), CHUNK):
            metadata += [row or {} for row in index.engine.fetch(ids[start : start + CHUNK])]
        return cls(ids, impacts, index.manifest["scale"], metadata, normalises(index.manifest))

    @contextmanager
    def built(self, kind: str, impacts: csr_array) -> Iterator[Engine]:
        """Build an index with other impacts, which goes away again."""
        names = dict.fromkeys(name for row in self.metadata for name in row)
        columns = {name: [row.get(name) for row in self.metadata] for name in names}
        with tempfile.TemporaryDirectory(prefix="lexlip-tune-") as folder:
            engine = open_engine(kind, Path(folder) / "engine", "w")
            try:
                engine.add(self.ids, impacts, columns)
                engine.commit()
                engine.compact()
                yield engine
            finally:
                engine.close()


def hits_of(search: Callable[[T], Sequence[Hit]], queries: Mapping[str, T]) -> dict[str, list[str]]:
    """Return the ids that each query finds."""
    return {name: [hit.id for hit in search(query)] for name, query in queries.items()}


def median_ms(searches: Mapping[S, tuple[Callable[[T], Any], Sequence[T]]]) -> dict[S, float]:
    """Time searches: the median over queries of the median over rounds, in milliseconds.

    Parameters
    ----------
    searches
        By name: a function and the queries that it is given. In each round all take turns, so
        that other load on the machine is shared by all.
    """
    times = {name: np.empty((_ROUNDS, len(queries))) for name, (_, queries) in searches.items()}
    for turn in range(_ROUNDS):
        for name, (search, queries) in searches.items():
            for place, query in enumerate(queries):
                began = time.perf_counter()
                search(query)
                times[name][turn, place] = time.perf_counter() - began
    return {name: float(np.median(np.median(t, axis=0)) * 1000) for name, t in times.items()}


def _settings(max_terms: int, longest: int, longest_query: int) -> list[Setting]:
    """Return the settings to measure, the whole index first; none where nothing can be cut."""
    caps = [DEFAULT_QUERY_TERMS] + [cap for cap in reversed(QUERY_TERMS) if cap < longest_query]
    budgets = [terms for terms in reversed(TERMS) if terms < min(max_terms, longest)]
    settings = [Setting(n, query_terms=cap) for n in [max_terms, *budgets] for cap in caps]
    settings += [Setting(max_terms, bits) for bits in BITS]
    return settings + [Setting(max_terms, levels=levels) for levels in LEVELS]


def curve(
    kind: str,
    documents: Documents,
    max_terms: int,
    names: Sequence[str],
    queries: csr_array,
    qrels: Qrels | None = None,
) -> list[Point]:
    """Measure settings, the whole index first.

    All pairs of terms a picture and terms a query, then fewer bits and coarser query weights,
    each by itself.

    Parameters
    ----------
    kind : {"lucene", "postings"}
    documents : Documents
    max_terms : int
        Their term budget.
    names : sequence of str
        Q names of queries.
    queries : csr_array [Q, V]
        Weights, before they are quantised.
    qrels : mapping of str to set of str, optional
        Relevant ids of some of the queries.
    """
    most = [int(np.diff(rows.indptr).max(initial=0)) for rows in (documents.impacts, queries)]
    settings = _settings(max_terms, *most)
    whole: dict[str, list[str]] = {}
    facts: dict[Setting, dict[str, Any]] = {}
    searches: dict[Setting, tuple[Callable[[dict[int, int]], Any], list[dict[int, int]]]] = {}
    built: dict[tuple[int, int], tuple[Engine, int]] = {}
    with ExitStack() as stack:
        for setting in settings:
            key = (setting.max_terms, setting.bits)
            if key not in built:
                impacts = documents.impacts
                if key != (max_terms, ALL_BITS):
                    impacts = prune(impacts, documents.scale, *key, normalise=documents.normalise)
                built[key] = stack.enter_context(documents.built(kind, impacts)), impacts.nnz
            engine, postings = built[key]
            rows = quantise_query(queries, setting.levels, setting.query_terms)
            asked = {name: query_terms(rows, row) for row, name in enumerate(names)}
            asked = {name: terms for name, terms in asked.items() if terms}
            search = partial(engine.search, k=K)
            found = hits_of(search, asked)
            whole = whole or found
            searches[setting] = search, list(asked.values())[:TIMED]
            facts[setting] = {
                "terms": postings / len(documents.ids),
                "bytes": engine.stats()["bytes"] / len(documents.ids),
                "agreement": agreement(found, whole),
                "recall": success(found, qrels) if qrels else {},
            }
        times = median_ms(searches)
    return [Point(setting, ms=times[setting], **facts[setting]) for setting in settings]

"""Synthetic vectors of any size that resemble those of learned encoders.

Sparse: term popularity follows a Zipf-Mandelbrot law over 22,000 live terms of a vocabulary of
30,522. ``light`` has the flattened head that a working sparsity regulariser gives, ``heavy`` a
steep one, with popular terms in more than a tenth of all documents. A document has two fifths of
its terms from two topics. A query has 10 to 25 terms: three fifths from a target document, a
quarter from that document's topics, the rest at random.

Dense: unit vectors around cluster centres with a decaying spectrum; a query is a noisy document.

Everything is drawn in chunks, each from a separate generator: memory stays small, and the first n
documents do not depend on the total number (queries do: they aim at documents).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lexlip.errors import LexLIPError
from lexlip.impacts import MAX_IMPACT, MAX_QUERY_WEIGHT

Kind = Literal["light", "heavy"]

VOCABULARY = 30_522
LIVE = 22_000
# Shift and exponent of p(r) ~ (r + shift) ** -exponent. A light query then touches postings of 5
# to 8 % as many as there are documents; the heaviest term of `heavy` is in about a third of them.
LAW: dict[str, tuple[float, float]] = {"light": (1000.0, 0.8), "heavy": (20.0, 1.0)}
SHORTEST, LONGEST, MEAN = 32, 100, 60  # terms per document
FEWEST, MOST = 10, 25  # terms per query
TOPICS, TOPIC_TERMS, TOPIC_SHARE = 400, 128, 0.4

_CHUNK = 2048  # a chunk's arrays stay in the cache
_CANDIDATES = 192  # terms drawn for a document before repeats are dropped; fits in 8 bits
_SLOTS = 1 << 20  # popularity as a table to index with random integers: no search, no alias


def learned_sparse(
    n: int, kind: Kind = "light", seed: int = 0, *, queries: int = 1000
) -> tuple[csr_array, csr_array]:
    """Draw documents and queries.

    Parameters
    ----------
    n
        Number of documents, 1 or more.
    kind
        ``light`` or ``heavy``: popularity of the popular terms.
    seed
        The same seed gives the same vectors, on any machine with the same numpy.
    queries
        Number of queries.

    Returns
    -------
    documents : csr_array
        [n, 30522] int32 impacts 1..255, rows sorted by term, 32 to 100 terms each.
    queries : csr_array
        [queries, 30522] int32 weights 1..64, 10 to 25 terms each.

    Raises
    ------
    LexLIPError
        For an unknown kind or numbers below 1.

    Examples
    --------
    >>> documents, queries = learned_sparse(5, "light", seed=1, queries=2)
    >>> documents.shape, queries.shape, int(documents.data.max()) <= 255
    ((5, 30522), (2, 30522), True)
    """
    if kind not in LAW:
        raise LexLIPError(f"no data {kind!r}: choose light or heavy")
    if n < 1 or queries < 1:
        raise LexLIPError(f"{n} documents and {queries} queries: ask for 1 or more of each")
    key = list(LAW).index(kind)
    popular, topics = _lexicon(kind, np.random.default_rng([seed, key]))
    pieces: list[tuple[NDArray, ...]] = []
    for chunk, first in enumerate(range(0, n, _CHUNK)):
        rng = np.random.default_rng([seed, key, 1, chunk])
        pieces.append(_documents(min(_CHUNK, n - first), rng, popular, topics))
    terms, impacts, counts, members = (np.concatenate(part) for part in zip(*pieces, strict=True))
    documents = _csr(terms, impacts, counts)
    rng = np.random.default_rng([seed, key, 2])
    return documents, _queries(queries, rng, documents, members, topics, popular)


def _lexicon(kind: str, rng: np.random.Generator) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Return the table of popular terms [slots] and the terms of the topics [topics, terms]."""
    shift, exponent = LAW[kind]
    live = rng.permutation(VOCABULARY)[:LIVE].astype(np.uint16)
    law = (np.arange(1, LIVE + 1) + shift) ** -exponent
    ends = np.cumsum(law) / law.sum()
    places = np.searchsorted(ends, (np.arange(_SLOTS) + 0.5) / _SLOTS)
    popular = live[np.minimum(places, LIVE - 1)]
    return popular, popular[rng.integers(0, _SLOTS, (TOPICS, TOPIC_TERMS))]


def _documents(
    size: int,
    rng: np.random.Generator,
    popular: NDArray[np.uint16],
    topics: NDArray[np.uint16],
) -> tuple[NDArray[np.uint16], NDArray[np.uint8], NDArray[np.int64], NDArray[np.int32]]:
    """Draw one chunk: terms and impacts row by row, terms per row, and the topics [size, 2].

    A whole chunk is drawn and then cut, so that a document depends only on its number.
    """
    members = rng.integers(0, TOPICS, (_CHUNK, 2)).astype(np.int32)
    # One random number per candidate, split into: which topic, which of its terms, the term from
    # the table, and whether the topic's or the table's term is taken.
    bits = rng.integers(0, 2**64, (_CHUNK, _CANDIDATES), dtype=np.uint64)
    low = bits.astype(np.uint32)
    high = (bits >> np.uint64(32)).astype(np.uint32)
    which = np.where(low & 1, members[:, 1:], members[:, :1])
    topical = topics.ravel()[which * TOPIC_TERMS + ((low >> 1) % TOPIC_TERMS).astype(np.int32)]
    common = popular[high % _SLOTS]
    candidates = np.where((low >> 8) < TOPIC_SHARE * 2**24, topical, common)
    spread = rng.beta(1.65, 2.35, _CHUNK)  # its mean puts the mean length at 60
    lengths = SHORTEST + np.rint((LONGEST - SHORTEST) * spread).astype(np.int64)
    terms, counts = _different(candidates, lengths)
    drawn = np.rint(rng.lognormal(np.log(45.0), 0.7, int(counts.sum())))
    impacts = np.clip(drawn, 1, MAX_IMPACT).astype(np.uint8)
    flat = terms[np.arange(LONGEST) < counts[:, None]]
    end = int(counts[:size].sum())
    return flat[:end], impacts[:end], counts[:size], members[:size]


def _different(
    candidates: NDArray[np.uint16], lengths: NDArray[np.int64]
) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
    """Keep each row's first `lengths` different terms: [rows, longest] sorted, and their number."""
    place = np.arange(_CANDIDATES, dtype=np.int32)
    keys = np.sort((candidates.astype(np.int32) << 8) | place, axis=1)
    first = np.ones(keys.shape, dtype=bool)
    first[:, 1:] = (keys[:, 1:] >> 8) != (keys[:, :-1] >> 8)
    beyond = np.int32(np.iinfo(np.int32).max)
    in_order = np.sort(np.where(first, ((keys & 255) << 16) | (keys >> 8), beyond), axis=1)
    counts = np.minimum(lengths, first.sum(axis=1))
    kept = (in_order[:, :LONGEST] & 0xFFFF).astype(np.uint16)
    kept[np.arange(LONGEST) >= counts[:, None]] = np.iinfo(np.uint16).max
    return np.sort(kept, axis=1), counts


def _csr(terms: NDArray, weights: NDArray, counts: NDArray) -> csr_array:
    ends = np.concatenate([[0], np.cumsum(counts)])
    index = np.int32 if ends[-1] < 2**31 else np.int64
    parts = (weights.astype(np.int32), terms.astype(index), ends.astype(index))
    return csr_array(parts, shape=(len(counts), VOCABULARY))


def _queries(
    count: int,
    rng: np.random.Generator,
    documents: csr_array,
    members: NDArray[np.int32],
    topics: NDArray[np.uint16],
    popular: NDArray[np.uint16],
) -> csr_array:
    rows = []
    for target in rng.integers(0, documents.shape[0], count):
        size = int(rng.integers(FEWEST, MOST + 1))
        own = documents.indices[documents.indptr[target] : documents.indptr[target + 1]]
        near = topics[members[target]].ravel()
        wanted = [
            *rng.permutation(own)[: round(0.6 * size)].tolist(),
            *rng.permutation(near)[: round(0.25 * size)].tolist(),
            *popular[rng.integers(0, _SLOTS, 4 * size)].tolist(),
        ]
        rows.append(sorted(list(dict.fromkeys(wanted))[:size]))
    counts = np.array([len(row) for row in rows])
    weights = np.clip(np.rint(rng.lognormal(np.log(20.0), 0.7, counts.sum())), 1, MAX_QUERY_WEIGHT)
    return _csr(np.concatenate(rows), weights, counts)


def dense(
    n: int, width: int = 512, seed: int = 0, *, queries: int = 1000, out: Path | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Draw dense vectors of unit length.

    Parameters
    ----------
    n
        Number of documents, 1 or more.
    width
        Dimensions of a vector.
    seed
        The same seed gives the same vectors.
    queries
        Number of queries; each is a document plus noise, at a cosine of about 0.8.
    out
        An ``.npy`` file for the documents, returned as a memory map; by default in memory.

    Returns
    -------
    documents : float32 [n, width]
    queries : float32 [queries, width]

    Examples
    --------
    >>> documents, questions = dense(4, 8, queries=2)
    >>> documents.shape, questions.shape
    ((4, 8), (2, 8))
    """
    if n < 1 or queries < 1 or width < 1:
        raise LexLIPError(f"{n} documents, {queries} queries, width {width}: 1 or more of each")
    shape = (n, width)
    if out is None:
        documents = np.empty(shape, dtype=np.float32)
    else:
        documents = np.lib.format.open_memmap(out, mode="w+", dtype=np.float32, shape=shape)
    for first, part in _dense_chunks(n, width, seed):
        documents[first : first + len(part)] = part
    rng = np.random.default_rng([seed, 9, 2])
    targets = documents[rng.integers(0, n, queries)]
    noise = _unit(rng.standard_normal((queries, width), dtype=np.float32))
    return documents, _unit(targets + np.float32(0.75) * noise)


def _dense_chunks(n: int, width: int, seed: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    rng = np.random.default_rng([seed, 9])
    spectrum = (np.arange(1, width + 1) ** -0.35).astype(np.float32)
    centres = rng.standard_normal((1000, width), dtype=np.float32) * spectrum
    for chunk, first in enumerate(range(0, n, _CHUNK)):
        rng = np.random.default_rng([seed, 9, 1, chunk])
        centre = centres[rng.integers(0, len(centres), _CHUNK)]
        own = rng.standard_normal((_CHUNK, width), dtype=np.float32) * spectrum
        yield first, _unit(np.float32(0.7) * centre + own)[: n - first]


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

"""Rescoring: the best hits of a search, ordered by the cosine before quantising.

Float vectors and an engine may disagree about a document after a kill (`lexlip.storage.floats`).
The right vector, quantised, gives the very score that the engine found. For any other the impacts
stand in; one that gives the same score by chance is off by no more than the rounding of its
impacts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lexlip.engines.base import Engine, Hit
from lexlip.errors import LexLIPError
from lexlip.impacts import MAX_QUERY_TERMS, quantise
from lexlip.storage.floats import FloatVectors


def rescore_hits(
    hits: Sequence[Hit],
    terms: Mapping[int, int],
    query: Mapping[int, float],
    vectors: FloatVectors | None,
    scale: float,
    engine: Engine,
) -> list[Hit]:
    """Order hits by the cosine of the query and the documents as they were before quantising.

    Parameters
    ----------
    hits
        What an engine found, with the engine's scores.
    terms
        What the engine was asked: {term id: weight 1..64}.
    query
        The same query before it was quantised and cut: {term id: weight}, of any length.
    vectors
        Vectors of unit length, by id.
    scale
        Impacts per unit of weight, of the whole index.
    engine
        What found them: asked for the impacts of documents whose vector is missing, or is not the
        one that the engine holds. Impact over scale then stands for the weight.

    Returns
    -------
    list of Hit
        The same ids with their cosine, largest first, then by id.

    Raises
    ------
    LexLIPError
        When the index has no vectors.
    """
    if vectors is None:
        raise LexLIPError(
            "this index keeps no float vectors to rescore with: build it with keep_floats=True "
            "(lexlip index --keep-floats --replace)"
        )
    rows = vectors.read([hit.id for hit in hits])
    weights, asked = np.zeros(rows.shape[1]), np.zeros(rows.shape[1], dtype=np.int64)
    norm = float(np.sqrt(sum(weight**2 for weight in query.values())))
    for term, weight in query.items():
        if term < weights.size:
            weights[term] = weight / norm
    for term, number in terms.items():
        if term < asked.size:
            asked[term] = number
    right = (quantise(rows, scale) @ asked) == np.array([hit.score for hit in hits])
    cosines = rows.astype(np.float64) @ weights
    found = []
    for hit, whole, cosine in zip(hits, right.tolist(), cosines.tolist(), strict=True):
        if not whole:
            cosine = _by_impacts(query, engine, hit.id) / (norm * scale)
        found.append(Hit(hit.id, cosine))
    return sorted(found, key=lambda hit: (-hit.score, hit.id))


def _by_impacts(query: Mapping[int, float], engine: Engine, id: str) -> float:
    """Return the product of a query and the impacts of one document."""
    terms, total = list(query), 0.0
    for start in range(0, len(terms), MAX_QUERY_TERMS):
        held = engine.contributions(id, terms[start : start + MAX_QUERY_TERMS])
        total += sum(query[term] * impact for term, impact in held.items())
    return total

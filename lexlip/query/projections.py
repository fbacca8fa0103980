"""Queries of a speaker with vectors: one vector, and its projections on the words.

A sum is taken of vectors, each centred on the mean of its kind and of length one, so that neither
texts nor pictures drown the others. The words follow from the sum, since a projection is linear.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lexlip.errors import LexLIPError
from lexlip.impacts import MAX_QUERY_TERMS
from lexlip.query.terms import distinct, term_of
from lexlip.query.tree import Part


class Projected(NamedTuple):
    """A query as a vector and as words.

    Attributes
    ----------
    vector : float32 [d]
        Of length one; zeros where everything cancels out.
    exact : dict
        {term id: projection}, of either sign, all words.
    terms : dict
        {term id: weight} of the words that find, whole numbers 1..max_weight.
    picture_scores : (float, float)
        Mean and standard deviation of its cosines with pictures in general.
    """

    vector: NDArray[np.float32]
    exact: dict[int, float]
    terms: dict[int, int]
    picture_scores: tuple[float, float]


def project_parts(
    speaker: Any,
    parts: Sequence[Part],
    vectors: Sequence[NDArray[np.float32]],
    boosts: Mapping[int, float],
    max_terms: int,
    max_weight: int,
) -> Projected:
    """Add up the parts of a query.

    Parameters
    ----------
    speaker : Speaker
        That `HasVectors`.
    parts : sequence of Part
        Texts, pictures, and words with weights.
    vectors : sequence of float32 [d]
        Of each part, as `part_vectors` returns them.
    boosts : mapping
        {term id: factor}: its projection is multiplied by the factor.
    max_terms : int
        Words that find, at most.
    max_weight : int
        Weight of the heaviest one.
    """
    weights = np.array([part.weight for part in parts], np.float32)
    total: NDArray[Any] = weights @ np.stack(vectors)
    for term, factor in boosts.items():
        projections = speaker.project(total)
        along = speaker.vector_of({term: 1.0})
        reach = float(speaker.project(along)[term])
        total += np.float32((factor - 1) * projections[term] / max(reach, 1e-9)) * along
    length = float(np.linalg.norm(total))
    if length < 1e-6:
        return Projected(np.zeros(len(total), np.float32), {}, {}, (0.0, 1.0))
    vector = np.asarray(total / length, np.float32)
    projections = speaker.project(vector)
    held = np.flatnonzero(projections)
    exact = dict(zip(held.tolist(), projections[held].tolist(), strict=True))
    chosen = speaker.choose(projections, min(max_terms, MAX_QUERY_TERMS))
    peak = max((exact[term] for term in chosen.tolist()), default=1.0)
    whole = {term: round(exact[term] / peak * max_weight) for term in chosen.tolist()}
    terms = {term: weight for term, weight in whole.items() if weight}
    return Projected(vector, exact, terms, speaker.picture_scores(vector))


def part_vectors(speaker: Any, parts: Sequence[Part]) -> list[NDArray[np.float32]]:
    """Return unit vectors of parts of one query or of many, in one batch of texts, one of pictures.

    Raises
    ------
    LexLIPError
        For a picture that cannot be read, a word with a weight that is not in the lexicon, or too
        many of them.
    """
    found: dict[int, NDArray[np.float32]] = {}
    for items, places in distinct(parts).values():
        vectors = speaker.vectors_of(items, getattr(speaker, "query_batch", 32))
        found.update((number, vectors[row]) for number, row in places.items())
    for number, part in enumerate(parts):
        if isinstance(part.content, tuple):
            words: dict[int, float] = {}
            for word, weight in part.content:
                term = term_of(speaker, word)
                words[term] = words.get(term, 0.0) + weight
            if len(words) > MAX_QUERY_TERMS:
                raise LexLIPError(f"the query has {len(words)} words: at most {MAX_QUERY_TERMS}")
            found[number] = speaker.vector_of(words)
    return [found[number] for number in range(len(parts))]

"""Preparation: queries become terms, all their texts in one batch and all their pictures in one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import csr_array

from lexlip.engines.base import Condition
from lexlip.errors import LexLIPError
from lexlip.impacts import MAX_QUERY_TERMS, quantise_query, query_terms
from lexlip.models.speaker import FIND_TERMS, QUERY_TERMS, HasVectors
from lexlip.query.counts import check_terms
from lexlip.query.prepared import PreparedQuery
from lexlip.query.projections import part_vectors, project_parts
from lexlip.query.terms import (
    EncodedPart,
    Vector,
    add_up,
    condition_terms,
    encode_parts,
    terms_of,
    views_in_order,
)
from lexlip.query.tree import Part

if TYPE_CHECKING:
    from lexlip.models.speaker import Speaker
    from lexlip.query.query import Query


def prepare_queries(
    queries: Sequence[Query],
    model: Speaker,
    max_terms: int | None,
    max_weight: int,
    views: bool,
) -> list[PreparedQuery]:
    """Encode queries, in one pass for their texts and one for their pictures.

    Parameters
    ----------
    queries : sequence of Query
    model, max_terms, max_weight, views
        As for `Query.prepare`, also what is raised.
    """
    check_terms(max_terms, max_weight)
    conditions = [conditions_of(query, model) for query in queries]
    for query in queries:
        if not any(map(_looked_for, query.summands)):
            raise LexLIPError(
                f"query {str(query)[:200]!r} says only what is not wanted: add what to look for"
            )
    boosts = [{t: by for word, by in q.boosts for t in terms_of(model, word)} for q in queries]
    parts = [part for query in queries for part in query.summands]
    prepared = []
    if isinstance(model, HasVectors):
        vectors = iter(part_vectors(model, parts))
        for query, needed, factors in zip(queries, conditions, boosts, strict=True):
            own = _some(vectors, query.summands)
            found = project_parts(
                model, query.summands, own, factors, max_terms or FIND_TERMS, max_weight
            )
            prepared.append(
                PreparedQuery(
                    found.terms,
                    found.exact,
                    needed,
                    query.penalty,
                    query,
                    model,
                    vector=found.vector,
                    picture_scores=found.picture_scores,
                )
            )
        return prepared
    encoded = iter(encode_parts(model, parts, views))
    each = [_some(encoded, query.summands) for query in queries]
    size, summands = len(model.lexicon.tokens), [query.summands for query in queries]
    sums = [_sum(*it, size) for it in zip(summands, each, boosts, strict=True)]
    asked = _quantised(summands, sums, size, max_terms, max_weight)
    for query, needed, own, (exact, terms) in zip(queries, conditions, each, asked, strict=True):
        seen = views_in_order(query.summands, own)
        prepared.append(PreparedQuery(terms, exact, needed, query.penalty, query, model, seen))
    return prepared


def conditions_of(query: Query, model: Speaker) -> tuple[Condition, ...]:
    """Return what every hit of a query fulfils."""
    return tuple(
        Condition(condition_terms(model, phrase.text), phrase.at_least, phrases is query.musts)
        for phrases in (query.musts, query.exclusions)
        for phrase in phrases
    )


def _some(each: Iterator[Any], parts: Sequence[Part]) -> list[Any]:
    return list(islice(each, len(parts)))


def _sum(
    parts: Sequence[Part], encoded: Sequence[EncodedPart], boosts: Mapping[int, float], size: int
) -> Vector:
    """Add up the parts of a query: ids, ascending, and weights of either sign, none of them 0."""
    if len(parts) == 1 and not isinstance(parts[0].content, tuple):
        ids, weights = encoded[0].words
        order = np.argsort(ids, kind="stable")
        ids, total = ids[order], parts[0].weight * weights[order]
        for term, factor in boosts.items():
            total[ids == term] *= factor
    else:
        given = all(isinstance(part.content, tuple) for part in parts)
        vectors = [one.words for one in encoded]
        whole = add_up(size, parts, vectors, normalise=len(parts) > 1 and not given)
        for term, factor in boosts.items():
            whole[term] *= factor
        ids = np.flatnonzero(whole)
        total = whole[ids]
    return ids[total != 0], total[total != 0]


def _quantised(
    summands: Sequence[Sequence[Part]],
    sums: Sequence[Vector],
    size: int,
    max_terms: int | None,
    max_weight: int,
) -> list[tuple[dict[int, float], dict[int, int]]]:
    """Return the exact weights of queries, and what the engine is asked for, quantised in one go.

    A query of nothing but words with whole weights is taken as it stands.
    """
    found: list[tuple[dict[int, float], dict[int, int]]] = []
    rest: dict[int, list[int]] = {}
    for number, (parts, (ids, total)) in enumerate(zip(summands, sums, strict=True)):
        exact = dict(zip(ids.tolist(), total.tolist(), strict=True))
        given = all(isinstance(part.content, tuple) for part in parts)
        if given and len(exact) > MAX_QUERY_TERMS:
            raise LexLIPError(f"the query has {len(exact)} words: at most {MAX_QUERY_TERMS}")
        whole = given and np.array_equal(total, np.rint(total))
        if whole and np.abs(total).max(initial=0) <= max_weight:
            found.append((exact, {term: int(weight) for term, weight in exact.items()}))
        else:
            found.append((exact, {}))
            rest.setdefault(MAX_QUERY_TERMS if given else max_terms or QUERY_TERMS, []).append(
                number
            )
    for most, numbers in rest.items():
        chosen = [sums[number] for number in numbers]
        ids = np.concatenate([ids for ids, _ in chosen])
        flat = np.abs(np.concatenate([total for _, total in chosen]))
        ends = np.cumsum([0, *(len(ids) for ids, _ in chosen)])
        magnitudes = csr_array((flat, ids, ends), shape=(len(chosen), size))
        kept = quantise_query(magnitudes, max_weight, most)
        for row, number in enumerate(numbers):
            exact, terms = found[number]
            terms |= {t: w if exact[t] > 0 else -w for t, w in query_terms(kept, row).items()}
            if terms and max(terms.values()) < 0 < max(exact.values()):
                # drowned by what is subtracted
                terms[max(exact, key=lambda term: (exact[term], -term))] = 1
    return found


def _looked_for(part: Part) -> bool:
    """True when a part can have words of positive weight."""
    if isinstance(part.content, tuple):
        return not part.content or any(weight > 0 for _, weight in part.content)
    return part.weight > 0

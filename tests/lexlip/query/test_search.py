"""Queries of either sign on both engines: the integers of an exhaustive product, in its order."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from lexlip.engines import Hit, MilvusEngine, OpenSearchEngine
from lexlip.engines.base import Condition
from lexlip.errors import LexLIPError
from lexlip.filters.where import Where
from lexlip.query.contributions import contributions
from lexlip.query.prepared import PreparedQuery
from lexlip.query.search import walk
from tests.support.oracles import collection, metadata, part_of

N, V = 400, 30
TOKENS = [f"word{number}" for number in range(V + 2)]


@pytest.fixture
def filled(engine):
    """An engine in several segments, its ids, its impacts [N, V] and its years."""
    ids, impacts = collection(N, v=V, seed=21, high=30)
    columns, rows = metadata(N, seed=21)
    for part in np.array_split(np.arange(N), 3):
        engine.add([ids[i] for i in part], impacts[part], part_of(columns, part))
        engine.commit()
    years = np.array([row.get("year", 0) for row in rows])
    return engine, np.array(ids), impacts, years


def exhaustive(ids, impacts, asked, k, kept=None):
    """Score every document by a sparse product; keep those of a mask that share a sought word."""
    query = np.zeros(impacts.shape[1], dtype=np.int64)
    for term, weight in asked.terms.items():
        if term < query.size:
            query[term] = weight
    sought = np.maximum(query, 0)
    dense = impacts.toarray().astype(np.int64)
    scores = impacts @ query
    if asked.penalty:
        lost = sum(w for t, w in asked.terms.items() if w > 0 and t >= query.size)
        scores = scores - asked.penalty * ((dense == 0) @ sought + lost)
    found = (impacts @ sought) > 0
    for condition in asked.conditions:
        terms = [t for t in condition.terms if t < query.size]
        every = (dense[:, terms] >= condition.at_least).all(axis=1)
        every &= len(terms) == len(condition.terms)
        found &= every == condition.present
    if kept is not None:
        found &= kept
    order = np.lexsort((ids, -scores))
    return [Hit(ids[row], int(scores[row])) for row in order if found[row]][:k]


def signed(rng, penalty=0):
    """Draw a query with words of both signs; the last two terms are in no document."""
    terms = rng.choice(V + 2, rng.integers(2, 12), replace=False).tolist()
    weights = rng.integers(1, 65, len(terms)) * rng.choice([1, 1, -1], len(terms))
    conditions = tuple(
        Condition(
            tuple(rng.choice(V, rng.integers(1, 3), replace=False).tolist()),
            int(rng.choice([1, 1, 10, 25])),
            bool(rng.random() < 0.3),
        )
        for _ in range(rng.choice([0, 1, 1, 2]))
    )
    return PreparedQuery(dict(zip(terms, weights.tolist(), strict=True)), {}, conditions, penalty)


def test_signed_queries_are_exhaustive(filled):
    engine, ids, impacts, _ = filled
    # An engine on other machines waits for an answer to each.
    queries = 200 if isinstance(engine, OpenSearchEngine | MilvusEngine) else 1000
    rng = np.random.default_rng(0)
    full = lower = 0
    for number in range(queries):
        asked, k = signed(rng), int(rng.choice([1, 5, 10, 40]))
        hits = asked.search(engine, k)
        assert hits == exhaustive(ids, impacts, asked, k), (number, asked)
        full += len(hits) == k
        lower += any(hit.score <= 0 for hit in hits)
        if number % 50 == 0:
            for hit in hits[:2]:
                why = contributions(engine, hit.id, asked.terms, TOKENS)
                assert sum(c.score for c in why) == hit.score
                assert [c.score for c in why] == sorted((c.score for c in why), reverse=True)
    assert full > queries / 2 and lower > queries / 20  # both cases did occur


def test_missing_words_and_filters_too(filled):
    engine, ids, impacts, years = filled
    rng = np.random.default_rng(1)
    where = Where.parse("year >= 2010")
    for _ in range(60):
        asked = signed(rng, penalty=int(rng.integers(1, 30)))
        for k in (3, 2 * N):
            hits = asked.search(engine, k, where)
            assert hits == exhaustive(ids, impacts, asked, k, years >= 2010)
        for hit in hits[:2]:
            why = contributions(engine, hit.id, asked.terms, TOKENS, asked.penalty)
            assert sum(c.score for c in why) == hit.score


def test_leaving_out_a_word_is_the_list_without_its_postings(filled):
    engine, ids, impacts, _ = filled
    every = engine.search({0: 3, 4: 64}, N)
    has = dict(zip(ids, impacts.toarray()[:, 4] > 0, strict=True))
    without = PreparedQuery({0: 3, 4: 64}, {}, (Condition((4,), 1, False),)).search(engine, N)
    assert without == [hit for hit in every if not has[hit.id]] != []
    with_it = PreparedQuery({0: 3, 4: 64}, {}, (Condition((4,)),)).search(engine, N)
    assert with_it == [hit for hit in every if has[hit.id]] != []


def test_sums_are_sums_of_scores(filled):
    engine, ids, _, _ = filled
    one, two = {0: 1, 3: 9, 5: 2}, {3: 4, 8: 20, 9: 1}
    scores = [{hit.id: hit.score for hit in engine.search(terms, N)} for terms in (one, two)]
    for first, second in ((1, 1), (2, 3), (6, 1), (3, -2), (1, -3)):
        merged = {t: first * one.get(t, 0) + second * two.get(t, 0) for t in {*one, *two}}
        hits = PreparedQuery({t: w for t, w in merged.items() if w}).search(engine, N)
        assert len(hits) == N  # term 0 is in every document
        for name, score in hits:
            assert score == first * scores[0][name] + second * scores[1].get(name, 0)


def test_more_weight_never_finds_less_of_it(filled):
    engine, _, impacts, _ = filled
    wanted = {7: 1, 8: 1, 9: 1}
    found = []
    for weight in (1, 2, 4, 8, 16, 32, 64):
        hits = PreparedQuery({1: 5, 2: 5, **{t: weight for t in wanted}}).search(engine, 10)
        held = {hit.id: hit.score for hit in engine.search(wanted, N)}
        found.append(sum(held.get(hit.id, 0) for hit in hits))
    # The best ten of a + w b have, summed up, no less of b as w grows.
    assert found == sorted(found) and found[0] < found[-1]


def test_scores_of_zero_and_less_are_hits(engine):
    engine.add(["a", "b", "c", "d"], csr_array([[5, 0], [5, 5], [5, 9], [0, 9]]))
    engine.commit()
    hits = PreparedQuery({0: 2, 1: -2}).search(engine, 5)
    assert hits == [Hit("a", 10), Hit("b", 0), Hit("c", -8)]  # nothing was looked for in d
    assert PreparedQuery({1: -2}).search(engine, 5) == [] == PreparedQuery({}).search(engine, 5)


@pytest.mark.parametrize("terms", [{0: 1, 1: -65}, {0: 1, 1: -1.5}, {0: 0}, {0: "1"}, {-1: -1}])
def test_weights_off_the_contract_are_refused(engine, terms):
    with pytest.raises(LexLIPError):
        PreparedQuery(terms).search(engine, 3)
    with pytest.raises(LexLIPError):
        PreparedQuery({0: 1, 1: -1}).search(engine, 0)


def test_a_walk_looks_at_little():
    every = [Hit(f"{number:05}", 100_000 - 10 * number) for number in range(10_000)]
    asked = []

    def loss(ids):
        asked.extend(ids)
        return {name: 15 * (int(name) % 2) for name in ids}

    best = walk(lambda size: every[:size], loss, 10)
    right = sorted(Hit(h.id, h.score - 15 * (int(h.id) % 2)) for h in every)
    right.sort(key=lambda hit: (-hit.score, hit.id))
    assert best == right[:10] and len(asked) == len(set(asked)) < 100


def test_a_walk_goes_on_while_it_must():
    ties = [Hit(f"{number:05}", 7) for number in range(1000)]
    best = walk(
        lambda size: ties[:size], lambda ids: {name: int(name < "00990") for name in ids}, 3
    )
    assert best == [Hit("00990", 7), Hit("00991", 7), Hit("00992", 7)]
    assert walk(lambda size: [], lambda ids: {}, 3) == []


def test_a_walk_breaks_ties_by_id_to_the_end():
    every = [Hit("z", 10), *(Hit(name, 7) for name in "abcdefgh")]
    lost = {"z": 3, **dict.fromkeys("abcdef", 5), "g": 0, "h": 0}
    for k, right in ((1, "g"), (2, "gh"), (3, "ghz"), (4, "ghza")):
        best = walk(lambda size: every[:size], lambda ids: {name: lost[name] for name in ids}, k)
        assert "".join(hit.id for hit in best) == right

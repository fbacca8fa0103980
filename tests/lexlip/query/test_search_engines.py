"""Engines: conditions on words, and searches among some ids, against plain Python."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from lexlip.engines import Hit
from lexlip.engines.base import Condition
from lexlip.engines.postings import Segment
from lexlip.errors import LexLIPError
from lexlip.filters.where import Where
from tests.support.oracles import as_dicts, collection, metadata, oracle, part_of, queries


def fulfils(postings, condition):
    every = all(postings.get(term, 0) >= condition.at_least for term in condition.terms)
    return every == condition.present


@pytest.fixture
def filled(engine):
    """An engine of several segments with deleted and replaced documents, and what it holds."""
    ids, impacts = collection(240, v=12, seed=4)
    columns, rows = metadata(240, seed=4)
    engine.add(ids[:30], impacts[100:130], part_of(columns, range(30)))  # replaced below
    engine.commit()
    for part in np.array_split(np.arange(240), 3):
        engine.add([ids[i] for i in part], impacts[part], part_of(columns, part))
        engine.commit()
    engine.delete(ids[200:])
    engine.commit()
    facts = dict(zip(ids[:200], rows, strict=False))
    return engine, as_dicts(ids[:200], impacts[:200]), facts


def conditions_of(rng):
    """Draw up to three conditions; term 0 is in every document, 12 and 99 in none."""
    return tuple(
        Condition(
            tuple(rng.choice([*range(13), 99], rng.integers(1, 4), replace=False).tolist()),
            int(rng.choice([1, 1, 2, 3, 4, 255])),
            bool(rng.random() < 0.4),
        )
        for _ in range(rng.integers(1, 4))
    )


def test_conditions_are_exact(filled):
    engine, documents, _ = filled
    rng = np.random.default_rng(0)
    found = 0
    for terms in queries(5, 60, v=12):
        conditions = conditions_of(rng)
        kept = {
            name: postings
            for name, postings in documents.items()
            if all(fulfils(postings, condition) for condition in conditions)
        }
        for k in (1, 7, 10**6):
            assert engine.search(terms, k, conditions=conditions) == oracle(kept, terms, k)
        found += 0 < len(kept) < 200
    assert found > 20


def test_a_filter_and_conditions_and_ids_together(filled):
    engine, documents, facts = filled
    rng = np.random.default_rng(1)
    where = Where.parse("year >= 2008 and not folder == 'trip'")
    for terms in queries(6, 30, v=12):
        conditions = (Condition((int(rng.integers(1, 12)),), int(rng.integers(1, 4)), False),)
        ids = rng.choice(list(documents), 60, replace=False).tolist()
        kept = {
            name: documents[name]
            for name in ids
            if facts[name].get("year", 0) >= 2008 and facts[name].get("folder") != "trip"
            if fulfils(documents[name], conditions[0])
        }
        for k in (1, 5, 300):
            hits = engine.search(terms, k, where, conditions, [*ids, "nowhere", ids[0]])
            assert hits == oracle(kept, terms, k)
        assert engine.search(terms, 5, where, conditions, []) == []
        assert engine.search(terms, 5, among=ids[:1]) == oracle(
            {ids[0]: documents[ids[0]]}, terms, 5
        )


@pytest.mark.parametrize("share", [0.0001, 0.001, 0.05, 0.3, 1.0])
def test_a_segment_knows_who_has_a_term(tmp_path, share):
    rng = np.random.default_rng(2)
    column = rng.integers(1, 256, 40_000) * (rng.random(40_000) < share)  # three blocks
    column[[0, 16383, 16384, -1]] = 200
    Segment.write(tmp_path / "segment", csr_array(np.stack([column * 0 + 1, column], axis=1)))
    segment = Segment.open(tmp_path / "segment")
    for at_least in (1, 2, 200, 255):
        assert (segment.having(1, at_least) == (column >= at_least)).all()
    for term in (2, 10**9, -1):
        assert not segment.having(term).any()


def test_conditions_see_what_a_commit_changed(engine):
    no_red = (Condition((1,), 1, False),)
    engine.add(["a", "b"], csr_array([[5, 1], [7, 0]]))
    engine.commit()
    assert engine.search({0: 1}, 5, conditions=no_red) == [Hit("b", 7)]
    engine.add(["a", "b"], csr_array([[5, 0], [7, 3]]))
    engine.commit()
    assert engine.search({0: 1}, 5, conditions=no_red) == [Hit("a", 5)]
    assert engine.search({0: 1}, 5, conditions=(Condition((1,), 4, False),)) == [
        Hit("b", 7),
        Hit("a", 5),
    ]


@pytest.mark.parametrize(
    "condition",
    [
        Condition(()),
        Condition((-1,)),
        Condition((1.5,)),  # type: ignore[arg-type]
        Condition((1,), 0),
        Condition((1,), 256),
        Condition((1,), 2.5),  # type: ignore[arg-type]
        Condition(tuple(range(1025))),
    ],
)
def test_conditions_off_the_contract_are_refused(engine, condition):
    with pytest.raises(LexLIPError):
        engine.search({0: 1}, 1, conditions=(condition,))


def test_a_condition_on_very_many_terms(engine):
    engine.add(["all", "most"], csr_array(np.array([[1] * 1000, [1] * 999 + [0]])))
    engine.commit()
    every = Condition(tuple(range(1000)), 1)
    assert engine.search({0: 1}, 5, conditions=(every,)) == [Hit("all", 1)]
    but = Condition(tuple(range(1000)), 1, False)
    assert engine.search({0: 1}, 5, conditions=(but,)) == [Hit("most", 1)]

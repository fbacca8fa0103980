"""Documents in the order of a column, and values with counts, beside plain Python lists."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy.sparse import csr_array

from lexlip.engines.browsing import facets, facets_of, newest
from lexlip.errors import LexLIPError
from lexlip.filters.where import Where

COLUMNS = {"taken": "str", "year": "int", "share": "float", "own": "bool", "folder": "str"}


def some(generator, count):
    """Random metadata with gaps and ties."""

    def gaps(values):
        return [None if generator.random() < 0.3 else value for value in values]

    number = generator.integers
    return {
        "taken": gaps(f"2024-{m:02}-{d:02}" for m, d in number(1, 6, (count, 2))),
        "year": gaps(map(int, number(-3, 4, count))),
        "share": gaps(float(n) / 4 for n in number(-8, 8, count)),
        "own": gaps(bool(n) for n in number(0, 2, count)),
        "folder": gaps("ab€𝄞"[n] for n in number(0, 4, count)),
    }


@pytest.fixture(scope="module")
def held(shared_engine):
    """An engine with several commits, replaced and deleted documents, and {id: metadata}."""
    engine = shared_engine
    generator, there = np.random.default_rng(4), {}
    for start, count in ((0, 50), (30, 40), (60, 20)):
        ids = [f"{n:03}" for n in generator.permutation(np.arange(start, start + count))]
        columns = some(generator, count)
        engine.add(ids, csr_array(np.full((count, 1), 9)), columns)
        engine.commit()
        for row, name in enumerate(ids):
            there[name] = {key: values[row] for key, values in columns.items()}
    gone = [f"{n:03}" for n in range(5, 15)]
    engine.delete(gone)
    engine.commit()
    return engine, {name: facts for name, facts in there.items() if name not in gone}


@pytest.fixture
def engine(held):
    return held[0]


@pytest.fixture
def documents(held):
    """{id: metadata} of that engine."""
    return held[1]


def test_kinds(engine, documents):
    assert dict(engine.kinds) == COLUMNS


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("column", [*COLUMNS, None, "missing"])
def test_documents_come_in_the_order_of_a_column(engine, documents, column, descending):
    for text, keeps in (("", lambda _: True), ("year > 0", lambda it: (it["year"] or 0) > 0)):
        rows = sorted(name for name, facts in documents.items() if keeps(facts))
        expected = [(name, documents[name].get(column)) for name in rows]
        if column is not None:
            expected = [pair for pair in expected if pair[1] is not None]
            expected.sort(key=lambda pair: pair[1], reverse=descending)
        where = Where.parse(text) if text else None
        for k in (1, 7, 200):
            assert engine.ordered(column, k, where, descending) == expected[:k]


FILTERS = {
    "": lambda _: True,
    "year > 0": lambda it: (it["year"] or 0) > 0,
    "folder == 'b' and own": lambda it: it["folder"] == "b" and bool(it["own"]),
    "year > 99": lambda _: False,
}


@pytest.mark.parametrize("text", FILTERS)
@pytest.mark.parametrize("column", [*COLUMNS, "missing"])
def test_values_are_counted(engine, documents, column, text):
    counted = Counter(facts.get(column) for facts in documents.values() if FILTERS[text](facts))
    counted.pop(None, None)
    expected = sorted(counted.items(), key=lambda pair: (-pair[1], pair[0]))
    where = Where.parse(text) if text else None
    for most in (2, 100):
        assert engine.counts(column, most, where) == expected[:most]


@pytest.mark.parametrize("column", ["year", "missing"])
def test_no_filter_that_does_not_fit_counts(engine, documents, column):
    with pytest.raises(LexLIPError, match="taxen"):
        engine.counts(column, 5, Where.parse("taxen == 1"))


def test_an_empty_index_has_nothing(new_engine):
    engine = new_engine()
    assert engine.ordered(None, 5) == engine.ordered("year", 5) == engine.counts("year", 5) == []


def test_the_newest_documents_come_first(engine, documents):
    assert newest(engine, 9) == _by_age(documents)[:9]
    assert newest(engine, 200) == _by_age(documents)
    assert newest(engine, 20, 30) == _by_age(documents)[30:50]
    some = {name: facts for name, facts in documents.items() if facts["folder"] == "b"}
    assert newest(engine, 200, where=Where.parse("folder == 'b'")) == _by_age(some)


def _by_age(documents):
    dated = [name for name, facts in documents.items() if facts["taken"]]
    dated.sort(key=lambda name: (documents[name]["taken"], -int(name)), reverse=True)
    return dated + sorted(documents.keys() - set(dated))


def test_a_file_s_date_stands_in_for_a_missing_one(new_engine):
    engine = new_engine()
    taken = ["2024-03-01", None, "2021-01-01", None, None]
    modified = ["2019-01-01", "2023-05-05", "2025-01-01", "2024-06-06", None]
    columns = {"taken": taken, "modified": modified}
    engine.add(list("abcde"), csr_array(np.ones((5, 1), int)), columns)
    engine.commit()
    assert newest(engine, 5) == ["d", "a", "b", "c", "e"]


def test_facets_say_what_a_column_holds(engine, documents):
    found = {facet.name: facet for facet in facets(engine, most=3)}
    values = {n: [f[n] for f in documents.values() if f[n] is not None] for n in COLUMNS}
    assert {name: facet.kind for name, facet in found.items()} == COLUMNS | {"taken": "date"}
    for name in ("taken", "year", "share"):
        assert (found[name].smallest, found[name].largest) == (min(values[name]), max(values[name]))
        assert found[name].values == ()
    counted = sorted(Counter(values["folder"]).items(), key=lambda pair: (-pair[1], pair[0]))
    assert found["folder"].values == tuple(counted[:3]) and not found["folder"].whole
    assert dict(found["own"].values) == Counter(values["own"]) and found["own"].whole


@pytest.mark.parametrize("text", FILTERS)
def test_facets_of_a_filter_are_those_of_its_documents(engine, documents, text):
    where = Where.parse(text) if text else None
    there = [n for n, facts in documents.items() if FILTERS[text](facts)]
    assert engine.matching(where) == len(there)
    for most in (2, 100):
        found = facets(engine, most, where)
        assert found == facets_of(engine.fetch(there), engine.kinds, most)
    assert [facet.name for facet in found] == sorted(COLUMNS)

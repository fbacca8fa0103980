"""Metadata in Lucene: filters against masks and a dot product, round trips, errors, threads."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from lexlip.engines import Hit, LuceneEngine
from lexlip.engines.lucene.bridge import Turnstile, lucene_jar
from lexlip.engines.lucene.java import find_java
from lexlip.errors import LexLIPError
from lexlip.filters.columns import MAX_WHOLE, Column
from lexlip.filters.where import Where

pytestmark = pytest.mark.java

N, V = 90, 12
WORDS = ["", "a", "ab", "b", "B", "é", "True", "a b", "\uffee", "\U0001f600", "x\x00y"]
FRACTIONS = [0.0, -0.0, 0.5, -0.5, 2.0, 1e300, float("inf"), float("-inf"), 5e-324, -5e-324]
WHOLES = [-2, -1, 0, 1, 2, 2001, MAX_WHOLE, -MAX_WHOLE, MAX_WHOLE - 1]


@pytest.fixture(scope="module", autouse=True)
def lucene():
    try:
        find_java(), lucene_jar()
        import jnius_config  # noqa: F401
    except (LexLIPError, ImportError) as error:
        pytest.skip(str(error))


def metadata(rng, n):
    """Columns of n rows, a third of the values missing."""

    def some(values):
        chosen = [values[i] for i in rng.integers(0, len(values), n)]
        return [v if there else None for v, there in zip(chosen, rng.random(n) < 0.7, strict=True)]

    return {
        "id": some(WHOLES),  # names like the engine's own fields
        "impacts": some(FRACTIONS),
        "mixed": some([*WHOLES, *FRACTIONS]),
        "columns": some(WORDS),
        "number:id": some([True, False]),
        "empty": [None] * n,
    }


class Collection:
    """An engine of several segments with replaced and deleted documents, and what it holds."""

    def __init__(self, path):
        rng = np.random.default_rng(3)
        self.ids = [f"p{i:03}" for i in rng.permutation(N)]
        impacts = rng.integers(1, 4, (N, V)) * (rng.random((N, V)) < 0.4)
        self.engine = LuceneEngine(path)
        first, old = metadata(rng, N), metadata(rng, 20)
        # "mixed" holds whole numbers only at first.
        first["mixed"][:30] = [v if isinstance(v, int) else 7 for v in first["mixed"][:30]]
        self.engine.add(self.ids[40:60], csr_array(impacts[:20]), old)
        self.engine.add(["gone", "bare"], csr_array([[1], [1]]), {"id": [1, 1]})
        self.engine.commit({"scale": "2"})
        self.engine.add(["bare"], csr_array([[1, 2]]))  # replaced: its metadata goes too
        for span in (slice(0, 30), slice(30, 60), slice(60, N)):
            part = {name: values[span] for name, values in first.items()}
            self.engine.add(self.ids[span], csr_array(impacts[span]), part)
            self.engine.commit()
        assert self.engine.delete(["gone", *self.ids[:5]]) == 6
        self.engine.commit()
        self.ids = ["bare", *self.ids[5:]]
        self.impacts = np.vstack([np.eye(1, V) + 2 * np.eye(1, V, 1), impacts[5:]]).astype(int)
        self.rows = {name: [None, *values[5:]] for name, values in first.items()}
        self.columns = {name: Column.of(values) for name, values in self.rows.items()}

    def oracle(self, terms, k, mask):
        query = np.zeros(V, dtype=int)
        query[list(terms)] = list(terms.values())
        scores = csr_array(self.impacts) @ query
        found = [(-scores[i], self.ids[i]) for i in np.flatnonzero((scores > 0) & mask)]
        return [Hit(name, -int(score)) for score, name in sorted(found)[:k]]


@pytest.fixture(scope="module")
def collection(lucene, tmp_path_factory):
    made = Collection(tmp_path_factory.mktemp("lucene") / "index")
    yield made
    made.engine.close()


def written(value):
    return repr(value).replace("inf", "1e999")


def leaf(name, values, signs):
    value = st.sampled_from(values).map(written)
    many = st.lists(value, max_size=3).map(lambda all: "[" + ", ".join(all) + "]")
    name = f'column("{name}")'
    return st.one_of(
        st.tuples(st.just(name), st.sampled_from(signs), value).map(" ".join),
        st.tuples(st.just(name), st.sampled_from(["in", "not in"]), many).map(" ".join),
        st.sampled_from([f"{name} is None", f"{name} is not None"]),
    )


ORDERS = ["==", "!=", "<", "<=", ">", ">="]
NUMBERS = [*WHOLES, *FRACTIONS, 2000.5, 3]
LEAF = st.one_of(
    *[leaf(name, NUMBERS, ORDERS) for name in ("id", "impacts", "mixed")],
    leaf("columns", [*WORDS, "aa", "\U0001f601"], ORDERS),
    leaf("number:id", [True, False], ["==", "!="]),
    st.just('column("number:id")'),
    st.just("-1 <= mixed < 2.5"),
)
FILTER = st.recursive(
    LEAF,
    lambda inner: st.one_of(
        inner.map(lambda one: f"not ({one})"),
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda x: f"({' '.join(x)})"),
    ),
    max_leaves=5,
)
TERMS = st.dictionaries(st.integers(0, V - 1), st.integers(1, 64), min_size=1, max_size=6)


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(FILTER, TERMS, st.sampled_from([1, 3, 10, 1000]))
def test_filtered_searches_are_exact(collection, text, terms, k):
    where = Where.parse(text)
    expected = collection.oracle(terms, k, where.mask(collection.columns))
    assert collection.engine.search(terms, k, where) == expected
    assert collection.engine.search(terms, k, where=where) == expected  # from Lucene's cache


def test_fetch_gives_what_was_added_last(collection):
    ids = [*collection.ids, "gone", "never", collection.ids[3]]
    expected = [
        {name: values[row] for name, values in collection.rows.items() if values[row] is not None}
        for row in range(len(collection.ids))
    ]
    got = collection.engine.fetch(ids)
    assert got == [*expected, None, None, expected[3]]
    assert got[-1] is not got[3]
    mixed = [one["mixed"] for one in got if one and "mixed" in one]
    assert {type(value) for value in mixed} == {float}  # whole numbers too, as in the column
    assert {type(one["id"]) for one in got if one and "id" in one} == {int}
    assert collection.engine.fetch([]) == []
    with pytest.raises(LexLIPError, match="no id"):
        collection.engine.fetch([""])


def test_contributions_are_the_impacts(collection):
    for row in (0, 1, 17, len(collection.ids) - 1):
        name, impacts = collection.ids[row], collection.impacts[row]
        every = {term: int(value) for term, value in enumerate(impacts) if value}
        assert collection.engine.contributions(name, range(V + 5)) == every
        for term in range(V):
            expected = {term: every[term]} if term in every else {}
            assert collection.engine.contributions(name, {term: 9}) == expected
        terms = {term: term + 1 for term in range(V)}
        parts = collection.engine.contributions(name, terms)
        total = {hit.id: hit.score for hit in collection.engine.search(terms, 1000)}[name]
        assert total == sum(terms[term] * impact for term, impact in parts.items())
    assert collection.engine.contributions("bare", []) == {}
    for name in ("gone", "never"):
        with pytest.raises(LexLIPError, match=f"no document '{name}'"):
            collection.engine.contributions(name, [0])
    with pytest.raises(LexLIPError, match="no term id"):
        collection.engine.contributions("bare", [-1])


def test_the_largest_impacts_and_queries_explain(tmp_path):
    engine = LuceneEngine(tmp_path / "index")
    engine.add(["a"], csr_array(np.full((1, 1024), 255)), {"x": [1]})
    engine.commit()
    terms = dict.fromkeys(range(1024), 64)
    assert engine.contributions("a", terms) == dict.fromkeys(range(1024), 255)
    many = Where.parse(" and ".join(["not x != 1"] * 1000))
    assert engine.search(terms, 1, many) == [Hit("a", 1024 * 255 * 64)]
    engine.close()


def test_reopened_engines_know_the_columns(tmp_path):
    engine = LuceneEngine(tmp_path / "index")
    engine.add(["a", "b"], csr_array([[1], [2]]), {"year": [2001, None], "flag": [None, True]})
    engine.commit({"scale": "8"})
    assert engine.user_data == {"scale": "8"}
    engine.add(["c"], csr_array([[3]]), {"late": ["x"]})
    with pytest.raises(LexLIPError, match="no document has a column 'late'"):
        engine.search({0: 1}, 5, Where.parse("late == 'x'"))  # not committed
    engine.close()
    engine = LuceneEngine(tmp_path / "index")
    assert engine.search({0: 1}, 5, Where.parse("year > 2000")) == [Hit("a", 1)]
    with pytest.raises(LexLIPError, match="'year'.*whole numbers and text"):
        engine.add(["d"], csr_array([[4]]), {"year": ["x"]})
    engine.add(["e"], csr_array([[5]]), {"year": [2000.5]})
    engine.commit({})
    assert engine.user_data == {}
    assert engine.fetch(["a", "d", "e"]) == [{"year": 2001.0}, None, {"year": 2000.5}]
    reader = LuceneEngine(tmp_path / "index", "r")
    engine.add(["f"], csr_array([[6]]), {"year": [3000]})
    engine.commit()
    assert reader.search({0: 1}, 5, Where.parse("2000 < year < 2001")) == [Hit("e", 5)]
    assert engine.search({0: 1}, 1, Where.parse("not flag")) == [Hit("f", 6)]
    engine.compact()
    assert engine.search({0: 1}, 5, Where.parse("year >= 2001")) == [Hit("f", 6), Hit("a", 1)]
    assert engine.fetch(["f"]) == [{"year": 3000.0}]
    with pytest.raises(LexLIPError, match="engine's own"):
        engine.commit({"lexlip.filters.columns": "{}"})
    reader.close()
    engine.close()


def test_bad_filters_and_columns(tmp_path):
    engine = LuceneEngine(tmp_path / "index")
    with pytest.raises(LexLIPError, match="no metadata"):
        engine.search({0: 1}, 5, Where.parse("year > 2000"))
    for columns in ({"year": [1, 2]}, {"": [1]}, {"year": [[1]]}, {"year": "x"}):
        with pytest.raises(LexLIPError):
            engine.add(["a"], csr_array([[1]]), columns)
    engine.commit()
    assert len(engine) == 0
    engine.add(["a"], csr_array([[1]]), {"year": [1], "none": [None]})
    engine.commit()
    for text, match in (
        ("yaer > 1", "did you mean 'year'"),
        ("none is None", "no document has a column 'none'"),
        ("year > 'x'", "without quotes"),
    ):
        for terms in ({0: 1}, {}):  # a query without terms finds nothing, its filter is checked
            with pytest.raises(LexLIPError, match=match):
                engine.search(terms, 5, Where.parse(text))
    engine.close()
    for call in (lambda: engine.fetch(["a"]), lambda: engine.contributions("a", [0])):
        with pytest.raises(LexLIPError, match="closed"):
            call()


def test_threads_on_two_engines_do_not_mix(tmp_path):
    engines = [LuceneEngine(tmp_path / str(number)) for number in range(2)]
    wrong: list[object] = []

    def work(number):
        engine, name = engines[number], "ab"[number]
        try:
            for round in range(40):
                ids = [f"{name}{round}-{i}" for i in range(5)]
                engine.add(ids, csr_array(np.full((5, 1), number + 1)), {"who": [name] * 5})
                if round % 10 == 9:
                    engine.commit()
                hits = engine.search({0: 1}, 3)
                if hits:
                    hits += engine.search({0: 1}, 3, Where.parse(f"who == '{name}'"))
                wrong.extend(hit for hit in hits if hit.id[0] != name or hit.score != number + 1)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in (0, 1, 0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    for number, engine in enumerate(engines):
        assert len(engine) == 200
        assert {one["who"] for one in engine.fetch([f"{'ab'[number]}7-1"])} == {"ab"[number]}
        engine.close()


def test_the_turnstile_lets_one_receiver_through_at_a_time():
    gate, one, two = Turnstile(), object(), object()
    order = []

    def other():
        with gate.on(two):
            order.append("two")

    with gate.on(one), gate.on(one):  # the same receiver again does not wait
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(0.05)
        order.append("one")
    thread.join(5)
    assert order == ["one", "two"]

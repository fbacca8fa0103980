"""What all engines say of single documents: filters, metadata, contributions to a score."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from lexlip.engines import Hit
from lexlip.errors import LexLIPError
from lexlip.filters.where import Where
from lexlip.impacts import MAX_IMPACT
from tests.support.oracles import as_dicts, collection, metadata, oracle, part_of, queries

FILTERS = {
    "year >= 2010": lambda d: d.get("year", 0) >= 2010,
    "folder == 'trip'": lambda d: d.get("folder") == "trip",
    "folder != 'trip'": lambda d: d.get("folder", "trip") != "trip",
    "not (year < 2010)": lambda d: not d.get("year", 3000) < 2010,
    "year in (2001, 2002, 2003) or good": lambda d: (
        d.get("year", 0) in (2001, 2002, 2003) or d.get("good", False)
    ),
    "2005 <= year < 2015 and not folder == 'home'": lambda d: (
        2005 <= d.get("year", 0) < 2015 and d.get("folder") != "home"
    ),
    "size > 0.5 and good": lambda d: d.get("size", 0) > 0.5 and d.get("good", False),
    "folder.startswith('h')": lambda d: d.get("folder", "").startswith("h"),
    "folder.startswith('')": lambda d: "folder" in d,
    "not folder.contains('ri')": lambda d: "ri" not in d.get("folder", ""),
    "'n\u00ef' in folder": lambda d: "ï" in d.get("folder", ""),
    "folder.contains('*') or folder.contains('m?') or folder.contains('\\\\')": lambda d: False,
    "year > 9999": lambda d: False,
}


def test_filters_are_exact(engine):
    ids, impacts = collection(200, seed=20)
    columns, rows = metadata(200)
    for part in np.array_split(np.arange(200), [30, 120]):
        engine.add([ids[i] for i in part], impacts[part], part_of(columns, part))
        engine.commit()
    engine.delete(ids[:15])
    engine.add(ids[15:20], impacts[15:20], part_of(columns, range(20, 25)))  # other metadata
    engine.add(ids[20:25], impacts[20:25])  # none
    engine.commit()
    documents = as_dicts(ids[15:], impacts[15:])
    rows = dict(zip(ids, [*rows[:15], *rows[20:25], *[{}] * 5, *rows[25:]], strict=True))
    for text, fulfils in FILTERS.items():
        kept = {name: terms for name, terms in documents.items() if fulfils(rows[name])}
        assert (text == "year > 9999" or "'*'" in text) == (not kept)
        for terms in queries(21, 4):
            for k in (1, 5, 1000):
                assert engine.search(terms, k, Where.parse(text)) == oracle(kept, terms, k)
    assert engine.search({0: 1}, 1000) == oracle(documents, {0: 1}, 1000)


def test_filters_show_the_last_commit(engine):
    where = Where.parse("year == 1")
    engine.add(["a", "b"], csr_array([[1], [1]]), {"year": [1, 2]})
    engine.commit()
    assert engine.search({0: 1}, 5, where) == [Hit("a", 1)]
    engine.add(["b"], csr_array([[2]]), {"year": [1]})
    engine.delete(["a"])
    assert engine.search({0: 1}, 5, where) == [Hit("a", 1)]
    engine.commit()
    assert engine.search({0: 1}, 5, where) == [Hit("b", 2)]
    assert engine.search({0: 1}, 5, Where.parse("not year == 1")) == []


def test_filters_that_do_not_fit_are_refused(engine):
    with pytest.raises(LexLIPError, match="no metadata"):
        engine.search({0: 1}, 5, Where.parse("year == 1"))
    engine.add(["a", "b"], csr_array([[1], [1]]), {"year": [1, 2], "folder": ["x", None]})
    engine.commit()
    with pytest.raises(LexLIPError, match="'yaer'.*'year'"):
        engine.search({0: 1}, 5, Where.parse("yaer == 1"))
    with pytest.raises(LexLIPError, match="folder"):
        engine.search({0: 1}, 5, Where.parse("folder > 3"))
    engine.add(["c"], csr_array([[1]]), {"size": [1]})  # a column of the newest part only
    engine.commit()
    assert engine.search({0: 1}, 5, Where.parse("size == 1 or year == 2")) == [
        Hit("b", 1),
        Hit("c", 1),
    ]


def test_columns_keep_their_type(engine):
    engine.add(["a"], csr_array([[1]]), {"year": [2001], "folder": [None]})
    engine.commit()
    for bad in ({"year": ["2001"]}, {"year": [True]}, {"year": [1, 2]}, {"": [1]}, {"x": [[]]}):
        with pytest.raises(LexLIPError):
            engine.add(["b"], csr_array([[1]]), bad)
    engine.add(["c"], csr_array([[2]]), {"year": [2001.5], "folder": [3]})
    engine.commit()
    assert len(engine) == 2  # what was refused was not added
    assert engine.search({0: 1}, 5, Where.parse("year > 2001.2")) == [Hit("c", 2)]
    assert engine.search({0: 1}, 5, Where.parse("year <= 2001")) == [Hit("a", 1)]
    first, second = engine.fetch(["a", "c"])
    assert (first, second) == ({"year": 2001.0}, {"year": 2001.5, "folder": 3})
    assert (type(first["year"]), type(second["folder"])) == (float, int)


def test_fetch(engine):
    assert engine.fetch([]) == engine.fetch(()) == []
    assert engine.fetch(["a"]) == [None]
    columns, rows = metadata(40)
    ids, impacts = collection(40)
    engine.add(ids, impacts, columns)
    assert engine.fetch(ids[:2]) == [None, None]
    engine.commit()
    assert engine.fetch(ids) == rows
    assert engine.fetch([ids[3], "nowhere", ids[3], ids[1]]) == [rows[3], None, rows[3], rows[1]]
    engine.add(ids[:1], impacts[:1], {"new": ["only this"]})
    engine.add(ids[1:2], impacts[1:2])
    engine.delete(ids[2:3])
    assert engine.fetch(ids) == rows
    engine.commit()
    assert engine.fetch(ids) == [{"new": "only this"}, {}, None, *rows[3:]]
    with pytest.raises(LexLIPError):
        engine.fetch("ab")


def test_contributions_add_up_to_the_score(engine):
    ids, impacts = collection(120, seed=3)
    for part in np.array_split(np.arange(120), 3):
        engine.add([ids[i] for i in part], impacts[part])
        engine.commit()
    engine.add(["new"], csr_array([[0, MAX_IMPACT, 7]]))
    for name in ("new", "nowhere"):
        with pytest.raises(LexLIPError, match=f"no document '{name}'"):
            engine.contributions(name, [1])
    engine.commit()
    documents = as_dicts(ids, impacts)
    for terms in queries(4, 5, v=45):
        for hit in engine.search(terms, 20):
            if hit.id == "new":
                continue
            found = engine.contributions(hit.id, terms)
            assert found == {t: documents[hit.id][t] for t in terms if t in documents[hit.id]}
            assert sum(terms[term] * impact for term, impact in found.items()) == hit.score
    assert engine.contributions("new", [2, 0, 10**8, 1]) == {2: 7, 1: MAX_IMPACT}
    assert list(engine.contributions("new", [2, 1])) == [2, 1]
    assert engine.contributions("new", []) == {}
    engine.add(["new"], csr_array([[3]]))
    engine.delete(ids[:1])
    engine.commit()
    assert engine.contributions("new", [0, 1, 2]) == {0: 3}
    with pytest.raises(LexLIPError, match="no document"):
        engine.contributions(ids[0], [0])
    with pytest.raises(LexLIPError, match="no term id"):
        engine.contributions("new", ["dog"])

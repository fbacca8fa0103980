"""What engines must answer, in plain Python, and collections to ask them about."""

from __future__ import annotations

import random

import numpy as np
from scipy.sparse import csr_array

from lexlip.engines import Hit
from lexlip.filters.where import Where

# Documents as ids and a matrix of impacts, or as {id: {term: impact}}; metadata apart


def collection(n, v=40, seed=0, high=4):
    """Return shuffled ids and [n, v] impacts; small impacts, so that ties abound."""
    rng = np.random.default_rng(seed)
    dense = rng.integers(1, high + 1, size=(n, v)) * (rng.random((n, v)) < 0.2)
    dense[:, 0] = rng.integers(1, high + 1, size=n)  # a term found in every document
    ids = [f"img/{i}.jpg" for i in rng.permutation(n)]  # string order is not number order
    return ids, csr_array(dense)


def oracle(documents, terms, k):
    """Search dictionaries {id: {term: impact}}: scores by hand, the best k, ties by id."""
    scores = {
        name: sum(weight * postings.get(term, 0) for term, weight in terms.items())
        for name, postings in documents.items()
    }
    found = sorted((-score, name) for name, score in scores.items() if score > 0)
    return [Hit(name, -score) for score, name in found[:k]]


def as_dicts(ids, impacts):
    """Turn ids and [n, v] impacts into {id: {term: impact}}."""
    rows = impacts.toarray().tolist()
    return {
        name: {term: value for term, value in enumerate(row) if value}
        for name, row in zip(ids, rows, strict=True)
    }


def queries(seed, number, v=40):
    """Yield so many random queries {term: weight}."""
    rng = np.random.default_rng(seed)
    for _ in range(number):
        terms = rng.choice(v, size=rng.integers(1, 8), replace=False).tolist()
        yield dict(zip(terms, rng.integers(1, 65, size=len(terms)).tolist(), strict=True))


FOLDERS = ["trip", "home", "Ünï", None]


def metadata(n, seed=0):
    """Return columns of n values and the same as n dictionaries."""
    rng = np.random.default_rng(seed)
    columns = {
        "year": [None if rng.random() < 0.1 else int(rng.integers(2000, 2020)) for _ in range(n)],
        "folder": [FOLDERS[i] for i in rng.integers(0, len(FOLDERS), n)],
        "good": [None if rng.random() < 0.2 else bool(rng.integers(2)) for _ in range(n)],
        "size": [round(float(x), 2) for x in rng.random(n)],
    }
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return columns, [{k: v for k, v in row.items() if v is not None} for row in rows]


def part_of(columns, rows):
    """Return some rows of the columns."""
    return {name: [values[row] for row in rows] for name, values in columns.items()}


# Documents as {id: ({term: impact}, metadata)}, over a few terms

WIDTH = 12
FILTERS = {
    "year >= 3": lambda d: d.get("year", 0) >= 3,
    "not (year == 1 or folder == 'b')": lambda d: d.get("year") != 1 and d.get("folder") != "b",
    "folder in ('a', 'c')": lambda d: d.get("folder") in ("a", "c"),
}


def add(engine, documents):
    """Add {id: ({term: impact}, metadata)} to an engine."""
    impacts = np.zeros((len(documents), WIDTH), dtype=np.int32)
    for row, (terms, _) in enumerate(documents.values()):
        for term, impact in terms.items():
            impacts[row, term] = impact
    names = {name for _, row in documents.values() for name in row}
    columns = {name: [row.get(name) for _, row in documents.values()] for name in sorted(names)}
    engine.add(list(documents), csr_array(impacts), columns)


def assert_holds(engine, documents, seed=0):
    """Compare everything that an engine answers with the oracle."""
    generator = random.Random(seed)
    assert len(engine) == engine.stats()["documents"] == len(documents)
    names = [*documents, "nowhere"]
    generator.shuffle(names)
    assert engine.fetch(names) == [documents[n][1] if n in documents else None for n in names]
    terms = {t: generator.randint(1, 64) for t in generator.sample(range(WIDTH), 4)}
    known = {name for _, row in documents.values() for name in row}
    every = {name: impacts for name, (impacts, _) in documents.items()}
    for k in (1, 3, len(documents) + 1):
        assert engine.search(terms, k) == oracle(every, terms, k)
        for text, fulfils in FILTERS.items():
            where = Where.parse(text)
            if where.columns <= known:
                kept = {name: every[name] for name, (_, row) in documents.items() if fulfils(row)}
                assert engine.search(terms, k, where) == oracle(kept, terms, k)
    for name in list(documents)[:5]:
        impacts = documents[name][0]
        assert engine.contributions(name, range(WIDTH)) == dict(sorted(impacts.items()))

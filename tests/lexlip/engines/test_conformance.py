"""One suite for all engines: random queries are answered with the integers of a scipy product.

`LEXLIP_TESTS=full` has 20,000 documents and 200 queries in place of 2,000 and 40; with `-s`
it prints the rows of the table in docs/results/engines.md.
"""

from __future__ import annotations

import os
import time

import numpy as np
from scipy.sparse import csc_array, csr_array, vstack

from lexlip.engines import Hit
from lexlip.engines.base import Condition
from lexlip.filters.where import Where
from lexlip.impacts import MAX_IMPACT, MAX_QUERY_WEIGHT

FULL = os.environ.get("LEXLIP_TESTS") == "full"
DOCUMENTS, QUERIES = (20_000, 200) if FULL else (2_000, 40)
WIDTH, TERMS, SEED = 3_000, 30, 20
FILTERS = {
    None: lambda year, folder, share: np.ones(len(year), bool),
    "year >= 2012": lambda year, folder, share: year >= 2012,
    "folder == 'trip'": lambda year, folder, share: folder == "trip",
    "folder != 'trip'": lambda year, folder, share: (folder != "trip") & (folder != ""),
    "not (year < 2005 or share > 0.5)": lambda year, folder, share: (
        ~((year < 2005) & (year > 0) | (share > 0.5))
    ),
    "folder.startswith('h') and 2003 <= year < 2015": lambda year, folder, share: (
        np.char.startswith(folder, "h") & (year >= 2003) & (year < 2015)
    ),
    "year is None": lambda year, folder, share: year == 0,
}


class Truth:
    """Documents in arrays: impacts, metadata, and which ones live."""

    def __init__(self, rng, count):
        self.ids = np.array([f"{number:x}.jpg" for number in rng.permutation(count)])
        self.impacts = documents(rng, count)
        self.year = np.where(rng.random(count) < 0.1, 0, rng.integers(2000, 2020, count))
        self.folder = rng.choice(["trip", "home", "hütte", ""], count)
        self.share = rng.random(count)
        self.alive = np.ones(count, bool)

    def columns(self, rows):
        """Metadata as an engine takes them; 0 and "" stand for missing values."""
        return {
            "year": [year or None for year in self.year[rows].tolist()],
            "folder": [folder or None for folder in self.folder[rows].tolist()],
            "share": self.share[rows].tolist(),
        }

    def add(self, engine, rows):
        ids = self.ids[rows].tolist()
        engine.add(ids, csr_array(self.impacts[rows]), self.columns(rows))
        self.alive[rows] = True

    def replace(self, engine, rng, rows):
        """Other impacts and other metadata for some documents."""
        fresh = documents(rng, len(rows))
        kept = np.setdiff1d(np.arange(len(self.ids)), rows)
        order = np.argsort(np.concatenate([kept, rows]))
        self.impacts = csr_array(vstack([self.impacts[kept], fresh]))[order]
        self.year[rows] = rng.integers(2000, 2020, len(rows))
        self.add(engine, rows)

    def delete(self, engine, rows):
        assert engine.delete(self.ids[rows].tolist()) == np.count_nonzero(self.alive[rows])
        self.alive[rows] = False

    def search(self, terms, k, text, conditions, among):
        query = np.zeros(WIDTH, np.int64)
        query[list(terms)] = list(terms.values())
        scores = self.impacts.astype(np.int64) @ query
        wanted = self.alive & FILTERS[text](self.year, self.folder, self.share)
        by_term = csc_array(self.impacts)
        for condition in conditions:
            has = np.ones(len(self.ids), bool)
            for term in condition.terms:
                has &= by_term[:, [term]].toarray()[:, 0] >= condition.at_least
            wanted &= has if condition.present else ~has
        if among is not None:
            wanted &= np.isin(self.ids, among)
        rows = np.flatnonzero(wanted & (scores > 0))
        best = rows[np.lexsort((self.ids[rows], -scores[rows]))][:k]
        return [Hit(str(self.ids[row]), int(scores[row])) for row in best]


def documents(rng, count):
    """[count, WIDTH] impacts, frequent terms in most documents; small ones, so that many tie."""
    terms = np.minimum(rng.zipf(1.3, (count, TERMS)) - 1, WIDTH - 1)
    values = np.where(
        rng.random((count, TERMS)) < 0.7,
        rng.integers(1, 5, (count, TERMS)),
        rng.integers(1, MAX_IMPACT + 1, (count, TERMS)),
    )
    rows = np.repeat(np.arange(count), TERMS)
    _, first = np.unique(rows * WIDTH + terms.ravel(), return_index=True)
    entries = (values.ravel()[first], (rows[first], terms.ravel()[first]))
    return csr_array(entries, shape=(count, WIDTH), dtype=np.int32)


def random_query(rng, truth):
    """(terms, k, filter, conditions, among)."""
    size = int(rng.choice([1, 3, 8, 64]))
    chosen = np.unique(np.minimum(rng.zipf(1.3, size) - 1, WIDTH - 1)).tolist()
    weights = rng.integers(1, MAX_QUERY_WEIGHT + 1, len(chosen)).tolist()
    k = int(rng.choice([1, 10, 100, 1000, 10**6], p=[0.2, 0.4, 0.25, 0.1, 0.05]))
    text = list(FILTERS)[rng.integers(len(FILTERS))] if rng.random() < 0.5 else None
    conditions = [
        Condition(
            tuple(np.unique(rng.integers(0, 20, rng.integers(1, 3))).tolist()),
            at_least=int(rng.choice([1, 1, 3, 100])),
            present=bool(rng.random() < 0.5),
        )
        for _ in range(rng.integers(0, 3))
    ]
    among = rng.choice(truth.ids, 50).tolist() if rng.random() < 0.1 else None
    return dict(zip(chosen, weights, strict=True)), k, text, conditions, among


def agree(engine, truth, rng, count):
    """Ask `count` queries; return how many were answered with the truth, and some hits at all."""
    assert len(engine) == np.count_nonzero(truth.alive)
    equal = found = 0
    for _ in range(count):
        terms, k, text, conditions, among = random_query(rng, truth)
        where = None if text is None else Where.parse(text)
        expected = truth.search(terms, k, text, conditions, among)
        same = engine.search(terms, k, where, conditions, among) == expected
        equal, found = equal + same, found + bool(expected)
    assert found > count / 2  # most queries have answers
    return equal


def test_all_engines_answer_like_a_matrix_product(new_engine, request):
    begun, rng = time.monotonic(), np.random.default_rng(SEED)
    truth, engine, share = Truth(rng, DOCUMENTS), new_engine("whole"), QUERIES // 4
    for part in np.array_split(np.arange(DOCUMENTS), 5):
        truth.add(engine, part)
        engine.commit()
    equal = agree(engine, truth, rng, share)

    rows = rng.permutation(DOCUMENTS)
    replaced, deleted, back = rows[:300], rows[200:600], rows[500:550]
    truth.replace(engine, rng, replaced)
    truth.delete(engine, deleted)
    truth.add(engine, back)
    engine.commit()
    equal += agree(engine, truth, rng, share)

    engine.add(truth.ids[:50].tolist(), documents(rng, 50))  # lost: it is not committed
    kind = request.node.callspec.params["new_engine"]
    if FULL and kind == "opensearch":  # test_opensearch.py does so each time
        node = request.getfixturevalue(kind)
        assert node.ours, "LEXLIP_OPENSEARCH_URL names a node that is not ours to kill"
        node.kill_and_start()
    engine.close()
    reader = new_engine("whole", "r")
    equal += agree(reader, truth, rng, share)

    engine = new_engine("whole")
    engine.compact()
    reader.reopen()
    assert len(reader) == len(engine)
    equal += agree(engine, truth, rng, QUERIES - 3 * share)
    seconds = time.monotonic() - begun
    print(f"\n| {kind} | {DOCUMENTS:,} | {equal}/{QUERIES} | {seconds:.0f} |")
    assert equal == QUERIES

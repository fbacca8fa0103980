from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest
from scipy.sparse import csr_array
from typer.testing import CliRunner

from eval.race import CONTENDERS, contender, engines, race, report, store
from eval.race.base import Contender, Vectors
from eval.race.engines import Settings
from eval.race.race import bandwidth
from eval.race.synthetic import dense, learned_sparse
from eval.race.truth import Truth, touched_bytes
from lexlip.errors import LexLIPError
from lexlip.storage.files import read_json

NUMBER = 300
# In the same process as the tests; pyserini wants a JVM of its own, Milvus Lite another
# interpreter, and others a server.
NEEDS = {
    "faiss-flat": "faiss",
    "faiss-hnsw32": "faiss",
    "seismic": "seismic",
    "bmp": "bmp",
    "splade-index": "splade_index",
}
APART = ("pyserini", "milvus-lite", "lucene", "opensearch", "milvus")
HERE = [name for name in CONTENDERS if name not in APART]
# Engines that a test can make up: the worker imports them from the folder that the test wrote.
MADE_UP = """
from eval.race.sparse import SciPy

class Liar(SciPy):
    name = "liar"
    def read(self, result):
        documents, scores = result
        return documents, [score + (score == max(scores)) for score in scores]

class Absent(SciPy):
    name = "absent"
    packages = ("no-such-thing",)
    def load(self):
        import no_such_thing

class Clumsy(SciPy):
    name = "clumsy"
    def build(self, vectors, folder):
        raise ValueError("out of thread")

class Better(SciPy):
    name = "better"
    exact = False
    settings = [{"kept": kept} for kept in (1, 2, 5, 30, 31)]
    def search(self, query, k):
        return super().search(query[: self.chosen["kept"]], k)
"""


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vectors")
    # Weights of a few values only: scores then tie often, which is what contracts are for.
    documents, queries = learned_sparse(NUMBER, "heavy", seed=4, queries=30)
    documents.data = 1 + documents.data % 3
    queries.data = 1 + queries.data % 2
    store.save_sparse(folder, documents, queries)
    store.save_dense_queries(
        folder, dense(NUMBER, seed=4, queries=30, out=folder / "documents.npy")[1]
    )
    return Vectors(folder)


@pytest.fixture(scope="module")
def truths(vectors):
    return {kind: Truth(vectors, kind, 10, 30) for kind in ("sparse", "dense")}


@pytest.fixture
def made_up(tmp_path, monkeypatch):
    (tmp_path / "made_up_engines.py").write_text(MADE_UP)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    yield
    sys.modules.pop("made_up_engines", None)


@pytest.fixture(autouse=True)
def short_stream(monkeypatch):
    monkeypatch.setattr(race, "STREAM", 16 * 2**20)


def small(tmp_path, *names, **changes):
    options = {"data": ("light",), "documents": (NUMBER,), "queries": 20}
    options |= {"rounds": 1, "seconds": 5.0, "checked": 20}
    options |= {"out": str(tmp_path / "out"), "scratch": str(tmp_path), "engine": names}
    return Settings(**{**options, **changes})


def answers(engine, vectors, k=10):
    queries = [engine.prepare(query) for query in vectors.queries(engine.kind)]
    found = [engine.read(engine.search(query, k)) for query in queries]
    return [list(map(int, d)) for d, _ in found], [list(map(float, s)) for _, s in found]


def test_truth_by_hand(tmp_path):
    documents = csr_array([[5, 0, 1], [0, 7, 0], [5, 0, 1], [9, 0, 0], [0, 0, 0]])
    store.save_sparse(tmp_path, documents, csr_array([[2, 0, 3], [0, 1, 0]]))
    truth = Truth(Vectors(tmp_path), "sparse", 3, 2)
    assert [(d.tolist(), s.tolist()) for d, s in truth.best] == [
        ([3, 0, 2], [18, 13, 13]),
        ([1], [7]),
    ]
    assert truth.scores(0, [4, 0]).tolist() == [0, 13]
    assert truth.recall([[3, 0, 2], [1]]) == 1
    assert truth.recall([[3, 3, 4], [4]]) == 1 / 4  # twice the same is one; 4 shares no term
    two = Truth(Vectors(tmp_path), "sparse", 2, 2)
    assert two.recall([[3, 2], [1]]) == 1  # 2 ties with 0 at the cut: as good
    # Term 0 in 3 documents, term 2 in 2, of 5: a byte each document is less than 3 a posting.
    assert touched_bytes(Vectors(tmp_path), "sparse") == ((5 + 5) + 3) / 2


def test_truth_agrees_with_plain_loops(vectors, truths):
    ends, terms, values = vectors.csr()
    queries = vectors.queries("sparse")
    for query, (documents, scores) in zip(queries[:5], truths["sparse"].best[:5], strict=True):
        weights = dict(zip(query.terms.tolist(), query.weights.tolist(), strict=True))
        every = [
            sum(
                weights.get(int(t), 0) * int(v)
                for t, v in zip(terms[a:b], values[a:b], strict=True)
            )
            for a, b in zip(ends[:-1], ends[1:], strict=True)
        ]
        right = sorted((d for d in range(NUMBER) if every[d]), key=lambda d: (-every[d], d))[:10]
        assert documents.tolist() == right and scores.tolist() == [every[d] for d in right]
    for query, (documents, _) in zip(vectors.queries("dense"), truths["dense"].best, strict=True):
        assert documents[0] == np.argmax(vectors.array("documents") @ query.weights)


@pytest.mark.parametrize("name", HERE)
def test_every_installed_contender(name, vectors, truths, tmp_path):
    if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
        pytest.skip(f"{NEEDS[name]} is not installed")
    engine = contender(name)()
    engine.load()
    index = tmp_path / "index"
    index.mkdir()
    engine.build(vectors, index)
    engine.open(index)
    engine.set(**engine.settings[-1])
    found, scores = answers(engine, vectors)
    truth = truths[engine.kind]
    if engine.exact:
        truth.check(type(engine), found, scores)
    # BMP scales the weights of a query, which swaps near neighbours.
    assert truth.recall(found) >= (1.0 if engine.exact else 0.97)
    assert engine.versions().keys() == set(engine.packages)
    engine.close()


@pytest.mark.java
def test_lucene(vectors, truths, tmp_path):
    test_every_installed_contender("lucene", vectors, truths, tmp_path)


@pytest.mark.parametrize("fault", ["score", "document", "order", "twice", "short"])
def test_an_exact_engine_that_errs_is_refused(vectors, truths, fault):
    class Engine(Contender):
        name, ordered = "engine", fault == "order"

    truth = truths["sparse"]
    found = [documents.tolist() for documents, _ in truth.best]
    scores = [values.tolist() for _, values in truth.best]
    truth.check(Engine, found, scores)
    tied = next(i for i, values in enumerate(scores) if values[3] == values[4])
    if fault == "score":
        scores[7][9] += 1
    elif fault == "document":
        other = next(d for d in range(NUMBER) if truth.scores(7, [d])[0] != scores[7][0])
        found[7][0] = other
    elif fault == "twice":
        found[tied][4] = found[tied][3]
    elif fault == "short":
        found[7], scores[7] = found[7][:-1], scores[7][:-1]
    else:  # right scores, but ties in the wrong order: only contract keepers must not
        found[tied][3:5] = found[tied][4], found[tied][3]
        truth.check(contender("splade-index"), found, scores)
    with pytest.raises(LexLIPError, match="engine is not exact, so it is not timed: query"):
        truth.check(Engine, found, scores)


def test_a_whole_race(tmp_path, made_up, monkeypatch):
    names = ("postings", "numpy", "made_up_engines:Absent", "made_up_engines:Better", "milvus-lite",
             "made_up_engines:Clumsy")  # fmt: skip
    monkeypatch.delenv("LEXLIP_MILVUS_PYTHON", raising=False)
    results = engines.run(small(tmp_path, *names))
    saved = read_json(tmp_path / "out" / "metrics.json")
    assert saved["rows"] == results["rows"]
    assert [row["engine"] for row in saved["rows"]] == ["postings", "numpy", "better"]
    for row in saved["rows"]:
        assert row["n"] == NUMBER and row["k"] == 10 and row["threads"] == 1
        assert row["data"] == "light" and row["queries"] == 20
        assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"] and row["qps"] > 0
        assert min(row["build_s"], row["open_s"], row["bytes_per_image"], row["peak_mb"]) > 0
    ours, flat, better = saved["rows"]
    assert ours["exact"] and ours["recall_at_10"] == 1 and ours["settings"] == {}
    assert flat["bytes_per_image"] == pytest.approx(4 * 512, rel=0.01)
    # Raised until good enough, and no further.
    assert not better["exact"] and better["settings"]["kept"] == 30 and better["reached"]
    assert better["floor_ms"] is None
    (floor,) = saved["floors"]
    assert floor["dense"]["bytes"] == NUMBER * 512 * 4 and floor["bandwidth_gb_s"] > 0
    assert flat["times_floor"] == pytest.approx(flat["p50_ms"] / floor["dense"]["ms"])
    assert {"cpus", "processor", "load"} <= saved["machine"].keys() and saved["command"]
    assert saved["settings"]["seed"] == 0 and saved["versions"]["numpy"] == np.__version__
    absent, milvus, clumsy = saved["left_out"]
    assert "absent is left out" in absent and "pip install no-such-thing" in absent
    assert "LEXLIP_MILVUS_PYTHON is not set" in milvus and "milvus-lite pymilvus" in milvus
    assert clumsy == "clumsy failed at build: ValueError: out of thread"
    text = (tmp_path / "out" / "table.txt").read_text()
    assert absent in text and "light, 300 documents, k = 10" in text and "better: kept 30" in text
    assert (tmp_path / "out" / "engines.png").read_bytes().startswith(b"\x89PNG")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("lexlip-race-")]


def test_a_liar_stops_the_race(tmp_path, made_up):
    with pytest.raises(LexLIPError, match="liar is not exact"):
        engines.run(small(tmp_path, "scipy", "made_up_engines:Liar"))
    assert not (tmp_path / "out").exists()


def test_threads_share_the_queries(tmp_path):
    rows = engines.run(small(tmp_path, "scipy", checked=5, threads=2))["rows"]
    assert rows[0]["threads"] == 2 and rows[0]["queries"] == 20


def row(engine, p50, kind="sparse", exact=True, n=10, data="light"):
    values = dict.fromkeys(
        ("p95_ms", "p99_ms", "cpu_ms", "qps", "build_s", "open_s", "peak_mb"), 1.0
    )
    values |= {"bytes_per_image": 1.0, "recall_at_10": 0.99, "times_floor": None, "reached": True}
    row = {"engine": engine, "p50_ms": p50, "kind": kind, "exact": exact, "n": n, "data": data}
    return {**values, **row, "k": 10, "settings": {}, "threads": 1}


def test_ratios_are_computed_and_point_the_right_way():
    rows = [
        row("lucene", 4.0),
        row("postings", 0.5),
        row("faiss-hnsw32", 0.25, "dense", exact=False),
        row("numpy", 60.0, "dense"),
        row("faiss-flat", 50.0, "dense"),
    ]
    lucene, ours, graph, slow, flat = report.ratios(rows)
    assert lucene == {"to_postings": 8.0, "to_dense": 12.5}  # 8 times slower than ours
    assert ours == {"to_postings": 1.0, "to_dense": 100.0}  # 100 times faster than dense
    assert graph == {"to_postings": 0.5, "to_dense": 200.0}  # no reference: it is not exact
    assert slow["to_dense"] == pytest.approx(50 / 60) and flat["to_dense"] == 1.0
    assert report.ratios(rows[:1]) == [{"to_postings": None, "to_dense": None}]


def test_the_table_compares_within_a_race_and_sorts(vectors):
    rows = [row("lucene", 4.0), row("postings", 0.5), row("postings", 2.0, n=20)]
    rows += [row("lucene", 6.0, n=20)]
    results = {"machine": {"cpus": 2, "processor": "p", "load": [1]}, "date": "d", "rows": rows}
    results |= {"settings": {"seed": 0}, "floors": [], "left_out": ["x is left out"]}
    lines = report.table(results).splitlines()
    column = report.HEADS.index("x postings")
    cells = [line.split() for line in lines if line.startswith(("lucene", "postings"))]
    assert [(c[0], c[column]) for c in cells] == [
        ("postings", "1.00"), ("lucene", "8.00"), ("postings", "1.00"), ("lucene", "3.00")
    ]  # fmt: skip
    assert lines[-1] == "x is left out"


def test_bandwidth_is_bytes_a_second(monkeypatch):
    clock = iter(np.arange(100) * 0.001)  # every slice of 4 MiB takes a millisecond
    monkeypatch.setattr(race.time, "perf_counter", lambda: next(clock))
    assert bandwidth(np.ones(2**21, dtype=np.int64)) == pytest.approx(4 * 2**20 / 0.001)


def test_vectors_from_a_file(tmp_path):
    documents, queries = learned_sparse(40, seed=1, queries=6)
    path = tmp_path / "vectors.npz"
    store.write_file(path, documents, queries)
    settings = small(tmp_path, "scipy", "numpy", data=("flickr",), vectors=str(path))
    results = engines.run(settings)
    assert [(r["engine"], r["data"], r["n"]) for r in results["rows"]] == [("scipy", "flickr", 40)]
    assert results["left_out"] == ["numpy is left out of flickr: no dense vectors in the file"]
    pair = dense(40, 8, queries=6)
    store.write_file(path, documents, queries, pair)
    (tmp_path / "unpacked").mkdir()
    assert store.unpack(path, tmp_path / "unpacked") == 40
    unpacked = Vectors(tmp_path / "unpacked")
    assert np.array_equal(unpacked.array("documents"), pair[0])
    assert np.array_equal(unpacked.array("queries"), pair[1])
    assert np.array_equal(unpacked.csr()[2], documents.data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d, q: (d * 2, q), "1..255"),
        (lambda d, q: (d.astype(float), q), "quantise"),
        (lambda d, q: (d, q * 2), "1..64"),
        (lambda d, q: (d, q[:, :100]), "same vocabulary"),
    ],
)
def test_a_file_that_no_engine_would_take_is_not_written(tmp_path, change, message):
    with pytest.raises(LexLIPError, match=message):
        store.write_file(tmp_path / "v.npz", *change(*learned_sparse(40, seed=1, queries=6)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("pair", [(6, 0), (0, 40), (-1, 0)])
def test_judgements_of_what_is_not_in_the_file_are_refused(tmp_path, pair):
    with pytest.raises(LexLIPError, match="judgements"):
        store.write_file(
            tmp_path / "v.npz", *learned_sparse(40, seed=1, queries=6), qrels=np.array([pair])
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["engine=lucent"], "no engine 'lucent': choose from postings"),
        (["engine=eval.nothing:Engine"], "no engine 'eval.nothing:Engine'"),
        (["data=medium"], "no data 'medium'"),
        (["data=flickr"], "give vectors=FILE"),
        (["vectors=nothing.npz"], "nothing.npz is not a file of vectors"),
        (["rounds=0"], "1 or more"),
    ],
)
def test_wrong_options_are_one_line(tmp_path, options, message):
    places = [f"out={tmp_path / 'out'}", f"scratch={tmp_path}"]
    done = CliRunner().invoke(engines.app, [*options, *places])
    assert done.exit_code == 2 and message in done.output
    assert not (tmp_path / "out").exists()

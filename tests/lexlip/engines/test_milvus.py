"""The engine Milvus alone: a server that is killed, away or wrong, a file that is in use."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import closing

import numpy as np
import pytest
from scipy.sparse import csr_array

from lexlip import Index
from lexlip.engines import Hit, MilvusEngine, check_engine, open_engine
from lexlip.engines.base import Condition
from lexlip.engines.builds import begin_build, check_build, drop_build
from lexlip.engines.milvus import checks, documents, errors, making, reading, state, view
from lexlip.engines.milvus.place import Place
from lexlip.errors import LexLIPError
from lexlip.filters.columns import Column
from lexlip.filters.where import Where
from lexlip.impacts import MAX_IMPACT, MAX_QUERY_TERMS, MAX_QUERY_WEIGHT
from tests.support.oracles import as_dicts, collection, metadata, oracle, queries

pytestmark = pytest.mark.xdist_group("milvus")


@pytest.fixture
def open_at(tmp_path):
    """Return a function: open an engine, which is closed at the end."""
    made = []

    def open_at(place, mode="w", name="index"):
        made.append(MilvusEngine(tmp_path / name, mode, place))
        return made[-1]

    yield open_at
    for engine in made:
        engine.close()


@pytest.fixture
def small_answers(monkeypatch):
    """Answers of 64 rows at the most, as if indexes were large."""
    for module in (view, reading):
        monkeypatch.setattr(module, "CAP", 64)
    monkeypatch.setattr(view.View.query, "__defaults__", (64,))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of one's own."""
    from tests.support.milvus import StartedServer, why_not

    pytest.importorskip("milvus_lite")
    if reason := why_not():
        pytest.skip(reason)
    if int(pytest.importorskip("importlib.metadata").version("milvus-lite")[0]) < 3:
        pytest.skip("Milvus Lite 2 has no server")
    started = StartedServer(tmp_path_factory.mktemp("server"))
    yield started
    started.stop()


WRITER = """
import sys
from scipy.sparse import csr_array
from lexlip.engines import MilvusEngine
engine = MilvusEngine(sys.argv[1], "w", sys.argv[2])
number = 0
while True:
    engine.add([f"n{number + i}" for i in range(50)], csr_array([[2]] * 50))
    number += 50
    print(number, flush=True)
    if number % 150 == 0:
        engine.commit()
        print("committed", number, flush=True)
"""


def test_a_killed_server_and_a_killed_writer_keep_the_last_commit(server, tmp_path, open_at):
    place = f"{server.uri}/killed"
    for killed in ("server", "writer"):
        command = [sys.executable, "-c", WRITER, tmp_path / "index", place]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as writer:
            lines = []
            while len(lines) < 7:
                lines.append(writer.stdout.readline().decode())
                assert lines[-1], writer.stderr.read().decode()
            if killed == "server":
                server.kill()
                server.start()
            writer.kill()
            lines += writer.stdout.read().decode().splitlines()
        committed = max(int(it.split()[1]) for it in lines if "committed" in it)
        engine = open_at(place)
        # A commit that the server was just making may be there.
        assert len(engine) in (committed, committed + 150)
        assert len(engine.search({0: 1}, 10**6)) == len(engine) == len(set(engine.ids()))
        assert engine.verify() == []
        engine.add(["after"], csr_array([[9]]))
        engine.commit()
        assert engine.search({0: 1}, 1) == [Hit("after", 9)]
        engine.delete(["after"])
        engine.compact()
        engine.close()


def test_a_server_that_was_killed_answers_like_a_dictionary(server, open_at):
    place = f"{server.uri}/dictionary"
    engine = open_at(place)
    ids, impacts = collection(300, seed=31)
    engine.add(ids, impacts, {"year": list(range(300))})
    engine.delete(ids[:20])
    engine.commit()
    reader = open_at(place, "r")
    engine.add(ids[250:], impacts[:50])  # never committed
    engine.delete(ids[20:60])
    server.kill()
    server.start()
    documents = as_dicts(ids[20:], impacts[20:])
    assert {hit.id for hit in reader.search({0: 1}, 999)} == documents.keys()
    engine.close()
    again = open_at(place)
    for terms in queries(32, 10):
        assert again.search(terms, 50) == oracle(documents, terms, 50)
    assert again.fetch([ids[299]]) == [{"year": 299}] and again.verify() == []


def test_a_writer_that_died_in_its_commit_changes_nothing(milvus, open_at):
    place = milvus.place()
    engine = open_at(place)
    ids, impacts = collection(50, seed=33)
    engine.add(ids, impacts)
    engine.commit()
    engine.add(ids[:10], impacts[10:20])
    engine.delete(ids[40:])
    writer, client = engine._writer, engine._view.client
    # All that a commit does before its last step: it says which rows are dead.
    (note,) = state._pack(np.arange(5, 25))
    row = documents.note(-writer.state.last - 1, note)
    client.insert(engine.place.name, [row])
    truth = as_dicts(ids, impacts)
    assert engine.search({0: 3}, 99) == oracle(truth, {0: 3}, 99) and not engine.stale()
    engine.close()
    again = open_at(place)
    assert again.search({0: 3}, 99) == oracle(truth, {0: 3}, 99)
    again.add(["new"], impacts[:1])
    again.delete([ids[7]])
    again.commit()
    truth["new"] = truth[ids[0]]
    del truth[ids[7]]
    for terms in queries(34, 8):
        assert again.search(terms, 99) == oracle(truth, terms, 99)
    left = client_rows(again, "row < 0")
    assert len(left) == 2  # the newest state and its note; what was before is gone


def has_aliases(engine):
    """Whether the server has aliases; Milvus Lite 2 has none."""
    try:
        return bool(engine._client.milvus.list_aliases(engine.place.name))
    except Exception as error:
        assert errors.unimplemented(error)
        return False


def client_rows(engine, expression):
    return engine._view.query(expression, ["row"])


def test_two_documents_come_in_the_right_order(milvus, open_at, monkeypatch):
    open_at(milvus.place()).close()
    monkeypatch.setattr(making, "_CASE", making._CASE[::-1])  # as a server that ranks wrongly
    with pytest.raises(LexLIPError, match="ranks wrongly: inner products are 1.0 of"):
        open_at(milvus.place(), name="other")


@pytest.mark.parametrize("version", ["3.0", "3.0.1", "3.1.1", "3.2.0", "3.2.1", "3.2.1.post1"])
def test_versions_that_rank_wrongly_are_refused_by_name(open_at, tmp_path, monkeypatch, version):
    monkeypatch.setattr("importlib.metadata.version", lambda _: version)
    with pytest.raises(LexLIPError, match=f"milvus-lite {version} ranks wrongly"):
        open_at(f"{tmp_path}/lexlip.db/photos")
    with pytest.raises(LexLIPError, match="ranks wrongly"):
        check_build(f"milvus:{tmp_path}/lexlip.db/photos", tmp_path)
    for fine in ("2.5.1", "3.2.2", "3.2.10", "3.3.0", "3.10.0"):
        monkeypatch.setattr("importlib.metadata.version", lambda _, fine=fine: fine)
        checks.check_installed(Place.parse(f"{tmp_path}/lexlip.db/photos"))


def test_the_largest_query_has_a_filter_too(milvus, open_at):
    engine, n = open_at(milvus.place()), MAX_QUERY_TERMS
    engine.add(["a", "b"], csr_array(np.full((2, n), MAX_IMPACT)), {"year": [1, 2]})
    engine.commit()
    terms = dict.fromkeys(range(n), MAX_QUERY_WEIGHT)
    top = n * MAX_IMPACT * MAX_QUERY_WEIGHT
    where = Where.parse("year == 2")
    assert engine.search(terms, 5, where, [Condition((3, 4), 255)]) == [Hit("b", top)]
    assert engine.search(terms, 5, where, [Condition(tuple(range(n)))]) == [Hit("b", top)]
    assert engine.search(terms, 5, where, [Condition((3,), present=False)]) == []


def test_more_than_an_answer_holds(milvus, open_at, small_answers):
    engine = open_at(milvus.place())
    ids, impacts = collection(300, seed=35, high=2)
    columns, rows = metadata(300)
    engine.add(ids, impacts, columns)
    engine.commit()
    engine.add(ids[:90], impacts[:90])  # most of the first answer is dead
    engine.delete(ids[90:100])
    engine.commit()
    truth = as_dicts(ids, impacts)
    for name in ids[90:100]:
        del truth[name]
    for terms in queries(36, 4):
        for k in (1, 20, 63, 64, 65, 200, 10**9):
            assert engine.search(terms, k) == oracle(truth, terms, k)
    kept = {n: truth[n] for n, row in zip(ids, rows, strict=True) if n in truth}
    kept = {n: t for n, t in kept.items() if n in ids[100:] and rows[ids.index(n)].get("good")}
    for k in (5, 500):
        assert engine.search({0: 1}, k, Where.parse("good")) == oracle(kept, {0: 1}, k)
        rare = {n: t for n, t in truth.items() if t.get(3, 0) >= 2}
        assert engine.search({0: 1}, k, None, [Condition((3,), 2)]) == oracle(rare, {0: 1}, k)
    among = ids[50:140]
    some = {n: t for n, t in truth.items() if n in among}
    assert engine.search({0: 1}, 10, among=among) == oracle(some, {0: 1}, 10)
    assert sorted(engine.ids()) == sorted(truth) and engine.matching(Where.parse("good")) == len(
        kept
    )
    assert engine.verify() == []
    assert reading.CAP < documents.CAP == 16_384


OPERATORS = {"year": ("==", "!=", "<", "<=", ">", ">="), "size": ("<", ">=", "=="),
             "folder": ("==", "!=", "<", ">=")}  # fmt: skip


def random_filter(rng, depth=0):
    if depth < 3 and rng.random() < 0.6:
        one, two = random_filter(rng, depth + 1), random_filter(rng, depth + 1)
        return rng.choice([f"not ({one})", f"({one}) and ({two})", f"({one}) or ({two})"])
    column = rng.choice(["year", "size", "folder", "good", "in", "none", "late", "text"])
    value = {"year": rng.integers(1998, 2022), "size": round(float(rng.random()), 2)}.get(
        column, repr(str(rng.choice(["trip", "home", "Ünï", "x", 'q"\\'])))
    )
    if column == "in":
        return f"year in ({rng.integers(2000, 2020)}, -3, {rng.integers(2000, 2020)})"
    if column == "text":
        return (
            f"folder.{rng.choice(['startswith', 'contains'])}({str(rng.choice(['t', 'i', 'Ü']))!r})"
        )
    simple = {"good": "good", "none": "folder is None", "late": "late not in (1, 2)"}
    return simple.get(column) or f"{column} {rng.choice(OPERATORS[column])} {value}"


def test_random_filters_leave_nothing_out(milvus, open_at):
    engine, rng = open_at(milvus.place()), np.random.default_rng(41)
    columns, rows = metadata(200)
    ids, impacts = collection(200)
    late = [None if n < 120 or n % 3 else n % 4 for n in range(200)]
    columns["late"] = late
    for part in (slice(0, 120), slice(120, 200)):  # the first half does not know the last column
        some = {name: values[part] for name, values in columns.items()}
        engine.add(ids[part], impacts[part], some if part.stop > 120 else {
            name: values for name, values in some.items() if name != "late"})  # fmt: skip
        engine.commit()
    table = {name: Column.of(values) for name, values in columns.items()}
    for _ in range(60):
        where = Where.parse(random_filter(rng))
        wanted = where.mask(table)
        assert engine.matching(where) == wanted.sum(), where.text
        found = {hit.id for hit in engine.search({0: 1}, 500, where)}
        assert found == {ids[row] for row in np.flatnonzero(wanted)}, where.text


def test_readers_are_told_of_a_compaction(milvus, open_at, monkeypatch):
    place = milvus.place()
    engine = open_at(place)
    engine.add(["a", "b"], csr_array([[1], [2]]))
    engine.commit()
    reader = open_at(place, "r")
    engine.add(["b"], csr_array([[9]]))
    engine.commit()
    assert reader.search({0: 1}, 5) == [Hit("b", 2), Hit("a", 1)]
    assert engine.stats()["postings"] == 3
    engine.compact()
    assert engine.stats()["postings"] == 2
    monkeypatch.setattr("lexlip.engines.distant.LOOK", 0.0)
    with pytest.raises(LexLIPError, match="compacted by its writer: open it again"):
        reader.search({0: 1}, 5)
    assert reader.reopen() and reader.search({0: 1}, 5) == [Hit("b", 9), Hit("a", 1)]


def test_an_index_belongs_to_one_folder(milvus, open_at, tmp_path):
    place = milvus.place()
    engine = open_at(place)
    engine.add(["a"], csr_array([[1]]))
    engine.commit()
    if has_aliases(engine):
        with pytest.raises(LexLIPError, match="there is an index .* already"):
            open_at(place, name="other")
    with pytest.raises(LexLIPError, match="names no index"):
        (tmp_path / "empty").mkdir()
        open_at(place, "r", "empty")
    shutil.copytree(tmp_path / "index", tmp_path / "copy")
    (tmp_path / "copy" / "LOCK").unlink()
    copied = open_at(place, name="copy")  # a writer on another machine
    for change in (lambda: engine.add(["b"], csr_array([[2]])), lambda: engine.delete(["a"])):
        with pytest.raises(LexLIPError, match="open for writing elsewhere"):
            change()
        with pytest.raises(LexLIPError, match="earlier change .* failed: open it again"):
            engine.commit()
        engine._failed = False
    engine._writer._gone.add("a")
    with pytest.raises(LexLIPError, match="open for writing elsewhere"):
        engine.commit()
    copied.add(["c"], csr_array([[3]]))
    copied.commit()
    assert engine.reopen() and engine.search({0: 1}, 5) == [Hit("c", 3), Hit("a", 1)]
    collection = engine.place.name
    told = json.loads((tmp_path / "index" / "milvus.json").read_text())
    (tmp_path / "empty" / "milvus.json").write_text(json.dumps({**told, "owner": "nobody"}))
    with pytest.raises(LexLIPError, match="another index than that"):
        open_at(place, "r", "empty")
    engine._view.client.delete(collection, filter="row < 0")
    with pytest.raises(LexLIPError, match="holds nothing of lexlip"):
        open_at(place, "r")
    engine._view.client.drop_collection(collection)
    for call in (lambda: engine.search({0: 1}, 1), engine.stale, lambda: open_at(place, "r")):
        with pytest.raises(LexLIPError, match="there is no collection .*: was it deleted"):
            call()


def test_documents_that_go_missing_are_damage(milvus, open_at):
    engine = open_at(milvus.place())
    engine.add(["a", "b"], csr_array([[1], [2]]))
    engine.commit()
    engine._view.client.delete(engine.place.name, filter="row == 0")
    assert engine.verify() == [f"{engine.place} is damaged: 1 documents of 2"]


def test_what_milvus_does_not_take_is_refused_before_anything_is_sent(milvus, open_at):
    engine = open_at(milvus.place())
    wide = csr_array(np.ones((1, 4096), int))
    with pytest.raises(LexLIPError, match="'wide' has 4097 terms and values: Milvus takes 4096"):
        engine.add(["wide"], wide, {"year": [1]})
    long = {"one": ["x" * 32_000], "two": ["y" * 32_000], "three": ["z" * 32_000]}
    with pytest.raises(LexLIPError, match="the metadata of 'long' has 96,030 bytes"):
        engine.add(["long"], csr_array([[1]]), long)
    engine.add(["wide"], wide)
    engine.add(["long"], csr_array([[1]]), {"one": long["one"], "two": long["two"]})
    engine.commit()
    assert len(engine) == 2 and engine.impacts(["wide"]).nnz == 4096
    assert engine.fetch(["long"])[0]["two"] == "y" * 32_000


def test_infinity_is_a_number(milvus, open_at):
    engine = open_at(milvus.place())
    values = [float("inf"), float("-inf"), 2.5, None]
    engine.add(list("abcd"), csr_array(np.ones((4, 1), int)), {"x": values})
    engine.commit()
    assert engine.fetch(list("abcd")) == [{"x": v} if v is not None else {} for v in values]
    assert [v for _, v in engine.ordered("x", 9)] == [float("inf"), 2.5, float("-inf")]
    assert [hit.id for hit in engine.search({0: 1}, 9, Where.parse("x > 3"))] == ["a"]
    assert [hit.id for hit in engine.search({0: 1}, 9, Where.parse("not x > -3"))] == ["b", "d"]


def test_an_index_in_milvus_is_an_index(milvus, model, images, tmp_path, monkeypatch):
    monkeypatch.setenv("LEXLIP_MILVUS_TOKEN", "ada:secret-word")
    pictures = {f"{n:02}": image for n, image in enumerate(images)}
    some, rest = dict(list(pictures.items())[:8]), dict(list(pictures.items())[8:])
    place = f"milvus:{milvus.place()}?timeout=20"
    found = []
    for engine in ("postings", place):
        path = tmp_path / engine[:4]
        with Index.create(path, model, some, engine=engine) as index:
            index.add(rest)
            index.delete(["03"])
        with Index.open(path, model=model) as index:
            hits = index.search("a red circle", k=20)
            parts = index.explain(hits[0].id, "a red circle")
            found.append((hits, parts, sorted(index.engine.ids()), len(index)))
    assert found[0] == found[1] and len(found[0][0]) > 3
    text = (tmp_path / "milv" / "manifest.json").read_text()
    assert json.loads(text)["engine"] == place
    assert not any(b"secret" in it.read_bytes() for it in tmp_path.rglob("*") if it.is_file())


def test_a_replacement_keeps_the_name_and_one_build_before(milvus, model, images, tmp_path):
    pictures = {f"{n:02}": image for n, image in enumerate(images)}
    place, path = milvus.place(), tmp_path / "photos.lex"
    names, readers = [], []
    for count in (4, 6, 8):
        some = dict(list(pictures.items())[:count])
        Index.create(path, model, some, engine=f"milvus:{place}", replace=True).close()
        readers.append(Index.open(path, model=model))
        names.append(readers[-1].stats()["cluster_index"])
        assert [len(index) for index in readers[-2:]] == [count - 2, count][-len(readers) :]
        assert len(readers[-1].search("a red circle", k=99)) == count
    milvus_client = readers[-1].engine._client.milvus
    there = set(milvus_client.list_collections())
    assert len(set(names)) == 3 and there & set(names) == set(names[1:])
    if has_aliases(readers[-1].engine):
        assert milvus_client.describe_alias(place.rpartition("/")[2])["collection_name"] == names[2]
    assert len(readers[1].search("a red circle", k=99)) == 6  # a reader keeps its build
    with pytest.raises(LexLIPError, match="was it deleted"):
        readers[0].search("a red circle")
    kind, folder = f"milvus:{place}", tmp_path / "new"
    begin_build(kind, folder, path / "engine")  # the build before the served one goes
    with closing(open_engine(kind, folder, "w")) as engine:
        engine.add(["a"], csr_array([[1]]))
        engine.commit()
        made = engine.place.name
    there = set(milvus_client.list_collections())
    assert made in there and there & set(names) == {names[2]}
    drop_build(kind, folder)
    assert made not in milvus_client.list_collections()
    for index in readers:
        index.close()


def test_a_file_that_is_in_use_is_one_line(tmp_path, open_at):
    pytest.importorskip("milvus_lite")
    place = f"{tmp_path}/used.db/photos"
    open_at(place)
    code = "from lexlip.engines import MilvusEngine as E; E(*__import__('sys').argv[1:])"
    command = [sys.executable, "-c", code, tmp_path / "two", "w", place]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "end the other program that has it open" in done.stderr.splitlines()[-1]


def test_a_file_is_let_go_of(tmp_path, open_at):
    pytest.importorskip("milvus_lite")
    place = f"{tmp_path}/let_go.db/photos"
    first, second = open_at(place), open_at(f"{place}_2", name="other")
    first.add(["a"], csr_array([[1]]))
    first.commit()
    second.close()
    assert first.search({0: 1}, 1) == [Hit("a", 1)]
    first.close()
    code = """
import sys
from lexlip.engines import MilvusEngine
with_it = MilvusEngine(sys.argv[1], "r", sys.argv[2])
print(with_it.search({0: 1}, 1))
with_it.close()
"""
    command = [sys.executable, "-c", code, tmp_path / "index", place]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == "[Hit(id='a', score=1)]\n" and not done.stderr


def test_a_server_that_is_away_is_one_line(open_at):
    pytest.importorskip("pymilvus")
    for _ in range(2):  # the folder was let go of
        with pytest.raises(LexLIPError, match="cannot be reached: is it running"):
            open_at("http://127.0.0.1:9/photos?timeout=1")


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("deadline exceeded", "did not answer within 30 s"),
        ("auth check failure, please check api key is correct", "set LEXLIP_MILVUS_TOKEN"),
        ("write: no space left on device", "its disk is full"),
        ("SSL handshake failed", "set LEXLIP_MILVUS_CA"),
        ("something\nelse", "something else"),
    ],
)
def test_what_a_server_says_is_one_line(said, line):
    exceptions = pytest.importorskip("pymilvus.exceptions")
    place = Place.parse("http://127.0.0.1/photos")
    with pytest.raises(LexLIPError) as error, errors.readable(place):
        raise exceptions.MilvusException(code=1, message=said)
    assert line in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("milvus", "has no place"),
        ("milvus:photos", "has no place"),
        ("milvus:http://127.0.0.1:19530/9photos", "is no name of an index"),
        ("milvus:http://127.0.0.1:19530/my-photos", "is no name of an index"),
        ("milvus:http://ada:word@127.0.0.1/photos", "a place holds no password"),
        ("milvus:http://127.0.0.1:99999/photos", "is no server of Milvus"),
        ("milvus:ftp://127.0.0.1/photos", "is no server of Milvus"),
        ("milvus:/home/me/photos.txt/photos", "is no name of a file"),
        ("milvus:/home/me/" + "x" * 40 + ".db/photos", "is no name of a file"),
        ("milvus:here.db/photos", "the manifest keeps the place"),
        ("milvus:http://127.0.0.1/photos?shards=0", "shards=0"),
        ("milvus:http://127.0.0.1/photos?colour=red", "colour=red"),
    ],
)
def test_a_place_that_is_none_is_refused(kind, line):
    with pytest.raises(LexLIPError, match=line) as error:
        check_engine(kind)
    assert "word@" not in str(error.value)


def test_a_place_is_a_file_too():
    place = Place.parse("/home/me/photos.db/photos?timeout=5")
    assert (place.uri, place.name, place.embedded) == ("/home/me/photos.db", "photos", True)
    assert str(place) == "/home/me/photos.db/photos"

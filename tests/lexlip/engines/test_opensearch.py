"""The engine OpenSearch alone: a cluster that is away, killed, busy, or another's."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array

from lexlip import Index
from lexlip.engines import Hit, OpenSearchEngine, check_engine
from lexlip.engines.base import Condition
from lexlip.engines.opensearch import bulk, paging, view
from lexlip.engines.opensearch.place import Place
from lexlip.errors import LexLIPError
from lexlip.filters.where import Where
from lexlip.impacts import MAX_IMPACT, MAX_QUERY_TERMS, MAX_QUERY_WEIGHT
from tests.support.oracles import as_dicts, collection, oracle, queries

real = [pytest.mark.engine, pytest.mark.xdist_group("opensearch")]


@pytest.fixture
def open_at(tmp_path):
    """Return a function: open an engine, which is closed at the end."""
    made = []

    def open_at(place, mode="w", name="index"):
        made.append(OpenSearchEngine(tmp_path / name, mode, place))
        return made[-1]

    yield open_at
    for engine in made:
        engine.close()


class Real:
    """Tests with a node."""

    pytestmark = real


class TestANode(Real):
    def test_a_killed_node_keeps_the_last_commit(self, opensearch, open_at):
        if not opensearch.ours:
            pytest.skip("the node of LEXLIP_OPENSEARCH_URL is not ours to kill")
        place = opensearch.place()
        engine = open_at(place)
        ids, impacts = collection(400, seed=31)
        engine.add(ids[:300], impacts[:300], {"year": list(range(300))})
        engine.delete(ids[:20])
        engine.commit()
        reader = open_at(place, "r")
        engine.add(ids[250:], impacts[250:])  # never committed: some replaced, some new
        engine.delete(ids[20:60])
        opensearch.kill_and_start()
        documents = as_dicts(ids[20:300], impacts[20:300])
        assert {hit.id for hit in reader.search({0: 1}, 999)} == documents.keys()
        with pytest.raises(LexLIPError, match="open for writing elsewhere"):
            open_at(place)
        engine.close()
        again = open_at(place)
        for terms in queries(32, 10):
            assert again.search(terms, 50) == oracle(documents, terms, 50)
        assert again.stats()["documents"] == len(documents) == len(again.ids())
        assert again.fetch([ids[299]]) == [{"year": 299}] and again.verify() == []
        again.add(ids[:20], impacts[:20])
        again.commit()
        assert len(again) == 300 and reader.reopen() and len(reader) == 300

    def test_a_writer_that_died_in_its_commit_changes_nothing(self, opensearch, open_at):
        place = opensearch.place()
        engine = open_at(place)
        ids, impacts = collection(50, seed=33)
        engine.add(ids, impacts)
        engine.commit()
        engine.add(ids[:10], impacts[10:20])
        engine.delete(ids[40:])
        writer = engine._writer
        found = engine._view.find(
            ids[:10] + ids[40:]
        )  # all that a commit does before its last step
        writer._mark([hit["_id"] for hit in found.values()], writer.coming)
        writer.refresh()
        documents = as_dicts(ids, impacts)
        assert engine.search({0: 3}, 99) == oracle(documents, {0: 3}, 99)
        engine.close()
        again = open_at(place)
        again.add(["new"], impacts[:1])
        again.commit()  # takes the number that the other commit would have had
        documents["new"] = documents[ids[0]]
        for terms in queries(34, 8):
            assert again.search(terms, 99) == oracle(documents, terms, 99)

    def test_the_largest_query_has_a_filter_too(self, opensearch, open_at):
        engine, n = open_at(opensearch.place()), MAX_QUERY_TERMS
        engine.add(["a", "b"], csr_array(np.full((2, n), MAX_IMPACT)), {"year": [1, 2]})
        engine.commit()
        terms = dict.fromkeys(range(n), MAX_QUERY_WEIGHT)
        top = n * MAX_IMPACT * MAX_QUERY_WEIGHT
        where = Where.parse("year == 2")
        assert engine.search(terms, 5, where, [Condition((3, 4), 255)]) == [Hit("b", top)]
        assert engine.search(terms, 5, where, [Condition((3,), present=False)]) == []

    def test_conditions_on_all_terms_of_a_large_query(self, opensearch, open_at):
        engine, n = open_at(opensearch.place()), MAX_QUERY_TERMS
        full = np.full((4, n), MAX_IMPACT)
        full[1, n - 1], full[2, 7] = 0, 254
        engine.add(list("abcd"), csr_array(full), {"year": [1, 1, 1, 2]})
        engine.commit()
        every, top = tuple(range(n)), n * MAX_IMPACT * MAX_QUERY_WEIGHT
        terms = dict.fromkeys(every, MAX_QUERY_WEIGHT)
        scores = dict(zip("acbd", (top, top - MAX_QUERY_WEIGHT, 0, top), strict=True))
        one_each = [Condition((term,), MAX_IMPACT) for term in every]
        many = " or ".join(f"year == {year}" for year in range(10, 1009)) + " or year == 1"
        for conditions, text, found in [
            ([Condition(every)], None, "adc"),
            ([Condition(every)], "year == 1", "ac"),
            ([Condition(every, MAX_IMPACT)], None, "ad"),
            (one_each, "year != 2", "a"),
            ([Condition(every, present=False)], None, "b"),
            ([Condition(every, MAX_IMPACT, present=False)], None, "cb"),
            ([Condition(every)], many, "ac"),
            ([Condition(every[:500]), Condition(every[500:], present=False)], many, "b"),
        ]:
            where = None if text is None else Where.parse(text)
            hits = engine.search(terms, 9, where, conditions)
            assert [hit.id for hit in hits] == list(found), (len(conditions), str(text)[:20])
            assert all(hit.score == scores[hit.id] for hit in hits if hit.id != "b")
            assert engine.search({3: 2}, 9, where, conditions) == sorted(
                Hit(id, 2 * MAX_IMPACT) for id in found
            )
        wide = Where.parse(many.replace("==", "!=").replace(" or ", " and "))
        assert engine.matching(wide) == 1 and engine.ordered(None, 9, wide) == [("d", None)]

    def test_pages_have_every_document_once(self, opensearch, open_at, monkeypatch):
        engine = open_at(f"{opensearch.place()}?shards=3")
        ids, impacts = collection(700, seed=35, high=2)
        engine.add(ids, impacts)
        engine.commit()
        monkeypatch.setattr(view.View.pages, "__defaults__", (64,))
        documents = as_dicts(ids, impacts)
        for terms in queries(36, 5):
            for k in (63, 64, 65, 300, 10**9):
                assert engine.search(terms, k) == oracle(documents, terms, k)
        found = engine.ordered(None, 500)
        assert found == [(name, None) for name in sorted(ids)[:500]]
        assert paging.PAGE <= 10_000

    def test_readers_are_told_of_a_compaction(self, opensearch, open_at, monkeypatch):
        place = opensearch.place()
        engine = open_at(place)
        engine.add(["a", "b"], csr_array([[1], [2]]))
        engine.commit()
        reader = open_at(place, "r")
        engine.add(["b"], csr_array([[9]]))
        engine.commit()
        assert reader.search({0: 1}, 5) == [Hit("b", 2), Hit("a", 1)]
        engine.compact()
        monkeypatch.setattr("lexlip.engines.distant.LOOK", 0.0)
        with pytest.raises(LexLIPError, match="compacted by its writer: open it again"):
            reader.search({0: 1}, 5)
        assert reader.reopen() and reader.search({0: 1}, 5) == [Hit("b", 9), Hit("a", 1)]

    def test_an_index_belongs_to_one_folder(self, opensearch, open_at, tmp_path):
        place = opensearch.place()
        engine = open_at(place)
        engine.add(["a"], csr_array([[1]]))
        engine.commit()
        taken = f"there is an index .* \\(it is {engine.place.name}\\) already"
        with pytest.raises(LexLIPError, match=taken):
            open_at(place, name="other")
        other = opensearch.place()
        open_at(other, name="other").close()
        with pytest.raises(LexLIPError, match="another index than that"):
            open_at(place, "r", "other")
        with pytest.raises(LexLIPError, match="names no index"):
            (tmp_path / "empty").mkdir()
            open_at(place, "r", "empty")
        shutil.copytree(tmp_path / "index", tmp_path / "copy")
        (tmp_path / "copy" / "LOCK").unlink()
        second = open_at(place, name="copy")  # a writer on another machine
        for change in (
            lambda: engine.add(["b"], csr_array([[2]])), lambda: engine.delete(["a"])
        ):  # fmt: skip
            with pytest.raises(LexLIPError, match="open for writing elsewhere"):
                change()
            with pytest.raises(LexLIPError, match="earlier change .* failed: open it again"):
                engine.commit()
            engine._failed = False
        engine._writer._gone.add("a")
        with pytest.raises(LexLIPError, match="open for writing elsewhere"):
            engine.commit()
        second.add(["c"], csr_array([[3]]))
        second.commit()
        assert engine.reopen() and engine.search({0: 1}, 5) == [Hit("c", 3), Hit("a", 1)]
        engine._client.indices.delete(index=engine.place.name)
        for call in (lambda: engine.search({0: 1}, 1), engine.stale, engine.stats):
            with pytest.raises(LexLIPError, match="there is no index .*: was it deleted"):
                call()
        engine._client.indices.create(index=engine.place.name)
        with pytest.raises(LexLIPError, match="other documents, none of lexlip"):
            open_at(place, "r")

    def test_documents_that_go_missing_are_damage(self, opensearch, open_at):
        engine = open_at(opensearch.place())
        engine.add(["a", "b"], csr_array([[1], [2]]))
        engine.commit()
        (hit,) = engine._view.find(["a"]).values()
        engine._client.delete(index=engine.place.name, id=hit["_id"], params={"refresh": "true"})
        assert engine.verify() == [f"{engine.place} is damaged: 1 documents of 2"]

    def test_every_answer_of_a_bulk_is_looked_at(self, opensearch, open_at, monkeypatch):
        engine = open_at(opensearch.place())
        bad = {"_op_type": "index", "_id": "x", "_source": {"id": "x", "imp": {"0": -1}}}
        good = {"_op_type": "index", "_id": "y", "_source": {"id": "y", "imp": {"0": 1}}}
        with pytest.raises(LexLIPError, match=r"refuses a document \('x'\)"):
            bulk.send(engine._client, engine.place, [good, bad, good])
        block = {"index.blocks.read_only_allow_delete": True}
        engine._client.indices.put_settings(index=engine.place.name, body=block)
        monkeypatch.setattr(bulk, "_FIRST_WAIT", 0)
        with pytest.raises(LexLIPError, match="takes no changes, as on a disk"):
            engine.add(["a"], csr_array([[1]]))
        engine._client.indices.put_settings(index=engine.place.name, body=dict.fromkeys(block))

    def test_infinity_is_a_number(self, opensearch, open_at):
        engine = open_at(opensearch.place())
        values = [float("inf"), float("-inf"), 2.5, None]
        engine.add(list("abcd"), csr_array(np.ones((4, 1), int)), {"x": values})
        engine.commit()
        assert engine.fetch(list("abcd")) == [{"x": v} if v is not None else {} for v in values]
        assert [v for _, v in engine.ordered("x", 9)] == [float("inf"), 2.5, float("-inf")]
        assert dict(engine.counts("x", 9)) == {float("inf"): 1, 2.5: 1, float("-inf"): 1}
        assert [hit.id for hit in engine.search({0: 1}, 9, Where.parse("x > 3"))] == ["a"]


class TestAnIndex(Real):
    def test_an_index_on_a_cluster_is_an_index(self, opensearch, model, images, tmp_path):
        pictures = {f"{n:02}": image for n, image in enumerate(images)}
        some, rest = dict(list(pictures.items())[:8]), dict(list(pictures.items())[8:])
        place = f"opensearch:{opensearch.place()}?timeout=20"
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
        text = (tmp_path / "open" / "manifest.json").read_text()
        assert json.loads(text)["engine"] == place
        with pytest.raises(LexLIPError, match="there is an index .* already"):
            Index.create(tmp_path / "second", model, some, engine=place)
        assert not (tmp_path / "second").exists()


@contextmanager
def answering(answers, certificate=None):
    """A server in the place of a cluster: the next of (status, body) for each request, the last
    one again and again; yield its URL and the requests that came.
    """
    came = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            length = int(self.headers.get("Content-Length") or 0)
            came.append((self.path, self.rfile.read(length), self.headers.get("Authorization")))
            status, body = answers[min(len(came), len(answers)) - 1]
            if status is None:
                done.wait(20)
                return
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_PUT = do_HEAD = do_GET

        def log_message(self, *_):
            pass

    done = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *_: None  # clients that do not trust it hang up
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        scheme = "https" if certificate else "http"
        yield f"{scheme}://127.0.0.1:{server.server_port}", came
    finally:
        done.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate of 127.0.0.1 that signs itself, with its key, in one file."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl to make a certificate")
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", file, "-out",
         f"{file}.crt", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    file.write_text(file.read_text() + Path(f"{file}.crt").read_text())
    return file


def test_certificates_are_looked_at(open_at, certificate, monkeypatch):
    pytest.importorskip("opensearchpy")
    with answering([told("2.1.0")], certificate) as (url, came):
        with pytest.raises(LexLIPError, match="is not trusted: set LEXLIP_OPENSEARCH_CA"):
            open_at(f"{url}/photos")
        assert not came
        monkeypatch.setenv("LEXLIP_OPENSEARCH_CA", f"{certificate}.crt")
        with pytest.raises(LexLIPError, match="is OpenSearch 2.1.0"):
            open_at(f"{url}/photos")
        assert len(came) == 1
        monkeypatch.setenv("LEXLIP_OPENSEARCH_CA", f"{certificate}.none")
        with pytest.raises(LexLIPError, match="LEXLIP_OPENSEARCH_CA"):
            open_at(f"{url}/photos")


def told(number, distribution="opensearch"):
    return 200, {"version": {"number": number, "distribution": distribution}}


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (told("2.19.0"), "is OpenSearch 2.19.0: 3.0 or later is needed"),
        (told("8.15.0", None), "is no OpenSearch, it says 8.15.0"),
        ((401, {"error": "Unauthorized"}), "set LEXLIP_OPENSEARCH_USER and"),
        (
            (403, {"error": {"type": "security_exception", "reason": "no"}}),
            "does not let this user",
        ),
        ((500, {"error": {"type": "odd", "reason": "two\nlines"}}), "odd: two lines"),
        ((429, {"error": {"type": "rejected", "reason": "queue"}}), "is too busy: try again later"),
        ((None, None), "did not answer within 1 s"),
    ],
)
def test_what_a_cluster_says_is_one_line(open_at, answer, line):
    pytest.importorskip("opensearchpy")
    with answering([answer]) as (url, _), pytest.raises(LexLIPError) as error:
        open_at(f"{url}/photos?timeout=1")
    assert line in str(error.value) and "\n" not in str(error.value)


def test_a_cluster_that_is_away_is_one_line(open_at):
    pytest.importorskip("opensearchpy")
    with answering([told("3.8.0")]) as (url, _):
        pass
    with pytest.raises(LexLIPError, match="cannot be reached: is it running"):
        open_at(f"{url}/photos")
    open_at_again = open_at  # the folder was let go of
    with pytest.raises(LexLIPError, match="cannot be reached"):
        open_at_again(f"{url}/photos")


def test_nothing_else_is_on_the_terminal(tmp_path):
    pytest.importorskip("opensearchpy")
    code = "from lexlip.engines import OpenSearchEngine as E; E(*__import__('sys').argv[1:])"
    with answering([(404, {"error": "gone"})]) as (url, _):
        command = [sys.executable, "-c", code, tmp_path / "index", "w", f"{url}/photos"]
        done = subprocess.run(command, capture_output=True, text=True)
    (line,) = [it for it in done.stderr.splitlines() if "OpenSearch at" in it]
    assert "status:404" not in done.stderr and line.endswith("gone")


def test_user_and_password_come_from_the_environment(open_at, monkeypatch):
    pytest.importorskip("opensearchpy")
    monkeypatch.setenv("LEXLIP_OPENSEARCH_USER", "ada")
    monkeypatch.setenv("LEXLIP_OPENSEARCH_PASSWORD", "secret-word")
    with answering([(403, {})]) as (url, came), pytest.raises(LexLIPError) as error:
        open_at(f"{url}/photos")
    assert came[0][2] == "Basic YWRhOnNlY3JldC13b3Jk"
    assert "secret" not in str(error.value)


def test_a_busy_cluster_gets_the_same_document_again(monkeypatch):
    pytest.importorskip("opensearchpy")
    monkeypatch.setattr(bulk, "_FIRST_WAIT", 0)
    busy = {"index": {"_id": "1", "status": 429, "error": {"type": "rejected", "reason": "full"}}}
    fine = {"index": {"_id": "1", "status": 201}}
    action = {"_op_type": "index", "_id": "1", "_source": {"id": "a"}}
    answers = [(429, {}), (200, {"items": [busy]}), (200, {"items": [fine]})]
    with answering(answers) as (url, came):
        place = Place.parse(f"{url}/photos")
        assert bulk.send(place.client(), place, [action]) == 1
    assert len(came) == 3 and len({body for _, body, _ in came}) == 1
    with answering([(200, {"items": [busy]})]) as (url, came):
        place = Place.parse(f"{url}/photos")
        monkeypatch.setattr(bulk, "_TRIES", 2)
        with pytest.raises(LexLIPError, match="stayed too busy"):
            bulk.send(place.client(), place, [action])
    assert len(came) == 3


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("opensearch", "has no place"),
        ("opensearch:photos", "has no place"),
        ("opensearch:http://127.0.0.1:9200", "is no name of an index"),
        ("opensearch:http://127.0.0.1:9200/Photos", "is no name of an index"),
        ("opensearch:http://ada:word@127.0.0.1/photos", "a place holds no password"),
        ("opensearch:http://127.0.0.1:99999/photos", "is no node of OpenSearch"),
        ("opensearch:http://127.0.0.1/photos?shards=0", "shards=0"),
        ("opensearch:http://127.0.0.1/photos?colour=red", "colour=red"),
        ("lucine", "choose one of lucene, postings, opensearch:PLACE"),
    ],
)
def test_a_place_that_is_none_is_refused(kind, line):
    with pytest.raises(LexLIPError, match=line) as error:
        check_engine(kind)
    assert "word@" not in str(error.value)


def test_the_environment_names_other_nodes(monkeypatch):
    monkeypatch.setenv("LEXLIP_OPENSEARCH_NODES", "https://one,https://two:9201")
    assert Place.parse("http://old/photos").nodes == ("https://one:9200", "https://two:9201")

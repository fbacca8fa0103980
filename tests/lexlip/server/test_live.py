"""A server beside writers: it sees each commit, whole, and never two in one answer."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from scipy.sparse import vstack

from lexlip import Index
from lexlip.impacts import document_impacts
from lexlip.server import watching
from lexlip.server.picture_files import token_of

ROOT = Path(__file__).resolve().parents[3]
WRITER = """
import sys
from scipy.sparse import csr_array
from lexlip.engines import PostingsEngine

engine = PostingsEngine(sys.argv[1], "w")
for line in sys.stdin:
    names, width = line.split(), int(sys.argv[2])
    engine.add(names, csr_array([[100] * width] * len(names)))
    engine.commit()
    print("done", flush=True)
engine.close()
"""


def test_what_another_process_commits_is_found_at_the_next_search(make_index, serve, model):
    path, width = make_index(), len(model.lexicon.tokens)
    client = serve(path)
    before = client.get("/search?q=red").json()
    command = [sys.executable, "-c", WRITER, str(path / "engine"), str(width)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        for number in range(3):
            writer.stdin.write(f"new-{number} other-{number}\n")
            writer.stdin.flush()
            assert writer.stdout.readline() == "done\n"
            found = client.get("/search?q=red&k=50").json()
            assert found["total"] == 10 + 2 * number
            assert f"new-{number}" in {hit["id"] for hit in found["hits"]}
            assert int(found["generation"]) > int(before["generation"])
        # While it writes nobody else does, and that is said.
        for answer in (
            client.delete(f"/images/{token_of('home/00.png')}"),
            client.post("/images", files={"file": b"x"}),
        ):
            assert answer.status_code == 409 and "open for writing" in answer.json()["error"]
            assert str(path) not in answer.json()["error"]
        writer.stdin.close()
        assert writer.wait(30) == 0
    assert client.delete(f"/images/{token_of('home/00.png')}").json() == {"deleted": 1}


def test_no_answer_mixes_two_commits(make_index, serve, model, images, engine, monkeypatch):
    monkeypatch.setattr(watching, "EVERY", 0.05)
    path = make_index(engine)
    client = serve(path)
    impacts, _ = document_impacts(model.encode_image(images), 64)
    both = {"a": impacts[:5], "b": vstack([impacts[5:], impacts[:2]], format="csr")}
    size = {"a": 5, "b": 9}
    stop, failures = threading.Event(), []

    def write():
        with Index.open(path, model, "w") as index:
            index.engine.delete([hit.id for hit in index.search({t: 1 for t in range(80)}, 50)])
            turn = 0
            while not stop.is_set():
                new, old = "ab" if turn % 2 == 0 else "ba"
                index.engine.delete([f"{old}{n}" for n in range(size[old])])
                index.engine.add([f"{new}{n}" for n in range(size[new])], both[new])
                index.engine.commit()
                ready.set()
                turn += 1
                stop.wait(0.005)

    def ask(_):
        found = client.get("/search", params={"q": "a red circle + star", "k": 20}).json()
        kinds = {hit["id"][0] for hit in found["hits"]}
        sums = [sum(word["score"] for word in hit["words"]) for hit in found["hits"]]
        right = (
            len(kinds) == 1
            and found["total"] == len(found["hits"]) == size[kinds.pop()]
            and sums == [hit["score"] for hit in found["hits"]]
        )
        if not right:
            failures.append(found)
        return found["generation"]

    ready = threading.Event()
    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert ready.wait(60)
        while client.get("/status").json()["documents"] == 8:  # a watch is a moment late
            time.sleep(0.02)
        with ThreadPoolExecutor(8) as pool:
            generations = set(pool.map(ask, range(64)))
    finally:
        stop.set()
        writer.join()
    assert not failures and len(generations) > 1


def test_eight_threads_get_what_one_gets(make_index, serve, engine, pictures):
    client = serve(make_index(engine))
    texts = ["red circle", "two blue squares", "star -red", "must:square wall", "img:x", "red^3"]
    picture = (pictures / "home" / "00.png").read_bytes()

    def ask(number):
        text = texts[number % len(texts)]
        if number % 7 == 0:
            return client.post("/words", files={"file": picture}).json()
        if number % 5 == 0:
            return client.get(f"/images/{token_of('trip/01.png')}").content
        if number % 3 == 0:
            params = {"q": text, "image": token_of("home/00.png")}
            return client.get("/explain", params=params).json()
        found = client.get("/search", params={"q": text}).json()
        found.pop("cost", None)
        return found

    alone = [ask(number) for number in range(36)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(36))) == alone


def test_an_index_that_takes_the_place_of_another_is_served(
    make_index, serve, model, make_model, pictures
):
    path = make_index()
    client = serve(path)
    assert client.get("/healthz").json()["documents"] == 8
    Index.create(
        path, model, pictures / "trip", engine="postings", replace=True, max_terms=5
    ).close()
    found = client.get("/search?q=red").json()
    assert found["total"] == 4 and client.get("/stats").json()["max_terms"] == 5
    # One that another model made cannot be: the last one is served on.
    Index.create(path, make_model(seed=3), pictures, engine="postings", replace=True).close()
    assert client.get("/search?q=red").json()["hits"] == found["hits"]


def test_a_server_lets_go_of_its_index(make_index, serve, model):
    path = make_index()
    client = serve(path)
    client.post("/images", files={"file": b"no"})
    with Index.open(path, model, "w") as index:  # nobody holds the lock
        assert index.delete(["home/00.png"]) == 1
    assert client.get("/healthz").json()["documents"] == 7

"""Searching and explaining over HTTP: the same answers as the library's own."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from lexlip import Index, Query
from lexlip.cli import app
from lexlip.explain.explanation import explain
from lexlip.impacts import document_impacts
from tests.conftest import noise

TEXT = "a red circle above two blue squares"
QUERIES = [TEXT, "red + 2:square -0.5:circle", "star must:red>=20 -blue>=90", "red^40 square^-3"]


def hits_of(answer):
    return [(hit["id"], hit["score"]) for hit in answer["hits"]]


@pytest.mark.parametrize("engine", ["postings", pytest.param("lucene", marks=pytest.mark.java)])
def test_search_finds_what_the_library_finds(make_index, serve, model, engine, request):
    if engine == "lucene":
        request.getfixturevalue("lucene")
    path = make_index(engine)
    client = serve(path)
    for text in QUERIES:
        found = client.get("/search", params={"q": text, "k": 5}).json()
        asked = Query.parse(text).resolved(model)
        with Index.open(path, model) as index:
            assert hits_of(found) == [tuple(hit) for hit in index.search(asked, 5)]
            for hit in found["hits"]:
                reasons = [
                    {"word": c.word, "score": c.score} for c in index.explain(hit["id"], asked)
                ]
                assert hit["words"] == reasons
                assert sum(word["score"] for word in reasons) == hit["score"]
        assert found["query"]["text"] == str(asked)
        assert {w["word"]: w["weight"] for w in found["query"]["words"]} == asked.words()
        assert [hit["rank"] for hit in found["hits"]] == [*range(1, len(found["hits"]) + 1)]
        assert found["total"] == 8 and found["uncertainty"] is None
        # What was understood finds the same, and so does it as JSON.
        again = client.get("/search", params={"q": found["query"]["text"], "k": 5}).json()
        assert hits_of(again) == hits_of(found)
        posted = client.post("/search", json={"q": text, "k": 5}).json()
        assert hits_of(posted) == hits_of(found)


def test_conditions_are_listed_as_they_are_written(make_index, serve):
    asked = client_query(serve(make_index()), "red must:square>=2 -star missing:20")
    assert asked["conditions"] == ["must:square>=2", "-star", "missing:20"]


def client_query(client, text):
    return client.get("/search", params={"q": text}).json()["query"]


def test_cost_counts_the_postings_of_the_words(make_index, serve, model, engine, pictures):
    path = make_index(engine)
    found = serve(path).get("/search", params={"q": "red + star -0.5:blue"}).json()
    with Index.open(path, model) as index:
        files = sorted(pictures.rglob("*.png"))
        impacts, _ = document_impacts(model.encode_image(files), 64, index.manifest["scale"])
        words = {word["word"] for word in found["query"]["words"]}
    terms = [term for term, token in enumerate(model.lexicon.tokens) if token in words]
    assert found["cost"]["postings"] == (impacts.toarray()[:, terms] > 0).sum() > 0
    assert found["cost"]["search_ms"] > 0 == found["cost"]["rerank_ms"]


def test_pages_make_up_the_whole(make_index, serve):
    client = serve(make_index())
    whole = client.get("/search", params={"q": TEXT, "k": 8}).json()
    assert whole["next_offset"] is None
    pages, offset = [], 0
    while offset is not None:
        answer = client.get("/search", params={"q": TEXT, "k": 3, "offset": offset}).json()
        pages += answer["hits"]
        offset = answer["next_offset"]
    assert pages == whole["hits"] and len(pages) == 8
    beyond = client.get("/search", params={"q": TEXT, "k": 3, "offset": 50}).json()
    assert beyond["hits"] == [] and beyond["next_offset"] is None


def test_where_filters_and_explain_is_a_choice(make_index, serve):
    client = serve(make_index())
    asked = {"q": TEXT, "where": "folder == 'trip'", "explain": "false"}
    found = client.get("/search", params=asked).json()
    assert {hit["id"].partition("/")[0] for hit in found["hits"]} == {"trip"}
    assert all(hit["words"] == [] for hit in found["hits"])


def test_edited_words_are_searched_with_and_conditions_stay(make_index, serve, model):
    path = make_index()
    body = {"q": "a dark wall must:square boost:red^9", "words": {"red": 40, "circle": -10}}
    found = serve(path).post("/search", json=body).json()
    assert found["query"]["text"] == "red^40 circle^-10 must:square"
    with Index.open(path, model) as index:
        wanted = index.search(Query.parse("red^40 circle^-10 must:square"), 24)
    assert hits_of(found) == [tuple(hit) for hit in wanted]


def test_a_picture_becomes_words_and_finds_itself(make_index, serve, model, pictures):
    path = make_index()
    client, picture = serve(path), pictures / "home" / "04.png"
    asked = Query.image(picture).resolved(model)
    answer = client.post("/words", files={"file": picture.open("rb")}).json()
    assert answer["query"] == str(asked)
    words = {word["word"]: word["weight"] for word in answer["words"]}
    assert words == asked.words()
    edited = client.post("/search", json={"words": words, "k": 3}).json()
    form = {"files": {"file": picture.open("rb")}, "data": {"query": json.dumps({"k": 3})}}
    posted = client.post("/search", **form).json()
    assert hits_of(edited) == hits_of(posted)
    assert posted["hits"][0]["id"] == "home/04.png"
    both = {"files": {"file": picture.open("rb")}, "data": {"query": json.dumps({"q": "2:star"})}}
    summed = (2 * Query.text("star") + Query.image(picture)).resolved(model)
    assert client.post("/words", **both).json()["query"] == str(summed)
    only = client.post("/words", json={"q": "a red circle"}).json()
    assert only["query"] == str(Query.text("a red circle").resolved(model))


@pytest.mark.parametrize("name", ["filip", "csd"])
def test_reranked_as_the_library_does(make_index, serve, model_with_heads, name):
    path = make_index(speaker=model_with_heads, keep_views=True)
    client = serve(path, model_with_heads)
    assert name in client.get("/stats").json()["rerankers"]
    found = client.get("/search", params={"q": TEXT, "k": 5, "rerank": name}).json()
    with Index.open(path, model_with_heads) as index:
        hits = index.search(TEXT, 5, rerank=name)
    assert [hit["id"] for hit in found["hits"]] == [hit.id for hit in hits]
    for shown, hit in zip(found["hits"], hits, strict=True):
        assert shown["first_stage"] == hit.words == sum(w["score"] for w in shown["words"])
        assert shown["rerank"] == pytest.approx(hit.likeness, rel=1e-5)
        assert shown["uncertainty"] == pytest.approx(hit.uncertainty)
    assert isinstance(found["uncertainty"], float) and found["cost"]["rerank_ms"] > 0
    pages = [
        client.get("/search", params={"q": TEXT, "k": 2, "offset": n, "rerank": name}).json()
        for n in (0, 2, 4, 6)
    ]
    every = [hit["id"] for page in pages for hit in page["hits"]]
    assert every[:5] == [hit.id for hit in hits] and len(set(every)) == 8
    assert pages[-1]["next_offset"] is None
    # Edited words choose the candidates, the text is looked at again.
    edited = {"q": TEXT, "words": {"red": 9}, "rerank": name}
    assert client.post("/search", json=edited).json()["hits"]
    answer = client.post("/search", json={"words": {"red": 9}, "rerank": name})
    assert answer.status_code == 400 and "cannot be reranked" in answer.json()["error"]


def test_explain_says_which_words_and_where(make_index, serve, model, pictures, engine):
    path = make_index(engine)
    client = serve(path)
    best = client.get("/search", params={"q": TEXT, "k": 1}).json()["hits"][0]
    found = client.get("/explain", params={"q": TEXT, "image": best["image"]}).json()
    with Index.open(path, model) as index:
        reasons = index.explain(best["id"], TEXT)
    patches = [word.pop("patch") for word in found["words"]]
    assert found["words"] == [{**c._asdict(), "score": c.score} for c in reasons]
    assert found["score"] == best["score"] == sum(c.score for c in reasons)
    rows, columns = found["patches"]["grid"]
    assert found["patches"]["size"] == [40, 40]
    assert found["patches"]["words"].keys() == {c.word for c in reasons}
    for heat in found["patches"]["words"].values():
        assert len(heat) == rows * columns and max(heat) == 1 and min(heat) >= 0
    maps = list(found["patches"]["words"].values())
    assert [heat[patch] for heat, patch in zip(maps, patches, strict=True)] == [1] * len(maps)
    [text] = found["texts"]
    assert (text["text"], text["weight"]) == (TEXT, 1)
    assert [token["word"] for token in text["words"]] == TEXT.split()
    assert sum(token["attention"] for token in text["words"]) == pytest.approx(1, abs=1e-3)
    encoded = dict(model.decode(model.encode_text([TEXT]))[0])
    for token in text["words"]:
        for word, weight in token["terms"].items():
            assert weight == pytest.approx(encoded[word], abs=1e-3)
    assert found["alignment"] is None  # no heads
    (pictures / best["id"]).unlink()
    without = client.get("/explain", params={"q": "red^3", "image": best["image"]}).json()
    assert without["patches"] is None and without["texts"] == [] and not without["changed"]


def test_explain_over_http_is_the_librarys_and_the_command_lines(
    make_index, serve, model, pictures
):
    """Subtracted texts, words that lower a score, a picture that has changed: one answer."""
    path = make_index()
    client = serve(path)
    query = "red + 2:star -0.5:wall missing:9"
    hit = client.get("/search", params={"q": query, "k": 1}).json()["hits"][0]
    (pictures / hit["id"]).write_bytes((pictures / "home" / "00.png").read_bytes())
    (pictures / "home" / "00.png").unlink()
    found = client.get("/explain", params={"q": query, "image": hit["image"]}).json()
    assert found["changed"] and [text["weight"] for text in found["texts"]] == [1, 2, -0.5]
    assert min(word["score"] for word in found["words"]) < 0
    assert found["patches"]["words"].keys() == {word["word"] for word in found["words"]}
    with Index.open(path, model) as index:
        prepared = index.prepare(Query.parse(query))
        ours = explain(index, hit["id"], prepared, pictures / hit["id"]).as_dict()
    assert found == ours
    model.save_pretrained(path.parent / "model")
    told = CliRunner().invoke(
        app, ["explain", str(path), query, hit["id"], "-m", str(path.parent / "model"), "--json"]
    )
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout) == ours


@pytest.mark.parametrize("rerank", [None, "filip"])
def test_a_request_encodes_its_text_once(make_index, serve, model_with_heads, rerank, monkeypatch):
    """Search, rerank and explain 24 hits, over HTTP and on the command line: one text pass."""
    sources = {f"{i:02}": noise(i) for i in range(24)}
    path = make_index(speaker=model_with_heads, keep_views=True, source=sources)
    model_with_heads.save_pretrained(path.parent / "heads")
    passes: list[str] = []
    trunk = type(model_with_heads.text.trunk)
    forward = trunk.forward
    monkeypatch.setattr(
        trunk, "forward", lambda *a, **kw: passes.append("text") or forward(*a, **kw)
    )
    client = serve(path, model_with_heads)
    asked = {"q": TEXT, "k": 24, "explain": "true"} | ({"rerank": rerank} if rerank else {})
    hits = client.get("/search", params=asked).json()["hits"]
    assert len(hits) == 24 and all(hit["words"] for hit in hits)
    assert passes == ["text"]
    passes.clear()
    command = ["search", str(path), TEXT, "-k", "24", "--explain", "--json", "-m"]
    command += [str(path.parent / "heads"), *(["--rerank", rerank] if rerank else [])]
    told = CliRunner().invoke(app, command)
    assert told.exit_code == 0, told.output
    assert len(json.loads(told.stdout)["hits"]) == 24
    assert passes == ["text"]


def test_explain_aligns_patches_where_there_are_heads(make_index, serve, model_with_heads):
    path = make_index(speaker=model_with_heads, keep_views=True)
    client = serve(path, model_with_heads)
    image = client.get("/search", params={"q": TEXT}).json()["hits"][0]["image"]
    found = client.get("/explain", params={"q": TEXT, "image": image}).json()["alignment"]
    rows, columns = found["grid"]
    assert len(found["patches"]) == len(found["cosines"]) == rows * columns
    assert 0 <= min(found["patches"]) and max(found["patches"]) < len(found["words"])
    assert np.all(np.abs(found["cosines"]) <= 1.001)


@pytest.mark.parametrize(
    ("asked", "status", "line"),
    [
        ({"q": ""}, 400, "the query is empty"),
        ({"q": "   "}, 400, "the query is empty"),
        ({}, 400, "the query is empty"),
        ({"q": "red", "k": 0}, 422, "k: Input should be greater than or equal to 1"),
        ({"q": "red", "k": 201}, 400, "at most 200"),
        ({"q": "red", "k": "many"}, 422, "k: Input should be a valid integer"),
        ({"q": "red", "offset": 990}, 400, "no more than 1,000 hits"),
        ({"q": "red", "depth": 5000, "rerank": "filip"}, 400, "no more than 1,000 hits"),
        ({"q": "x" * 2001}, 400, "the query has 2001 characters: at most 2,000"),
        ({"q": "red", "where": "y" * 2001}, 400, "the filter has 2001 characters"),
        ({"q": "img:/etc/passwd"}, 400, "pictures are not allowed here"),
        ({"q": "red + 2:img:a.png"}, 400, "pictures are not allowed here"),
        ({"q": 'red "open'}, 400, "close the quotes"),
        ({"q": "-red"}, 400, "add what to look for"),
        ({"q": "must:zebra"}, 400, "not in the model's lexicon"),
        ({"q": "red", "where": "year >"}, 400, "year >"),
        ({"q": "red", "where": "nowhere == 1"}, 400, "there are bytes"),
        ({"q": "red", "rerank": "filip"}, 400, "keeps nothing to rerank with"),
    ],
)
def test_bad_searches_are_refused_with_a_reason(bad_client, asked, status, line):
    answer = bad_client.get("/search", params=asked)
    assert answer.status_code == status
    (error,) = answer.json().values()
    assert line in error and "\n" not in error


@pytest.fixture(scope="module")
def bad_client(model, photos, tmp_path_factory):
    from starlette.testclient import TestClient

    from lexlip.server import create_app

    path = tmp_path_factory.mktemp("bad") / "i.lex"
    Index.create(path, model, photos, engine="postings").close()
    with TestClient(create_app(path, model), base_url="http://127.0.0.1") as client:
        yield client


@pytest.mark.parametrize(
    ("body", "status", "line"),
    [
        (b"{", 422, "Invalid JSON"),
        (b"[]", 422, "should be an object"),
        (b'{"q": "red", "words": []}', 422, "words"),
        (b'{"words": {"red": 1e9}}', 422, "words.red"),
        (b'{"words": {"red": NaN}}', 422, "words.red"),
        (b'{"words": {"red": 0}}', 400, "no word has a weight"),
        (b'{"words": {"zebra": 3}}', 400, "not in the model's lexicon"),
        (b'{"words": {"": 3}}', 400, "not a word"),
        (b'{"words": {"\\ud800": 3}}', 422, ""),
        (b'{"q": "\\ud800"}', 422, ""),
        (b'{"q": "red", "where": "folder == \'\\udfff\'"}', 422, ""),
        (b'{"q": "red", "limit": 3}', 422, "limit"),
        (b'{"q": "red", "k": 1' + b"0" * 4000 + b"}", 422, ""),
        (b'{"q": ' + b"[" * 100_000, 422, ""),
        (b"\xff\xfe", 422, ""),
    ],
)
def test_bad_json_is_refused_with_a_reason(bad_client, body, status, line):
    answer = bad_client.post("/search", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    assert line in answer.json()["error"]


def test_bodies_of_other_kinds_are_refused(bad_client):
    assert bad_client.post("/search", content=b"q=red").status_code == 415
    assert bad_client.post("/words", data={"q": "red"}).status_code == 415
    nothing = bad_client.post("/words", files={"other": b"x"})
    assert nothing.status_code == 422 and "in the part `file`" in nothing.json()["error"]
    broken = bad_client.post(
        "/words", content=b"--x\r\nno", headers={"Content-Type": "multipart/form-data; boundary=y"}
    )
    assert 400 <= broken.status_code < 500 and broken.json()["error"]
    large = bad_client.post("/search", json={"q": "red" * 2**20})
    assert large.status_code == 413


def test_no_answer_names_a_place_of_this_machine(bad_client, tmp_path_factory):
    said = [
        bad_client.get("/stats").text,
        bad_client.get("/search", params={"q": "red", "rerank": "filip"}).text,
        bad_client.get("/openapi.json").text,
    ]
    assert not any(str(tmp_path_factory.getbasetemp()) in text for text in said)


def test_an_order_is_checked_wherever_it_is_named(make_index, serve):
    client = serve(make_index())
    plain = client.get("/search", params={"q": TEXT}).json()
    for asked in (
        client.get("/search", params={"q": TEXT, "rerank": ""}),
        client.post("/search", json={"q": TEXT, "rerank": ""}),
    ):
        assert asked.status_code == 200 and hits_of(asked.json()) == hits_of(plain)
    image = plain["hits"][0]["image"]
    refused = client.get("/explain", params={"q": TEXT, "image": image, "rerank": "fast"})
    assert refused.status_code == 400 and "no reranker 'fast'" in refused.json()["error"]

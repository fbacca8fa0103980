"""Many queries in one request: the answers of each alone, within the server's limits."""

from __future__ import annotations

import pytest

from lexlip.server.batch_schemas import MOST_QUERIES, Answers, Batch

ASKED = ["a red circle above two blue squares", "star -green", "red^40 square^-3", "must:red star"]


def hits_of(answer):
    return [(hit["rank"], hit["id"], hit["image"], hit["score"]) for hit in answer["hits"]]


def test_each_answer_is_that_of_the_query_alone(make_index, serve, engine):
    client = serve(make_index(engine))
    for options in ({"k": 5}, {"k": 3, "where": "folder == 'trip'"}, {"min_fit": 0.5}):
        found = client.post("/search/batch", json={"queries": ASKED, **options})
        assert found.status_code == 200
        body = found.json()
        assert body["total"] == 8 and body["cost"]["postings"] > 0
        for text, answer in zip(ASKED, body["answers"], strict=True):
            alone = client.post("/search", json={"q": text, "k": 10, **options}).json()
            assert hits_of(answer) == hits_of(alone)
            assert answer["read_as"] == alone["query"]["read_as"]
            assert answer["ordered_by"] == alone["ordered_by"] == "none"
            metadata = [hit["metadata"] for hit in alone["hits"]]
            assert [hit["metadata"] for hit in answer["hits"]] == metadata
    assert any(answer["hits"] for answer in body["answers"])
    nothing = client.post("/search/batch", json={"queries": ["nothingofit"]}).json()["answers"][0]
    assert nothing["hits"] == [] and "no word of the query" in nothing["note"]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"queries": []}, 422, "queries"),
        ({"queries": ["red"] * (MOST_QUERIES + 1)}, 422, "queries"),
        ({"queries": ["red"], "k": 201}, 400, "k is 201"),
        ({"queries": ["red"] * 6, "k": 200}, 400, "no more than 1,000 hits in all"),
        ({"queries": ["red", "x" * 2001]}, 400, "query 2"),
        ({"queries": ["red", "a -"]}, 400, "query 2: "),
        ({"queries": ["red", "-star"]}, 400, "query 2: .*only what is not wanted"),
        ({"queries": ["red", "img:/etc/passwd"]}, 400, "query 2: "),
        ({"queries": ["red"], "rerank": "filip"}, 422, "rerank"),
        ({"queries": ["red"], "rerank": "vectors"}, 400, "keeps no vectors"),
        ({"queries": ["red"], "where": "nothing == 1"}, 400, "nothing"),
        ({"queries": ["red", "\ud800"]}, 422, ""),
        ({"q": "red"}, 422, "q"),
    ],
)  # fmt: skip
def test_limits_hold(make_index, serve, body, status, said):
    import json
    import re

    client = serve(make_index())
    sent = json.dumps(body)
    found = client.post("/search/batch", content=sent, headers={"Content-Type": "application/json"})
    assert found.status_code == status and re.search(said, found.json()["error"])
    assert "/etc/passwd" not in found.json()["error"] or status == 400


def test_the_guard_counts_a_batch_as_one_request(make_index, serve):
    client = serve(make_index(), api_key="secret")
    assert client.post("/search/batch", json={"queries": ["red"]}).status_code == 401
    good = {"X-API-Key": "secret"}
    assert client.post("/search/batch", json={"queries": ["red"]}, headers=good).status_code == 200
    far = good | {"Origin": "http://elsewhere.example"}
    assert client.post("/search/batch", json={"queries": ["red"]}, headers=far).status_code == 403
    long = b'{"queries": ["' + b"x" * 2**20 + b'"]}'
    kind = good | {"Content-Type": "application/json"}
    assert client.post("/search/batch", content=long, headers=kind).status_code == 413
    kind = good | {"Content-Type": "text/plain"}
    assert client.post("/search/batch", content=b"{}", headers=kind).status_code == 415


def test_examples_are_valid(make_index, serve):
    client = serve(make_index())
    for example in Batch.model_json_schema()["examples"]:
        found = client.post("/search/batch", json=example)
        # A word of an example may be none of the tiny model's.
        assert found.status_code == 200 or "not in the model's lexicon" in found.json()["error"]
    Answers.model_validate(Answers.model_config["json_schema_extra"]["example"])

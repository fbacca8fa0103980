"""Bodies in a real OpenSearch: our ids and our scores."""

from __future__ import annotations

import json
import urllib.request

import pytest

from lexlip import Index, Query
from lexlip.exchange import export

ASKED = ("a red circle", "two blue squares in the snow", "large star beside a square")


def call(method, url, data=None, kind="application/json"):
    body = json.dumps(data).encode() if isinstance(data, dict) else data
    asked = urllib.request.Request(url, body, {"Content-Type": kind}, method=method)
    with urllib.request.urlopen(asked, timeout=120) as answer:
        return json.load(answer)


@pytest.mark.engine
@pytest.mark.xdist_group("opensearch")
def test_opensearch_finds_what_we_find(model, photos, tmp_path, no_flush, opensearch):
    name = opensearch.place()
    with Index.create(tmp_path / "i.lex", model, photos) as index:
        export(index, tmp_path / "bodies", "opensearch")
        call("PUT", name, (tmp_path / "bodies" / "mapping.json").read_bytes())
        try:
            for body in sorted((tmp_path / "bodies").glob("*.ndjson")):
                done = call("POST", f"{name}/_bulk", body.read_bytes(), "application/x-ndjson")
                assert not done["errors"]
            call("POST", f"{name}/_refresh")
            numbers = json.loads((tmp_path / "bodies" / "words.json").read_text())
            for text in ASKED:
                terms = index.query(Query.text(text))
                should = [
                    {"rank_feature": {"field": f"imp.{numbers[word]}", "linear": {}, "boost": by}}
                    for word, by in index.words(terms)
                    if word in numbers
                ]
                order = [{"_score": "desc"}, {"id": "asc"}]
                asked = {"query": {"bool": {"should": should}}, "sort": order}
                found = call("POST", f"{name}/_search", {**asked, "track_scores": True, "size": 9})
                hits = [(hit["_source"]["id"], hit["_score"]) for hit in found["hits"]["hits"]]
                assert hits == [tuple(hit) for hit in index.search(terms, 9)] != []
        finally:
            call("DELETE", name)

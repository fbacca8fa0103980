"""The OpenAPI description, and requests made up after it: whatever comes, no 500."""

from __future__ import annotations

import json

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from requests import Request
from starlette.testclient import TestClient

from lexlip import Index
from lexlip.server import browsing_schemas, create_app, schemas

EXAMPLES = 12
"""Requests for each address: 10 to 20 seconds in all."""


@pytest.fixture(scope="module")
def app(model, photos, tmp_path_factory):
    path = tmp_path_factory.mktemp("schema") / "i.lex"
    Index.create(path, model, photos, engine="postings").close()
    return create_app(path, model)


@pytest.fixture(scope="module")
def client(app):
    with TestClient(app, "http://127.0.0.1") as client:  # raises what would be a 500
        yield client


ADDRESSES = [
    "GET /search", "POST /search", "POST /words", "GET /explain", "GET /compare",
    "GET /images", "GET /images/{image}", "GET /images/{image}/facts", "POST /images",
    "DELETE /images/{image}", "GET /columns", "GET /words", "GET /status", "GET /stats",
    "GET /livez", "GET /healthz", "GET /metrics",
]  # fmt: skip


def test_the_description_names_every_address_with_examples(client):
    described = client.get("/openapi.json").json()
    paths = described["paths"]
    named = [f"{method.upper()} {path}" for path in paths for method in paths[path]]
    assert sorted(named) == sorted(ADDRESSES)
    for path in paths.values():
        for operation in path.values():
            assert operation["description"] and "400" in operation["responses"]
    assert client.get("/docs").status_code == 404  # it would load code from elsewhere
    # Examples are requests that work, and answers that fit.
    for example in paths["/search"]["post"]["requestBody"]["content"]["application/json"]["schema"][
        "examples"
    ]:
        schemas.Search.model_validate(example)
        assert client.post("/search", json=example).status_code in (200, 400)
    for answer in (schemas.Found, schemas.Compared, browsing_schemas.Wall):
        answer.model_validate(answer.model_config["json_schema_extra"]["example"])


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_request_breaks_the_server(app, client, address):
    described = schemathesis.openapi.from_dict(app.openapi())
    method, path = address.split()
    operation = described[path][method]
    statuses = set()

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def ask(case):
        kwargs = case.as_transport_kwargs(base_url="http://127.0.0.1")
        names = ("method", "url", "headers", "files", "data", "params", "json", "cookies")
        sent = Request(**{name: kwargs[name] for name in names if name in kwargs}).prepare()
        answer = client.request(
            sent.method, sent.url, content=sent.body, headers=dict(sent.headers)
        )
        assert answer.status_code < 500, answer.text
        if answer.status_code >= 400:
            (line,) = json.loads(answer.content).values()
            assert line and "\n" not in line
        statuses.add(answer.status_code)

    ask()
    assert statuses

"""The OpenAPI description, and requests made up after it: whatever comes, no 500."""

from __future__ import annotations

import json
import re

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from jsonschema import Draft202012Validator, ValidationError
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012
from requests import Request
from starlette.testclient import TestClient

from lexlip import Index
from lexlip.server import Settings, create_app, schemas

KEY = "a key of some length"
EXAMPLES = 12
"""Requests for each address: 10 to 20 seconds in all."""


@pytest.fixture(scope="module")
def app(model, photos, tmp_path_factory):
    path = tmp_path_factory.mktemp("schema") / "i.lex"
    Index.create(path, model, photos, engine="postings").close()
    return create_app(path, model)


@pytest.fixture(scope="module")
def keyed(model, photos, tmp_path_factory):
    """The application of a server with a key."""
    path = tmp_path_factory.mktemp("keyed") / "i.lex"
    Index.create(path, model, photos, engine="postings").close()
    return create_app(path, model, Settings(api_key=KEY))


@pytest.fixture(scope="module")
def client(app):
    with TestClient(app, "http://127.0.0.1") as client:  # raises what would be a 500
        yield client


ADDRESSES = [
    "GET /search", "POST /search", "POST /search/batch", "POST /words", "GET /explain",
    "GET /compare",
    "GET /images", "GET /images/{image}", "GET /images/{image}/facts", "POST /images",
    "DELETE /images/{image}", "GET /columns", "GET /facets", "GET /words", "GET /status",
    "GET /stats", "GET /livez", "GET /healthz", "GET /metrics",
]  # fmt: skip


def test_the_description_names_every_address_with_examples(client):
    described = client.get("/openapi.json").json()
    paths = described["paths"]
    named = [f"{method.upper()} {path}" for path in paths for method in paths[path]]
    assert sorted(named) == sorted(ADDRESSES)
    for path in paths.values():
        for operation in path.values():
            assert operation["description"] and "400" in operation["responses"]
            (tag,) = operation["tags"]
            assert tag in {one["name"] for one in described["tags"]}
    ids = [operation["operationId"] for path in paths.values() for operation in path.values()]
    assert len(set(ids)) == len(ids) == len(ADDRESSES)
    assert all(re.fullmatch("(get|post|delete)(_[a-z]+)+", id) for id in ids)
    assert client.get("/docs").status_code == 404  # it would load code from elsewhere
    # Examples are requests that work, and answers that fit.
    for example in paths["/search"]["post"]["requestBody"]["content"]["application/json"]["schema"][
        "examples"
    ]:
        schemas.Search.model_validate(example)
        assert client.post("/search", json=example).status_code in (200, 400)


def test_the_description_is_valid(app, keyed):
    for one in (app, keyed):
        schemathesis.openapi.from_dict(one.openapi()).validate()
    assert app.openapi()["security"] == []
    assert "securitySchemes" not in app.openapi()["components"]


def test_the_description_says_who_needs_a_key(keyed):
    described = keyed.openapi()
    (name,) = described["components"]["securitySchemes"]
    scheme = described["components"]["securitySchemes"][name]
    assert (scheme["type"], scheme["in"]) == ("apiKey", "header")
    needed = set()
    with TestClient(keyed, "http://127.0.0.1") as client:
        for path, operations in described["paths"].items():
            for method, operation in operations.items():
                security = operation.get("security", described["security"])
                wanted = 401 if security else 200
                assert client.request(method, path).status_code == wanted, (method, path)
                needed.add(bool(security))
        allowed = client.get("/stats", headers={scheme["name"]: KEY})
    assert needed == {True, False} and allowed.status_code == 200


def resolver(described):
    """A function that checks a value by a schema of the description."""
    root = Resource(contents=described, specification=DRAFT202012)
    registry = Registry().with_resource("urn:api", root)

    def check(value, schema):
        # References of a part are those of the whole description.
        whole = json.loads(json.dumps(schema).replace('"#/components', '"urn:api#/components'))
        Draft202012Validator(whole, registry=registry).validate(value)

    return check


def examples_of(node):
    """Yield (example, schema) of everything below a node of a description."""
    if isinstance(node, list):
        for one in node:
            yield from examples_of(one)
    if isinstance(node, dict):
        schema = node.get("schema") if isinstance(node.get("schema"), dict) else node
        found = [node["example"]] if "example" in node else []
        for named in ("examples",):
            some = node.get(named, [])
            found += some if isinstance(some, list) else [it["value"] for it in some.values()]
        yield from ((one, schema) for one in found)
        for key, one in node.items():
            if key not in ("example", "examples"):
                yield from examples_of(one)


def test_every_example_fits_its_schema(keyed):
    described = keyed.openapi()
    check = resolver(described)
    found = list(examples_of(described))
    for example, schema in found:
        check(example, schema)
    assert len(found) > 12
    with pytest.raises(ValidationError):
        check({"hits": []}, {"$ref": "#/components/schemas/Found"})


ANSWERED = [
    ("get", "/search", "?q=red+circle"), ("get", "/search", "?q=red&rerank=none&explain=false"),
    ("get", "/search", "?q=zzzz"), ("get", "/images", ""), ("get", "/columns", ""),
    ("get", "/facets", ""), ("get", "/facets", "?q=red"), ("get", "/words", ""),
    ("get", "/status", ""), ("get", "/stats", ""), ("get", "/compare", "?q=red"),
    ("get", "/explain", "?q=red&id=00.png"), ("get", "/livez", ""), ("get", "/healthz", ""),
    ("get", "/search", "?q=red&k=0"), ("get", "/facets", "?column=none"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "rest"), ANSWERED)
def test_answers_fit_the_description(app, client, method, path, rest):
    described = app.openapi()
    answer = client.request(method, path + rest)
    response = described["paths"][path][method]["responses"][str(answer.status_code)]
    resolver(described)(answer.json(), response["content"]["application/json"]["schema"])


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

"""The OpenAPI description: its tags, its licence, and the key that a server asks for."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from lexlip.server.guard import needs_key
from lexlip.server.settings import Settings

SEARCH, PICTURES, INDEX, SERVER = "search", "pictures", "index", "server"

FACTS: dict[str, Any] = {
    "title": "lexlip",
    "summary": "Find pictures with words",
    "description": "Pictures are weighted words in an inverted index: search them, see why each "
    "was found, filter and count them by metadata, add and delete them.",
    "contact": {"name": "lexlip developers"},
    "license_info": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
    "servers": [{"url": "/", "description": "the server that sent this description"}],
    "openapi_tags": [
        {"name": SEARCH, "description": "Queries, words, and why a picture was found."},
        {"name": PICTURES, "description": "Pictures of the index: list, show, add, delete."},
        {"name": INDEX, "description": "What the index holds: columns, counts of values, words."},
        {"name": SERVER, "description": "State, health and figures of the server."},
    ],
    # Fields with a default may be left out of answers too.
    "separate_input_output_schemas": False,
}
"""Arguments of FastAPI."""


def operation_id(route: APIRoute) -> str:
    """Return the name of an operation, from which clients make the names of their methods."""
    return route.name


def describe(app: FastAPI, settings: Settings) -> None:
    """Let an application tell in its description which requests need a key."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is not None:
            return app.openapi_schema
        found = plain()
        found["security"] = []
        if settings.api_key is not None:
            key = {
                "type": "apiKey",
                "in": "header",
                "name": "X-API-Key",
                "description": "the key that the server was started with",
            }
            found["components"]["securitySchemes"] = {"key": key}
            found["security"] = [{"key": []}]
            for path, operations in found["paths"].items():
                for operation in operations.values() if not needs_key(path) else ():
                    operation["security"] = []
        return found

    app.openapi = described  # type: ignore[method-assign]

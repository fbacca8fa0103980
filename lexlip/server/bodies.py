"""Request bodies: JSON, or a form with a picture; reading and OpenAPI description."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from lexlip.server.failures import Refused

T = TypeVar("T", bound=BaseModel)

_MAX_JSON = 2**20
_MAX_FILES = 64


async def read(request: Request, kind: type[T]) -> tuple[T, bytes | None]:
    """Read JSON, or a form with a picture in `file` and JSON in `query`.

    Returns
    -------
    (kind, bytes or None)
        The JSON, and the file of the picture.

    Raises
    ------
    Refused
        For a body of another kind, without a picture, or with too much JSON.
    ValidationError
        For other JSON.
    """
    sort = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if sort == "multipart/form-data":
        async with request.form(max_files=1, max_fields=4) as form:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise Refused(422, "no picture: post it in the part `file`")
            return kind.model_validate_json(text_of(form, "query") or "{}"), await file.read()
    if sort != "application/json":
        raise Refused(415, "send application/json, or multipart/form-data with a picture in `file`")
    return kind.model_validate_json(await _json(request)), None


async def read_json(request: Request, kind: type[T]) -> T:
    """Read JSON, and nothing else.

    Raises
    ------
    Refused
        For a body of another kind, or with too much JSON.
    ValidationError
        For other JSON.
    """
    sort = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if sort != "application/json":
        raise Refused(415, "send application/json")
    return kind.model_validate_json(await _json(request))


async def _json(request: Request) -> bytes:
    """Read the bytes of JSON: nothing of a body whose length is told to be too long."""
    told = request.headers.get("content-length", "")
    read, over = bytearray(), told.isdecimal() and int(told) > _MAX_JSON
    if not over:
        async for part in request.stream():
            read += part
            if over := len(read) > _MAX_JSON:
                break
    if over:
        raise Refused(413, f"the JSON is over {_MAX_JSON:,} bytes: ask for less")
    return bytes(read)


async def read_files(request: Request) -> tuple[list[tuple[str, bytes]], str]:
    """Read all files of a form, and its part `metadata`."""
    async with request.form(max_files=_MAX_FILES, max_fields=4) as form:
        files = [
            (_name(part), await part.read())
            for _, part in form.multi_items()
            if isinstance(part, UploadFile)
        ]
        return files, text_of(form, "metadata")


def text_of(form: FormData, name: str) -> str:
    """Return a part of a form that is text; nothing where there is none."""
    part = form.get(name)
    return part if isinstance(part, str) else ""


def _name(file: UploadFile) -> str:
    """Return the name of a posted file, for messages only."""
    name = (file.filename or "the picture").encode(errors="replace").decode()
    return "".join(c if c.isprintable() else " " for c in name)[:100]


def described(kind: type[BaseModel], query: str) -> dict[str, Any]:
    """Return the OpenAPI description of a body that `read` reads.

    Parameters
    ----------
    kind : type
        Of the JSON.
    query : str
        Description of the part `query`.
    """
    form = _form(
        file={"type": "string", "format": "binary", "description": "a picture"},
        query={"type": "string", "description": query},
    )
    return _described({"application/json": {"schema": kind.model_json_schema()}, **form})


def described_json(kind: type[BaseModel]) -> dict[str, Any]:
    """Return the OpenAPI description of a body that `read_json` reads."""
    return _described({"application/json": {"schema": kind.model_json_schema()}})


def described_files() -> dict[str, Any]:
    """Return the OpenAPI description of a body that `read_files` reads."""
    return _described(
        _form(
            file={"type": "array", "items": {"type": "string", "format": "binary"}},
            metadata={"type": "string", "example": '{"year": 2020}'},
        )
    )


def _described(content: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": content}}


def _form(**properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": ["file"]}
    return {"multipart/form-data": {"schema": schema}}

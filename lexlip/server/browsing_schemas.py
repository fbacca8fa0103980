"""Answers of the routes that need no query, as pydantic models."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from lexlip.server.schemas import Metadata, Named


class Listed(Named):
    """A picture, and its metadata."""

    metadata: Metadata


class Wall(BaseModel):
    """A page of pictures, the newest first."""

    images: list[Listed]
    total: int = Field(description="documents in the index")
    next_offset: int | None
    generation: str

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "images": [
                    {"id": "17.png", "image": "MTcucG5n", "metadata": {"taken": "2024-05-31"}}
                ],
                "total": 500,
                "next_offset": 60,
                "generation": "2",
            }
        }
    )


class Facts(Listed):
    """What is known of a picture."""

    width: int | None = Field(description="pixels, upright; null where the file is not at hand")
    height: int | None
    bytes: int | None
    path: str | None = Field(
        description="of the file, for a browser on the machine of a server that lets no other in"
    )


class Value(BaseModel):
    """A value of a column, and how many documents have it."""

    value: bool | int | float | str
    count: int


class Column(BaseModel):
    """A column of the metadata."""

    name: str
    kind: Literal["bool", "int", "float", "str", "date"]
    values: list[Value] = Field(description="the most frequent ones, of text and truth values")
    whole: bool = Field(description="whether these are all values")
    min: int | float | str | None = Field(default=None, description="of numbers and dates")
    max: int | float | str | None = None


class Columns(BaseModel):
    """What an index can be filtered by."""

    columns: list[Column]
    generation: str


class Facets(BaseModel):
    """Values of columns, and how many of some pictures have each."""

    facets: list[Column]
    documents: int = Field(description="pictures that were counted")
    generation: str

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "facets": [
                    {
                        "name": "folder",
                        "kind": "str",
                        "values": [{"value": "trip", "count": 12}, {"value": "home", "count": 3}],
                        "whole": True,
                    }
                ],
                "documents": 15,
                "generation": "2",
            }
        }
    )


class Frequent(BaseModel):
    """A word, and how many documents have it."""

    word: str
    documents: int


class FrequentWords(BaseModel):
    """Words to try in this index."""

    words: list[Frequent] = Field(description="a mixture of frequent and rarer words")
    pairs: list[list[str]] = Field(description="words that stand together in documents")
    total: int = Field(description="documents in the index")
    generation: str


class Growth(BaseModel):
    """How far pictures are added."""

    state: Literal["indexing", "done", "stopped", "failed"]
    done: int
    total: int
    per_second: float | None
    seconds_left: float | None
    skipped: int
    message: str | None


class Status(BaseModel):
    """The number of documents, and whether more are being added."""

    documents: int
    generation: str
    growth: Growth | None

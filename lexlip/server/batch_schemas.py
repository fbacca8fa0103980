"""Requests and answers of many queries at once."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from lexlip.server.schemas import MAX_COUNT, Cost, Hit, Text

MOST_QUERIES = 64
"""Queries of one request: they share its time and its worker."""


class Batch(BaseModel):
    """Queries that are searched with the same options."""

    queries: list[Text] = Field(
        min_length=1,
        max_length=MOST_QUERIES,
        description="texts, or queries: flower + 2:bee -people must:red",
    )
    k: int = Field(default=10, ge=1, le=MAX_COUNT, strict=True, description="hits of each query")
    where: Text = Field(default="", description="a filter over metadata, for all of them")
    rerank: Literal["vectors", "terms", "none"] | None = Field(
        default=None, description="what orders; by default vectors, where the index has them"
    )
    min_fit: Annotated[float, Field(allow_inf_nan=False)] | None = Field(
        default=None, description="leave out hits that fit less"
    )

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"queries": ["a heart in the snow", "two hearts -moon"], "k": 10}]
        },
    )


class Answer(BaseModel):
    """The answer to one of the queries."""

    read_as: str = Field(description="the query as typed, in plain signs")
    ordered_by: str = Field(description="vectors, terms or none (the words)")
    hits: list[Hit]
    note: str | None = Field(default=None, description="why there is nothing to find")


class Answers(BaseModel):
    """The answers, in the order of the queries."""

    answers: list[Answer]
    total: int = Field(description="documents in the index")
    generation: str
    cost: Cost

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "answers": [
                    {
                        "read_as": '"a heart in the snow"',
                        "ordered_by": "none",
                        "hits": [
                            {
                                "rank": 1,
                                "id": "17.png",
                                "image": "MTcucG5n",
                                "score": 20810,
                                "metadata": {"folder": ""},
                            }
                        ],
                    }
                ],
                "total": 500,
                "generation": "2",
                "cost": {
                    "postings": 310,
                    "encode_ms": 9.1,
                    "search_ms": 0.4,
                    "rerank_ms": 0,
                    "explain_ms": 0,
                },
            }
        }
    )

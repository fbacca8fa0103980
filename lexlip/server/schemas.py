"""Requests and answers as pydantic models; the OpenAPI description is made of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _unicode(text: str) -> str:
    """Refuse half characters, which JSON can carry and nothing else can."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"not valid Unicode at character {error.start + 1}") from None
    return text


Text = Annotated[str, AfterValidator(_unicode)]
Weight = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]

MAX_COUNT = 2**31 - 1
"""Numbers beyond are refused as they are read; `Settings` says how much is answered."""


Metadata = dict[str, bool | int | float | str]
"""Of a picture: a value of each column that it has."""

Token = Annotated[Text, Field(max_length=2000)]
"""The name of a picture: `image` of a hit, or its `id`."""

MOST_PICTURES = 8
"""Pictures of the index in one query: each is encoded."""


class Error(BaseModel):
    """Why a request was refused, and what to do."""

    error: str

    model_config = ConfigDict(
        json_schema_extra={"example": {"error": "no such image: it was deleted, or ..."}}
    )


class Search(BaseModel):
    """A search."""

    q: Text = Field(default="", description="a text, or a query: flower + 2:bee -people must:red")
    words: dict[Annotated[Text, Field(max_length=100)], Weight] | None = Field(
        default=None,
        max_length=1024,
        description="weighted words, instead of those of q; the conditions of q stay",
    )
    more: list[Token] = Field(
        default=[],
        max_length=MOST_PICTURES,
        description="pictures of the index that are added, each by its `image` or `id`",
    )
    less: list[Token] = Field(
        default=[],
        max_length=MOST_PICTURES,
        description="pictures of the index that are subtracted, half as much",
    )
    k: int = Field(default=24, ge=1, le=MAX_COUNT, strict=True, description="hits of this answer")
    offset: int = Field(
        default=0,
        ge=0,
        le=MAX_COUNT,
        strict=True,
        description="hits to pass over: next_offset of the last answer",
    )
    where: Text = Field(
        default="", description="a filter over metadata: year >= 2020 and folder == 'a'"
    )
    rerank: Annotated[Text | None, AfterValidator(lambda name: name or None)] = Field(
        default=None,
        description="what orders: vectors, terms, none, or a second look: filip, csd, naaf, ...; "
        "by default vectors, where the index has them",
    )
    depth: int | None = Field(
        default=None,
        ge=1,
        le=MAX_COUNT,
        strict=True,
        description="hits that are ordered or reranked",
    )
    min_fit: Annotated[float, Field(allow_inf_nan=False)] | None = Field(
        default=None, description="leave out hits whose fit is less"
    )
    explain: bool = Field(default=True, description="say which words found each hit")

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"q": "two hearts -moon", "k": 24},
                {"q": "must:heart", "words": {"red": 40, "blue": -10}, "k": 24},
            ]
        },
    )


class Words(BaseModel):
    """A query to turn into words."""

    q: Text = ""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"q": "a red dog"}]})


class Word(BaseModel):
    """A word of a query."""

    word: str
    weight: int | float


class Part(BaseModel):
    """A word's share of a score."""

    word: str
    score: int


class Ranked(BaseModel):
    """A picture in a list."""

    rank: int
    id: str
    image: str
    score: int | float


class Hit(Ranked):
    """A picture that was found."""

    words: list[Part] = []
    metadata: Metadata = {}
    first_stage: int | float | None = Field(
        default=None, description="score of the words that found it, where another orders"
    )
    fit: float | None = Field(
        default=None,
        description="how well it fits, on one scale for all queries: standard deviations where "
        "vectors order, else the share of the query's words, where these are explained",
    )
    rerank: float | None = None
    uncertainty: float | None = None


class Asked(BaseModel):
    """A query as it was understood."""

    text: str = Field(description="its words and conditions")
    read_as: str = Field(description="the query as typed, in plain signs")
    words: list[Word]
    conditions: list[str]


class Cost(BaseModel):
    """The cost of an answer."""

    postings: int = Field(description="document frequencies of the query's words, added up")
    encode_ms: float
    search_ms: float
    rerank_ms: float
    explain_ms: float


class Found(BaseModel):
    """The answer to a search."""

    query: Asked
    hits: list[Hit]
    total: int = Field(description="documents in the index")
    next_offset: int | None
    cost: Cost
    generation: str
    uncertainty: float | None = None
    ordered_by: str = Field(description="vectors, terms, none (the words) or a reranker's name")
    weak_below: float | None = Field(
        default=None, description="fit below which hits are mostly wrong"
    )
    note: str | None = Field(default=None, description="why there is nothing to find")
    near: list[str] = Field(default=[], description="words of the index like those of the query")

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "query": {
                    "text": "hearts^64 two^36 -moon",
                    "read_as": '"two hearts" -moon',
                    "words": [{"word": "hearts", "weight": 64}, {"word": "two", "weight": 36}],
                    "conditions": ["-moon"],
                },
                "hits": [
                    {
                        "rank": 1,
                        "id": "17.png",
                        "image": "MTcucG5n",
                        "score": 27212,
                        "words": [{"word": "hearts", "score": 14080}],
                        "metadata": {"folder": "", "modified": "2024-05-31T17:05:00"},
                    }
                ],
                "total": 500,
                "next_offset": 24,
                "cost": {
                    "postings": 310,
                    "encode_ms": 9.1,
                    "search_ms": 0.4,
                    "rerank_ms": 0,
                    "explain_ms": 1.2,
                },
                "generation": "2",
                "ordered_by": "none",
            }
        }
    )


class InWords(BaseModel):
    """Something as words: edit them, and search with them."""

    words: list[Word]
    query: str


class Contribution(BaseModel):
    """A word that a query and a picture share."""

    word: str
    query: int
    impact: int = Field(description="1..255; below 0 for a missing word that is penalised")
    score: int
    patch: int = Field(description="number of the patch that won the word; -1 for none")


class Patches(BaseModel):
    """Places of the words in the picture."""

    grid: list[int] = Field(description="rows and columns of patches")
    size: list[int] = Field(description="width and height of the picture, pixels")
    box: list[float] = Field(
        description="left, top, right and bottom of the part that the model saw, as shares"
    )
    words: dict[str, list[float]] = Field(description="0..1 for each patch, row by row")
    pixels: dict[str, list[float]] | None = Field(description="which pixels a word needs")
    scores: list[float] = Field(description="share of the score of each patch, row by row")


class Alignment(BaseModel):
    """The word of the wanted texts that each patch matches best."""

    words: list[str]
    grid: list[int]
    patches: list[int] = Field(description="number of the word, row by row; -1 for none")
    cosines: list[float]


class TextWord(BaseModel):
    """A word of a text, and the terms that it raised."""

    word: str
    terms: dict[str, float]
    attention: float | None = Field(
        description="share of the text tower's attention, null without one; no part of a score"
    )


class TracedText(BaseModel):
    """A text of the query."""

    text: str
    weight: float = Field(description="below 0 where the text is subtracted")
    words: list[TextWord]


class Share(BaseModel):
    """A word's part in the score that orders."""

    word: str
    query: float = Field(description="of either sign")
    weight: float
    score: float


class Order(BaseModel):
    """The score that orders: words, what is beyond words, and the constant add up to it."""

    score: float
    words: list[Share]
    beyond_words: float
    constant: float
    fit: float | None


class Explained(BaseModel):
    """Why a picture was found."""

    id: str
    score: int = Field(description="of the words that found it")
    ordered_by: str = Field(description="vectors, terms, none (the words) or a reranker's name")
    order: Order | None = Field(description="of vectors and terms")
    words: list[Contribution]
    patches: Patches | None
    alignment: Alignment | None
    texts: list[TracedText]
    changed: bool = Field(description="the picture is not the one that was indexed")


class System(BaseModel):
    """Hits of another system; none where the query has no text."""

    name: str
    hits: list[Ranked]


class Compared(BaseModel):
    """The same query in other systems."""

    systems: list[System]

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "systems": [
                    {
                        "name": "dense",
                        "hits": [{"rank": 1, "id": "17.png", "image": "MTcucG5n", "score": 0.31}],
                    },
                    {"name": "BM25 over captions", "hits": []},
                ]
            }
        }
    )


class Named(BaseModel):
    """A picture by its id, and by its opaque name."""

    id: str
    image: str


class Skipped(BaseModel):
    """A picture that was not taken, and why."""

    name: str
    reason: str


class Added(BaseModel):
    """The fate of posted pictures."""

    added: list[Named]
    skipped: list[Skipped]


class Deleted(BaseModel):
    """How many pictures were deleted."""

    deleted: int


class Alive(BaseModel):
    """That the process answers."""

    status: str = "ok"


class Health(BaseModel):
    """Whether the server works: "ok", "impaired" (searches work), or "failing" with 503."""

    status: Literal["ok", "impaired", "failing"]
    problems: list[str]
    documents: int
    generation: str


class Stats(BaseModel):
    """Size of the index, facts of its build, and rights and limits of the server."""

    model_config = ConfigDict(extra="allow")

    documents: int
    postings: int
    bytes: int
    generation: str
    read_only: bool
    rerankers: list[str]
    compare: bool
    limits: dict[str, Any]

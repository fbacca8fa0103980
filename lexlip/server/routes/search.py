"""The routes /search, /words, /explain and /compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from lexlip.filters.columns import nfc
from lexlip.query import query as queries
from lexlip.server import batch_schemas, bodies, description, schemas
from lexlip.server.answers import batch, compare, explain, search
from lexlip.server.failures import Refused
from lexlip.server.picture_files import read_posted, token_of
from lexlip.server.service import Service, ServiceOf

router = APIRouter(tags=[description.SEARCH])
Text = Annotated[str, Query(description="a text, or a query", examples=["two hearts -moon"])]
_OWN = {"max_length": schemas.MOST_PICTURES, "examples": [["MTcucG5n"]]}
More = Annotated[
    Sequence[schemas.Token],
    Query(description="pictures of the index that are added, each by its `image` or `id`", **_OWN),
]
Less = Annotated[
    Sequence[schemas.Token],
    Query(description="pictures of the index that are subtracted, half as much", **_OWN),
]


@router.get("/search", response_model=schemas.Found, response_model_exclude_unset=True)
async def get_search(
    service: ServiceOf,
    q: Text = "",
    k: Annotated[int, Query(ge=1, le=schemas.MAX_COUNT, description="hits of this answer")] = 24,
    offset: Annotated[int, Query(ge=0, le=schemas.MAX_COUNT, description="hits to pass over")] = 0,
    where: Annotated[str, Query(description="a filter over metadata: year >= 2020")] = "",
    rerank: Annotated[
        str | None, Query(description="what orders: vectors, terms, none, filip, csd, ...")
    ] = None,
    depth: Annotated[
        int | None, Query(ge=1, le=schemas.MAX_COUNT, description="hits that are reranked")
    ] = None,
    min_fit: Annotated[float | None, Query(description="leave out hits that fit less")] = None,
    explain: Annotated[bool, Query(description="say which words found each hit")] = True,
    more: More = (),
    less: Less = (),
) -> Any:
    """Find pictures for a text, or a query such as `flower + 2:bee -people must:red`."""
    request = schemas.Search(
        q=q,
        k=k,
        offset=offset,
        where=where,
        rerank=rerank,
        depth=depth,
        min_fit=min_fit,
        explain=explain,
        more=list(more),
        less=list(less),
    )
    return await _search(service, request, None)


@router.post(
    "/search",
    response_model=schemas.Found,
    response_model_exclude_unset=True,
    openapi_extra=bodies.described(schemas.Search, "the same as JSON, as text; optional"),
)
async def post_search(service: ServiceOf, request: Request) -> Any:
    """Find pictures for a query, for edited words, or for a picture with a query."""
    return await _search(service, *await bodies.read(request, schemas.Search))


async def _search(service: Service, request: schemas.Search, picture: bytes | None) -> Any:
    def work() -> dict[str, Any]:
        query = asked(service, request, picture)
        found = search.search(service.served, service.settings, request, query)
        if not found["query"]["words"]:
            found |= {"note": search.NO_WORDS, "near": service.browsing.near(request.q)}
        return found

    found = await service.workers.run(work)
    service.metrics.searched(found)
    return found


@router.post(
    "/search/batch",
    response_model=batch_schemas.Answers,
    response_model_exclude_unset=True,
    openapi_extra=bodies.described_json(batch_schemas.Batch),
)
async def post_batch(service: ServiceOf, request: Request) -> Any:
    """Find pictures for up to 64 queries: encoded together, with the same options."""
    given = await bodies.read_json(request, batch_schemas.Batch)
    found = await service.workers.run(batch.search_many, service.served, service.settings, given)
    service.metrics.searched(found)
    return found


@router.post(
    "/words",
    response_model=schemas.InWords,
    openapi_extra=bodies.described(schemas.Words, 'added to the picture: {"q": "red"}; optional'),
)
async def post_words(service: ServiceOf, request: Request) -> Any:
    """Turn a query or a picture into weighted words, which can be edited and searched with."""
    given, picture = await bodies.read(request, schemas.Words)

    def work() -> dict[str, Any]:
        query = asked(service, schemas.Search(q=given.q), picture)
        with service.served.model_lock:
            resolved = query.resolved(service.served.model)
        return {"words": search.as_words(resolved), "query": str(resolved)}

    return await service.workers.run(work)


@router.get("/explain", response_model=schemas.Explained)
async def get_explain(
    service: ServiceOf,
    image: Annotated[
        schemas.Token, Query(description="`image` or `id` of a hit", examples=["MTcucG5n"])
    ] = "",
    id: Annotated[
        schemas.Token, Query(description="`id` of a hit, instead of `image`", examples=["17.png"])
    ] = "",
    q: Text = "",
    rerank: Annotated[str | None, Query(description="as for the search")] = None,
    more: More = (),
    less: Less = (),
) -> Any:
    """Say why a picture was found: by which words, and where in the picture they are."""
    if bool(image) == bool(id):
        raise Refused(422, "say which picture: give its `image` or its `id`, one of the two")
    request = schemas.Search(q=q, rerank=rerank, more=list(more), less=list(less))

    def work() -> dict[str, Any]:
        query = asked(service, request, None)
        name = image or token_of(nfc(id))
        return explain.explain(service.served, service.pictures, query, name, request.rerank)

    return await service.workers.run(work)


@router.get("/compare", response_model=schemas.Compared)
async def get_compare(
    service: ServiceOf,
    q: Text,
    k: Annotated[int, Query(ge=1, le=schemas.MAX_COUNT, description="hits of each system")] = 24,
) -> Any:
    """Search other systems for the texts of a query, where the server has any."""
    request = schemas.Search(q=q, k=k)

    def work() -> dict[str, Any]:
        query = search.read_query(request, service.settings)
        return compare.compare(service.served, service.settings, service.compared, query, k)

    return await service.workers.run(work)


def asked(service: Service, request: schemas.Search, picture: bytes | None) -> queries.Query:
    """Read a query, and add a posted picture and pictures of the index to it."""
    if picture is None:
        query = search.read_query(request, service.settings)
    else:
        query = queries.Query.image(read_posted(picture, service.settings.max_pixels))
        if request.q.strip() or request.words:
            query = search.read_query(request, service.settings) + query
    return search.with_own_pictures(query, service.served, service.pictures, request)

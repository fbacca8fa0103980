"""The routes /search, /words, /explain and /compare."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from lexlip.query import query as queries
from lexlip.server import bodies, schemas
from lexlip.server.answers import compare, explain, search
from lexlip.server.picture_files import id_of, read_posted
from lexlip.server.service import Service, ServiceOf
from lexlip.server.settings import Settings

router = APIRouter()
_EXAMPLES = ["a red heart -moon"]
_Text = Annotated[str, Query(description="a text, or a query", examples=_EXAMPLES)]


@router.get("/search", response_model=schemas.Found, response_model_exclude_unset=True)
async def get_search(
    service: ServiceOf,
    q: _Text,
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
        query = with_picture(request, picture, service.settings)
        return search.search(service.served, service.settings, request, query)

    found = await service.workers.run(work)
    service.metrics.searched(found)
    return found


@router.post(
    "/words",
    response_model=schemas.InWords,
    openapi_extra=bodies.described(schemas.Words, 'added to the picture: {"q": "red"}; optional'),
)
async def post_words(service: ServiceOf, request: Request) -> Any:
    """Turn a query or a picture into weighted words, which can be edited and searched with."""
    asked, picture = await bodies.read(request, schemas.Words)

    def work() -> dict[str, Any]:
        query = with_picture(schemas.Search(q=asked.q), picture, service.settings)
        with service.served.model_lock:
            resolved = query.resolved(service.served.model)
        return {"words": search.as_words(resolved), "query": str(resolved)}

    return await service.workers.run(work)


@router.get("/explain", response_model=schemas.Explained)
async def get_explain(
    service: ServiceOf,
    q: _Text,
    image: Annotated[str, Query(description="`image` of a hit", examples=["MTcucG5n"])],
    rerank: Annotated[str | None, Query(description="as for the search")] = None,
) -> Any:
    """Say why a picture was found: by which words, and where in the picture they are."""
    id, request = id_of(image), schemas.Search(q=q, rerank=rerank)

    def work() -> dict[str, Any]:
        query = search.read_query(request, service.settings)
        return explain.explain(service.served, service.pictures, query, id, request.rerank)

    return await service.workers.run(work)


@router.get("/compare", response_model=schemas.Compared)
async def get_compare(
    service: ServiceOf,
    q: _Text,
    k: Annotated[int, Query(ge=1, le=schemas.MAX_COUNT, description="hits of each system")] = 24,
) -> Any:
    """Search other systems for the texts of a query, where the server has any."""
    request = schemas.Search(q=q, k=k)

    def work() -> dict[str, Any]:
        query = search.read_query(request, service.settings)
        return compare.compare(service.served, service.settings, service.compared, query, k)

    return await service.workers.run(work)


def with_picture(
    request: schemas.Search, picture: bytes | None, settings: Settings
) -> queries.Query:
    """Read a query, and add a posted picture to it."""
    if picture is None:
        return search.read_query(request, settings)
    seen = queries.Query.image(read_posted(picture, settings.max_pixels))
    if request.q.strip() or request.words:
        return search.read_query(request, settings) + seen
    return seen

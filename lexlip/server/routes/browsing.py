"""The routes /columns, /facets and /words: what an index holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query

from lexlip.server import browsing_schemas, description, schemas
from lexlip.server.answers import facets, search
from lexlip.server.routes.search import Less, More, Text, asked
from lexlip.server.service import ServiceOf

router = APIRouter(tags=[description.INDEX])


@router.get("/columns", response_model=browsing_schemas.Columns)
async def get_columns(service: ServiceOf) -> Any:
    """Return what pictures can be filtered by: columns, frequent values, smallest and largest."""
    return await service.workers.run(service.browsing.columns)


@router.get("/facets", response_model=browsing_schemas.Facets)
async def get_facets(
    service: ServiceOf,
    column: Annotated[
        Sequence[schemas.Token],
        Query(max_length=64, description="columns that are counted; all by default"),
    ] = (),
    where: Annotated[
        str, Query(description="count pictures of this filter only", examples=["bytes > 1000"])
    ] = "",
    q: Text = "",
    more: More = (),
    less: Less = (),
    depth: Annotated[
        int | None,
        Query(
            ge=1,
            le=schemas.MAX_COUNT,
            description="best hits of a query that are counted; by default as many as are allowed",
        ),
    ] = None,
    most: Annotated[int, Query(ge=1, le=1000, description="values of each column")] = 100,
) -> Any:
    """Count the values of columns: of all pictures, of a filter, or of the best hits of a query."""
    search.check_text(where, service.settings, "filter")
    depth = depth or service.settings.max_depth
    request = schemas.Search(q=q, where=where, k=1, depth=depth, more=list(more), less=list(less))

    def work() -> dict[str, Any]:
        looked_for = q.strip() or more or less
        query = asked(service, request, None) if looked_for else None
        return facets.facets(service.served, service.settings, request, query, column, most)

    return await service.workers.run(work)


@router.get("/words", response_model=browsing_schemas.FrequentWords)
async def get_words(service: ServiceOf) -> Any:
    """Return words to try in this index: a mixture of frequent and rarer ones."""
    return await service.workers.run(service.browsing.words)

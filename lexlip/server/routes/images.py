"""The route /images: pictures are listed, sent, added and deleted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as InPath
from fastapi.responses import FileResponse

from lexlip.server import bodies, browsing_schemas, description, schemas
from lexlip.server.answers import browsing, images, search
from lexlip.server.failures import no_such_image
from lexlip.server.guard import is_local
from lexlip.server.picture_files import id_of
from lexlip.server.service import ServiceOf

router = APIRouter(prefix="/images", tags=[description.PICTURES])
_Image = Annotated[str, InPath(description="`image` of a hit", examples=["MTcucG5n"])]


@router.get("", response_model=browsing_schemas.Wall)
async def get_images(
    service: ServiceOf,
    offset: Annotated[
        int, Query(ge=0, le=schemas.MAX_COUNT, description="pictures to pass over")
    ] = 0,
    limit: Annotated[int, Query(ge=1, le=200, description="pictures of this answer")] = 60,
    where: Annotated[str, Query(description="a filter over metadata: year >= 2020")] = "",
) -> Any:
    """List pictures without a query, newest first: by the date when they were taken, else of
    their file.
    """
    search.check_text(where, service.settings, "filter")
    return await service.workers.run(browsing.wall, service.served, offset, limit, where)


@router.get("/{image}/facts", response_model=browsing_schemas.Facts)
async def get_image_facts(service: ServiceOf, request: Request, image: _Image) -> Any:
    """Return the metadata of a picture, and its size in pixels and bytes."""
    local = is_local(request.scope, service.settings)
    return await service.workers.run(
        browsing.picture_facts, service.served, service.pictures, id_of(image), local
    )


@router.get(
    "/{image}",
    response_class=Response,
    responses={200: {"content": {"image/*": {}}}, 304: {"description": "not changed"}},
)
async def get_image(
    service: ServiceOf,
    request: Request,
    image: _Image,
    size: Annotated[Literal["thumb", "full"], Query(description="small, or as it is")] = "thumb",
) -> Response:
    """Send a picture, or a small one of it."""
    id, given = id_of(image), request.headers.get("if-none-match", "")

    def work() -> Response:
        with service.served.reading() as index:
            if index.engine.fetch([id])[0] is None:
                raise no_such_image()
        stamp = service.pictures.stamp(id)
        tag = f'"{stamp}-{size}"'
        headers = {"ETag": tag, "Cache-Control": "private, max-age=3600"}
        if tag in given:
            return Response(status_code=304, headers=headers)
        sent = (
            service.pictures.thumbnail(id, stamp) if size == "thumb" else service.pictures.full(id)
        )
        if isinstance(sent.data, Path):  # read as it is sent
            return FileResponse(sent.data, media_type=sent.media_type, headers=headers)
        return Response(sent.data, media_type=sent.media_type, headers=headers)

    return await service.workers.run(work)


@router.post("", response_model=schemas.Added, openapi_extra=bodies.described_files())
async def post_images(service: ServiceOf, request: Request) -> Any:
    """Add pictures; `metadata` is one JSON object, of all of them, and optional."""
    images.check_writable(service.settings)
    files, text = await bodies.read_files(request)
    metadata = images.read_metadata(text)
    return await service.workers.finish(
        images.add, service.served, service.pictures, files, metadata, service.settings
    )


@router.delete("/{image}", response_model=schemas.Deleted)
async def delete_image(service: ServiceOf, image: _Image) -> Any:
    """Delete a picture from the index; its file only if it was posted here."""
    images.check_writable(service.settings)
    return await service.workers.finish(
        images.delete, service.served, service.pictures, id_of(image)
    )

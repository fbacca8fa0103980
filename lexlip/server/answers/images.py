"""Answers to /images: posted pictures are added, and deleted."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from lexlip.data.collection import Collection
from lexlip.data.metadata import FILE_METADATA
from lexlip.errors import LexLIPError
from lexlip.server.failures import Refused, no_such_image
from lexlip.server.picture_files import Pictures, token_of
from lexlip.server.served_index import ServedIndex
from lexlip.server.settings import Settings

log = logging.getLogger(__name__)
_MOST_COLUMNS = 32
_LONGEST = 1000


def read_metadata(text: str) -> dict[str, Any]:
    """Read the metadata of a posted picture.

    Parameters
    ----------
    text : str
        A JSON object of texts, numbers and truth values; nothing for none.

    Raises
    ------
    LexLIPError
        For anything else.

    Examples
    --------
    >>> read_metadata('{"year": 2020, "by": "Ada"}')
    {'year': 2020, 'by': 'Ada'}
    """
    try:
        found = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError):
        raise LexLIPError('metadata is not JSON: write, for example, {"year": 2020}') from None
    if not isinstance(found, dict) or len(found) > _MOST_COLUMNS:
        raise LexLIPError(f"metadata is one JSON object of at most {_MOST_COLUMNS} values")
    for name, value in found.items():
        if not name.strip() or len(name) > 100 or not _plain(name) or name in FILE_METADATA:
            raise LexLIPError(f"metadata cannot have the name {name!r:.100}: choose another")
        if value is not None and not _plain(value):
            raise LexLIPError(
                f"metadata {name!r} must be a text of up to {_LONGEST} characters, a number, "
                "true or false"
            )
    return found


def _plain(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= _LONGEST and not any("\ud800" <= c <= "\udfff" for c in value)
    if isinstance(value, int):
        return abs(value) < 2**63
    return isinstance(value, float) and math.isfinite(value)


def add(
    served: ServedIndex,
    pictures: Pictures,
    files: list[tuple[str, bytes]],
    metadata: dict[str, Any],
    settings: Settings,
) -> dict[str, Any]:
    """Store and index pictures; files that are not pictures are skipped and named.

    Parameters
    ----------
    served, pictures
    files : list of (str, bytes)
        Names, for messages only, and contents.
    metadata : dict
        Of each of them.
    settings : Settings

    Returns
    -------
    dict
        As `lexlip.server.schemas.Added`.

    Raises
    ------
    LexLIPError
        When none can be taken. Nothing is stored then. A failure after the pictures were committed
        is an error too, but they stay.
    """
    skipped: list[dict[str, str]] = []
    first: LexLIPError | None = None
    with served.writing() as index:
        check_columns(index.engine.kinds, metadata, settings.max_columns)
        if swept := pictures.sweep(index.engine.fetch):
            log.warning("%d posted pictures that no document has were removed", swept)
        kept = {}
        for name, data in files:
            try:
                id, path = pictures.keep(data, name)
                kept[id] = path
            except LexLIPError as error:
                first = first or error
                skipped.append({"name": name, "reason": str(error)})
        if not kept:
            raise first or LexLIPError("no file: post pictures as multipart/form-data")
        ids = list(kept)
        new = [id for id, held in zip(ids, index.engine.fetch(ids), strict=True) if held is None]
        try:
            columns = {name: [value] * len(ids) for name, value in metadata.items()}
            index.add(
                Collection(ids, [[] for _ in ids], list(kept.values()), columns=columns),
                force=True,
            )
        except BaseException as error:
            if not may_be_committed(served, new):
                pictures.forget(new)
            log.warning("adding %d pictures failed: %s", len(new), error)
            raise
    return {"added": [{"id": id, "image": token_of(id)} for id in ids], "skipped": skipped}


def may_be_committed(served: ServedIndex, ids: Sequence[str]) -> bool:
    """Return whether the last commit has some of these documents, or that cannot be told.

    A commit is made before the writer opens what it wrote, and that may fail.
    """
    try:
        with served.reading() as index:
            return served.problem() is not None or index.engine.fetch(ids) != [None] * len(ids)
    except Exception:
        return True


def check_columns(held: Mapping[str, Any], metadata: Mapping[str, Any], most: int) -> None:
    """Refuse columns beyond those that an index may have: each is some open files.

    Raises
    ------
    LexLIPError
    """
    new = [name for name in metadata if name not in held]
    if new and len(held) + len(new) > most:
        raise LexLIPError(
            f"the index has {len(held)} columns of metadata, and {len(new)} more would be over the "
            f"limit of {most}: use names that are there"
        )


def delete(served: ServedIndex, pictures: Pictures, id: str) -> dict[str, int]:
    """Delete a picture from the index, and its file where it was posted.

    Raises
    ------
    Refused
        404 when there is none.
    """
    with served.writing() as index:
        count = index.delete([id])
        if not count:
            raise no_such_image()
        pictures.forget([id])
    return {"deleted": count}


def check_writable(settings: Settings) -> None:
    """Refuse changes where there are to be none."""
    if settings.read_only:
        raise Refused(403, "this server is read-only: nothing is added or deleted here")

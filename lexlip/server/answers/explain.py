"""Answers to /explain: why a picture was found."""

from __future__ import annotations

from typing import Any

from lexlip.data.images import read_photo
from lexlip.errors import LexLIPError
from lexlip.explain import explanation
from lexlip.query.query import Query
from lexlip.server.answers.search import own_picture
from lexlip.server.picture_files import Pictures
from lexlip.server.served_index import ServedIndex


def explain(
    served: ServedIndex, pictures: Pictures, query: Query, name: str, rerank: str | None = None
) -> dict[str, Any]:
    """Explain a hit, by its `image` or its `id`.

    Returns
    -------
    dict
        As `lexlip.explain.explanation.Explanation.as_dict`. Without the picture's file there are
        no patches.
    """
    with served.model_lock:
        prepared = query.prepare(served.model)
    with served.reading() as index:
        id = own_picture(index, name)
        words, account = index.explain(id, prepared), index.account(id, prepared, rerank)
    try:
        side = getattr(served.model, "image_side", None)
        picture = read_photo(pictures.found(id), "the picture", side)
    except LexLIPError:  # moved, or corrupted, after it was indexed
        picture = None
    with served.model_lock:  # the engine is asked no more, so the index may be renewed meanwhile
        found = explanation.explain(index, id, prepared, picture, words=words, account=account)
        return found.as_dict()

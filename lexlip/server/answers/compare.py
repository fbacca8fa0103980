"""Answers to /compare: the same query in dense vectors, and in BM25 over captions."""

from __future__ import annotations

import logging
import threading
from functools import cached_property
from pathlib import Path
from typing import Any

from lexlip.data.originals import Originals
from lexlip.errors import LexLIPError
from lexlip.measure.systems import DENSE, CaptionIndex, ComparedSystem, DenseVectors
from lexlip.query.query import Query
from lexlip.server.failures import Refused
from lexlip.server.picture_files import token_of
from lexlip.server.served_index import ServedIndex
from lexlip.server.settings import Settings

log = logging.getLogger(__name__)


class ComparedSystems:
    """The systems that an index is compared with.

    Vectors are opened with the server; captions are read, and indexed, when first asked for.

    Parameters
    ----------
    index : Path
    originals : Originals
        The indexed pictures and captions.
    """

    def __init__(self, index: Path, originals: Originals) -> None:
        self._originals = originals
        self._lock = threading.Lock()
        self._dense: DenseVectors | None = None
        if (index / DENSE).exists():
            try:
                self._dense = DenseVectors(index)
            except LexLIPError as error:
                log.warning("dense vectors cannot be compared with: %s", error)

    @cached_property
    def _captions(self) -> dict[str, list[str]]:
        collection = self._originals.collection
        if collection is None:
            return {}
        every = zip(collection.ids, collection.captions, strict=True)
        return {name: captions for name, captions in every if captions}

    @cached_property
    def _caption_index(self) -> CaptionIndex:
        return CaptionIndex(self._captions)

    def __bool__(self) -> bool:
        """Say whether there is any; reads captions, and indexes none."""
        with self._lock:
            return self._dense is not None or bool(self._captions)

    def systems(self) -> list[ComparedSystem]:
        """Return all of them."""
        with self._lock:
            found: list[ComparedSystem] = [] if self._dense is None else [self._dense]
            return [*found, self._caption_index] if self._captions else found


def compare(
    served: ServedIndex, settings: Settings, compared: ComparedSystems, query: Query, k: int
) -> dict[str, Any]:
    """Search other systems for the texts of a query; signs, words and pictures are LexLIP's own.

    Returns
    -------
    dict
        As `lexlip.server.schemas.Compared`.
    """
    if k > settings.max_hits:
        raise Refused(400, f"k is {k}: at most {settings.max_hits}")
    systems = compared.systems()
    text = " ".join(
        part.content for part in query.parts if isinstance(part.content, str) and part.weight > 0
    )
    if not text:
        return {"systems": [{"name": system.name, "hits": []} for system in systems]}
    with served.model_lock:
        scores = [system.scores(text) for system in systems]
    with served.reading() as index:
        found = [
            system.best(of, k, index.engine.fetch)
            for system, of in zip(systems, scores, strict=True)
        ]
    return {
        "systems": [
            {
                "name": system.name,
                "hits": [
                    {"rank": rank, "id": hit.id, "image": token_of(hit.id), "score": hit.score}
                    for rank, hit in enumerate(hits, 1)
                ],
            }
            for system, hits in zip(systems, found, strict=True)
        ]
    }

"""Answers to /facets: values of columns and their counts."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lexlip.engines.browsing import Facet, facet, facets_of
from lexlip.filters.columns import Kind, nfc
from lexlip.filters.where import Where
from lexlip.query.query import Query
from lexlip.server.answers.search import check_depth
from lexlip.server.failures import Refused
from lexlip.server.schemas import Search
from lexlip.server.served_index import ServedIndex
from lexlip.server.settings import Settings


def facets(
    served: ServedIndex,
    settings: Settings,
    request: Search,
    query: Query | None,
    columns: Sequence[str],
    most: int,
) -> dict[str, Any]:
    """Count the values of columns, as `lexlip.server.browsing_schemas.Facets`.

    Parameters
    ----------
    served, settings
    request : Search
        Its filter, and the depth: how many hits are counted.
    query : Query, optional
        Only its best hits are counted.
    columns : sequence of str
        All where there is none.
    most : int
        Values of a column.

    Raises
    ------
    Refused
        400 for an unknown column.
    LexLIPError
        For a filter that does not fit.
    """
    check_depth(request, settings)
    kept = Where.parse(request.where) if request.where.strip() else None
    if query is not None:
        with served.model_lock:
            prepared = query.prepare(served.model)
    with served.reading() as index:
        kinds = _chosen(index.engine.kinds, columns)
        if query is None:
            count = index.engine.matching(kept)
            found = [facet(index.engine, name, most, kept) for name in sorted(kinds)]
        else:
            hits = index.search(prepared, request.depth or 1, kept)
            documents = index.engine.fetch([hit.id for hit in hits])
            count, found = len(hits), facets_of((it or {} for it in documents), kinds, most)
        generation = str(index.engine.generation)
    return {"facets": list(shown(found)), "documents": count, "generation": generation}


def _chosen(kinds: Mapping[str, Kind], columns: Iterable[str]) -> dict[str, Kind]:
    """Return the kinds of the columns that were asked for."""
    names = [nfc(name) for name in columns] or list(kinds)
    for name in names:
        if name not in kinds:
            near = difflib.get_close_matches(name, kinds, 1) or sorted(kinds)
            said = ", ".join(near) or "none"
            raise Refused(400, f"no document has a column {name[:100]!r}: there is {said}"[:500])
    return {name: kinds[name] for name in names}


def shown(facets: Iterable[Facet]) -> Iterable[dict[str, Any]]:
    """Yield facets, each as `lexlip.server.browsing_schemas.Column`."""
    for one in facets:
        yield {
            "name": one.name,
            "kind": one.kind,
            "values": [{"value": value, "count": count} for value, count in one.values],
            "whole": one.whole,
            "min": one.smallest,
            "max": one.largest,
        }

"""Answers in pages: a point in time, and the sort values of the last document."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from lexlip.engines.distant import Unavailable
from lexlip.engines.opensearch.place import Place

PAGE = 5000
"""Documents of a page; OpenSearch answers 10,000 at the most."""

WHOLE = {"allow_partial_search_results": "false"}
"""For a search: an error where a shard is missing. By default the others would answer alone."""

_KEEP = "5m"
_WHOLE_POINT = {"keep_alive": _KEEP, "allow_partial_pit_creation": "false"}


def ask(client: Any, place: Place, body: dict[str, Any]) -> dict[str, Any]:
    """Search, and return the whole answer.

    Raises
    ------
    Unavailable
        When a shard is missing in it: no part of an answer is taken for all.
    """
    index = None if "pit" in body else place.name
    params = {} if "pit" in body else dict(WHOLE)
    return whole(client.search(index=index, body=body, params=params), place)


def whole(answer: dict[str, Any], place: Place) -> dict[str, Any]:
    """Return an answer, where nothing is missing in it.

    Raises
    ------
    Unavailable
        Where something is.
    """
    if "error" in answer:
        raise Unavailable(f"OpenSearch at {place.nodes[0]}: {answer['error']!s:.300}")
    if answer.get("timed_out") or answer["_shards"]["failed"]:
        raise Unavailable(f"shards of {place} did not answer: look at the health of the cluster")
    return answer


def pages(
    client: Any, place: Place, body: dict[str, Any], most: int, size: int = PAGE
) -> Iterator[list[dict[str, Any]]]:
    """Yield the first hits of a search, `size` at a time, in its order.

    Parameters
    ----------
    body
        A search with a sort that puts no two documents in the same place.
    most
        Hits that are wanted.
    """
    if most <= size:
        if found := ask(client, place, {**body, "size": most})["hits"]["hits"]:
            yield found
        return
    point = client.create_pit(index=place.name, params=_WHOLE_POINT)["pit_id"]
    try:
        after: dict[str, Any] = {}
        while most > 0:
            at = {"pit": {"id": point, "keep_alive": _KEEP}, "size": min(size, most), **after}
            answer = ask(client, place, {**body, **at})
            found, point = answer["hits"]["hits"], answer.get("pit_id", point)
            if not found:
                return
            yield found
            most -= len(found)
            after = {"search_after": found[-1]["sort"]}
    finally:
        with suppress(Exception):  # it goes away by itself, too
            client.delete_pit(body={"pit_id": [point]})

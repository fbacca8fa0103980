"""Changes in bulk: bodies of some megabytes, tried again while the cluster is busy."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

from lexlip.engines.opensearch.documents import BODY
from lexlip.engines.opensearch.errors import blocked
from lexlip.engines.opensearch.place import Place
from lexlip.errors import LexLIPError

_MANY = 1000
SENDERS = 2
"""Threads that send new documents."""

_TRIES = 8
_FIRST_WAIT, _LONGEST_WAIT = 1, 10


def send_apart(client: Any, place: Place, actions: Iterable[dict[str, Any]]) -> int:
    """Send changes of different documents in any order, two bodies at a time; see `send`.

    While the cluster works on one body the next is written. No more are waiting in memory.
    """
    waiting: deque[Future[int]] = deque()
    coming, done = iter(actions), 0
    with ThreadPoolExecutor(SENDERS) as pool:
        while part := list(islice(coming, _MANY)):
            if len(waiting) == SENDERS:
                done += waiting.popleft().result()
            waiting.append(pool.submit(send, client, place, part))
        return done + sum(future.result() for future in waiting)


def send(client: Any, place: Place, actions: Iterable[dict[str, Any]]) -> int:
    """Send changes in their order, and return how many were made.

    An item that the cluster is too busy for (429) is sent again, later and later.

    Parameters
    ----------
    actions
        As `opensearchpy.helpers.streaming_bulk` takes them.

    Raises
    ------
    LexLIPError
        When one is refused: each answer of a bulk is looked at. Those before it were made.
    """
    from opensearchpy.helpers import streaming_bulk

    done = 0
    for fine, answer in streaming_bulk(
        client,
        actions,
        index=place.name,
        chunk_size=_MANY,
        max_chunk_bytes=BODY,
        max_retries=_TRIES,
        initial_backoff=_FIRST_WAIT,
        max_backoff=_LONGEST_WAIT,
        raise_on_error=False,
    ):
        ((kind, item),) = answer.items()
        if not fine and not (kind == "delete" and item.get("status") == 404):
            raise LexLIPError(_refused(place, item))
        done += 1
    return done


def _refused(place: Place, item: dict[str, Any]) -> str:
    error = item.get("error")
    cause = error.get("caused_by") or error if isinstance(error, dict) else {"reason": error}
    reason = f"{cause.get('type', '')}: {cause.get('reason')}"
    if item.get("status") == 429 and "block" not in reason:
        return f"OpenSearch at {place.nodes[0]} stayed too busy: try again later"
    if "block" in reason:
        return blocked(place)
    return f"{place} refuses a document ({item.get('_id')!r:.80}): {' '.join(reason.split()):.300}"

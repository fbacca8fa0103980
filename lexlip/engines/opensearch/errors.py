"""Errors of a cluster, each in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lexlip.engines.distant import Unavailable, seconds_allowed
from lexlip.engines.opensearch.place import Place
from lexlip.errors import LexLIPError, require


@contextmanager
def readable(place: Place) -> Iterator[None]:
    """Turn what a client raises into a LexLIPError; what may pass is `Unavailable`."""
    require("opensearchpy")
    from opensearchpy import exceptions

    try:
        yield
    except exceptions.OpenSearchException as error:
        status = error.status_code if isinstance(error, exceptions.TransportError) else None
        ours = isinstance(status, int) and status in (400, 409, 413)
        raise (LexLIPError if ours else Unavailable)(_line(place, error, exceptions)) from None


def _line(place: Place, error: Exception, kinds: Any) -> str:
    others = len(place.nodes) - 1
    node = place.nodes[0] + (f" (and {others} more)" if others else "")
    if isinstance(error, kinds.ConnectionTimeout):
        return (
            f"OpenSearch at {node} did not answer within {seconds_allowed(place.timeout):.0f} s: "
            "look at its load, or make the index with a larger ?timeout="
        )
    if isinstance(error, kinds.SSLError):
        return (
            f"the certificate of {node} is not trusted: set LEXLIP_OPENSEARCH_CA to the file of "
            "its authority"
        )
    if isinstance(error, kinds.ConnectionError):
        return f"OpenSearch at {node} cannot be reached: is it running, and the address right?"
    if isinstance(error, kinds.AuthenticationException):
        return (
            f"OpenSearch at {node} wants a user: set LEXLIP_OPENSEARCH_USER and "
            "LEXLIP_OPENSEARCH_PASSWORD"
        )
    if isinstance(error, kinds.AuthorizationException):
        reason = said(getattr(error, "info", None))
        if "read-only" in reason or "block" in reason:
            return blocked(place)
        return f"OpenSearch at {node} does not let this user at {place.name}: {reason:.200}"
    reason = said(getattr(error, "info", None)) or str(error)
    if "missing shards" in reason or "no_shard_available" in reason:
        return f"shards of {place} did not answer: look at the health of the cluster"
    if "index_not_found" in reason:
        return (
            f"there is no index {place.name} at {node}: was it deleted, or replaced twice? "
            "Open the index again, or build it again"
        )
    if getattr(error, "status_code", None) == 429:
        return f"OpenSearch at {node} is too busy: try again later, or give it more memory"
    return f"OpenSearch at {node}: {' '.join(reason.split()):.300}"


def blocked(place: Place) -> str:
    """Return the line of an index that takes no changes."""
    return (
        f"{place} takes no changes, as on a disk that is nearly full: free space on its nodes, "
        "then set index.blocks.read_only_allow_delete to null"
    )


def said(info: Any) -> str:
    """Return the type and the reason that an answer gives for an error."""
    error = info.get("error") if isinstance(info, dict) else None
    if not isinstance(error, dict):
        return str(error or info or "")
    causes = error.get("root_cause") or [error]
    cause = error.get("caused_by") or causes[0]
    return f"{cause.get('type', error.get('type'))}: {cause.get('reason', error.get('reason'))}"

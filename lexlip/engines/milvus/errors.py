"""Errors of Milvus, each in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lexlip.engines.distant import Unavailable, seconds_allowed
from lexlip.engines.milvus.place import Place
from lexlip.errors import LexLIPError, require

_NO_COLLECTION, _NOT_LOADED = 100, 101
_ON_DISK = ("no space left", "disk full", "disk is full", "database or disk is full")


@contextmanager
def readable(place: Place) -> Iterator[None]:
    """Turn what a client raises into a LexLIPError; what may pass is `Unavailable`."""
    require("pymilvus")
    import grpc
    from pymilvus.exceptions import MilvusException

    try:
        yield
    except (MilvusException, grpc.RpcError, grpc.FutureTimeoutError) as error:
        raise (Unavailable if _may_pass(error) else LexLIPError)(_line(place, error)) from None


def unimplemented(error: BaseException) -> bool:
    """Return whether a server says that it cannot do something at all."""
    code = getattr(error, "code", None)
    name = getattr(code() if callable(code) else code, "name", "")
    return name == "UNIMPLEMENTED" or "UNIMPLEMENTED" in str(error)


def not_loaded(error: BaseException) -> bool:
    """Return whether a server says that a collection is not in memory."""
    said = str(error)
    return "not loaded" in said or "'released'" in said or getattr(error, "code", 0) == _NOT_LOADED


_SILENT = ("deadline", "timeout", "timed out")
_GONE = ("unavailable", "failed to connect", "fail connecting")


def _may_pass(error: Exception) -> bool:
    """Return whether the same may work in a moment."""
    said = str(getattr(error, "message", None) or error).lower()
    return any(sign in said for sign in (*_SILENT, *_GONE)) or not_loaded(error)


def _line(place: Place, error: Exception) -> str:
    said = " ".join(str(getattr(error, "message", None) or error).split())
    small = said.lower()
    if place.embedded and "open local milvus failed" in small:
        return (
            f"{place.uri} cannot be opened: end the other program that has it open, or start "
            "`milvus-lite server` and use its address"
        )
    if any(sign in small for sign in _ON_DISK):
        return f"{place} takes no changes, its disk is full: free space, then open it again"
    if any(sign in small for sign in _SILENT):
        if "connect" in small or "unavailable" in small:
            return _away(place)
        return (
            f"Milvus at {place.uri} did not answer within "
            f"{seconds_allowed(place.timeout):g} s: look at its load, "
            "or make the index with a larger ?timeout="
        )
    if "certificate" in small or "ssl" in small:
        return (
            f"the certificate of {place.uri} is not trusted: set LEXLIP_MILVUS_CA to the file of "
            "its authority"
        )
    if "unauthenticated" in small or "auth check" in small or "permission deny" in small:
        return (
            f"Milvus at {place.uri} does not let this user in: set LEXLIP_MILVUS_TOKEN to "
            "USER:PASSWORD, or to a key"
        )
    if any(sign in small for sign in _GONE):
        return _away(place)
    if getattr(error, "code", None) == _NO_COLLECTION or "collection not found" in small:
        return (
            f"there is no collection {place}: was it deleted, or replaced twice? Open the index "
            "again, or build it"
        )
    return f"Milvus at {place.uri}: {said:.300}"


def _away(place: Place) -> str:
    return f"Milvus at {place.uri} cannot be reached: is it running, and the address right?"

"""Checks before an index is made or opened: a version that ranks rightly."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

from lexlip.engines.milvus.errors import unimplemented
from lexlip.engines.milvus.place import Place
from lexlip.errors import LexLIPError

_LITE = re.compile(r"milvus_lite-(\S+)")
_WRONG = re.compile(r"3\.[01](?!\d)|3\.2\.[01](?!\d)")


def check_installed(place: Place) -> None:
    """Raise where a place is a file, and the installed Milvus Lite ranks wrongly."""
    from importlib.metadata import PackageNotFoundError, version

    if place.embedded:
        with suppress(PackageNotFoundError):
            _refuse(version("milvus-lite"))


def lite_version(client: Any, place: Place) -> str | None:
    """Return the version of Milvus Lite, None for a server that is no Milvus Lite.

    Raises
    ------
    LexLIPError
        For one that ranks wrongly.
    """
    import grpc
    from pymilvus.exceptions import MilvusException

    try:
        told = str(client.get_server_version(timeout=place.timeout))
    except (MilvusException, grpc.RpcError) as error:
        if unimplemented(error):
            return "2"
        raise
    found = _LITE.match(told)
    if found is None:
        return None
    _refuse(found[1])
    return found[1]


def _refuse(version: str) -> None:
    if _WRONG.match(version):
        raise LexLIPError(
            f"milvus-lite {version:.20} ranks wrongly (it scores BM25 where inner products are "
            "asked for): pip install 'milvus-lite>=3.2.2'"
        )

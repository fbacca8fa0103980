"""Bodies for OpenSearch's ``_bulk``: impacts as rank_features, which hold 1..255 exactly.

A feature is named by the number of its word, since a dot in a name finds nothing. The folder has
``mapping.json`` to create the index with, ``words.json`` (word -> number), and bodies of some
megabytes, ``000001.ndjson`` and so on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lexlip.engines.opensearch.documents import (
    BODY,
    CODEC,
    FIELDS,
    ID,
    IMPACTS,
    features,
    key_of,
)
from lexlip.exchange.documents import Documents, plain
from lexlip.storage.files import write_json

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_KINDS = {"bool": "boolean", "int": "long", "float": "double", "str": "keyword"}


def mapping(kinds: Mapping[str, str]) -> dict[str, Any]:
    """Return settings and mapping of an index.

    Parameters
    ----------
    kinds : mapping
        Columns of the metadata; one whose name OpenSearch would take apart is kept but cannot be
        asked for.
    """
    columns = {n: {"type": _KINDS[kind]} for n, kind in kinds.items() if _NAME.fullmatch(n)}
    return {
        "settings": {"index": CODEC},
        "mappings": {
            "dynamic": False,
            "properties": {
                **FIELDS,
                "metadata": {"dynamic": False, "properties": columns},
            },
        },
    }


def unnamed(kinds: Mapping[str, str]) -> list[str]:
    """Return the columns that cannot be asked for."""
    return [name for name in kinds if not _NAME.fullmatch(name)]


def write(
    folder: Path,
    documents: Iterable[Documents],
    words: Sequence[str],
    kinds: Mapping[str, str],
) -> int:
    """Write a folder that exists, and return how many documents."""
    used: set[int] = set()
    count, size, number, file = 0, BODY, 0, None
    try:
        for some in documents:
            used.update(some.rows.indices.tolist())
            for row, (id, metadata) in enumerate(zip(some.ids, some.metadata, strict=True)):
                span = slice(some.rows.indptr[row], some.rows.indptr[row + 1])
                terms, impacts = some.rows.indices[span].tolist(), some.rows.data[span].tolist()
                document: dict[str, Any] = {ID: id, IMPACTS: features(terms, impacts)}
                if metadata:
                    document["metadata"] = plain(metadata)
                action = {"index": {"_id": key_of(id)}}
                lines = "".join(
                    json.dumps(it, ensure_ascii=False, allow_nan=False) + "\n"
                    for it in (action, document)
                ).encode()
                if size + len(lines) > BODY:
                    number, size = number + 1, 0
                    if file is not None:
                        file.close()
                    file = open(folder / f"{number:06}.ndjson", "wb")
                file.write(lines)  # type: ignore[union-attr]  # the first document opens one
                size += len(lines)
            count += len(some.ids)
    finally:
        if file is not None:
            file.close()
    write_json(folder / "mapping.json", mapping(kinds))
    write_json(folder / "words.json", {words[term]: term for term in sorted(used)})
    return count

"""JSON lines as Anserini's JsonVectorCollection and pyserini read and write them.

A line is ``{"id": ..., "contents": "", "vector": {word: weight}}``; ours have "metadata" as well,
which Anserini passes over.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from lexlip.data.readers import lines, why_not_json
from lexlip.errors import LexLIPError
from lexlip.exchange.documents import Documents, check_weight, check_word, plain
from lexlip.filters.columns import kind_of
from lexlip.storage.ids import check_ids

SUFFIXES = (".jsonl", ".json", ".jsonl.gz", ".json.gz")


def write(path: Path, documents: Iterable[Documents], words: Sequence[str], packed: bool) -> int:
    """Write documents, and return how many.

    Parameters
    ----------
    path : Path
    documents : iterable of Documents
    words : sequence of str
        The names of terms, without white space: Anserini divides words there.
    packed : bool
        Write it gzipped.
    """
    count = 0
    opened: Any = gzip.open(path, "wb", 6) if packed else open(path, "wb")
    with opened as file:
        for some in documents:
            _write_some(file, some, words)
            count += len(some.ids)
    return count


def _write_some(file: IO[bytes], some: Documents, words: Sequence[str]) -> None:
    starts, ends = some.rows.indptr[:-1].tolist(), some.rows.indptr[1:].tolist()
    terms, impacts = some.rows.indices.tolist(), some.rows.data.tolist()
    for row, (id, metadata) in enumerate(zip(some.ids, some.metadata, strict=True)):
        span = slice(starts[row], ends[row])
        pairs = sorted(zip(impacts[span], terms[span], strict=True), key=lambda it: (-it[0], it[1]))
        line: dict[str, Any] = {"id": id, "contents": ""}
        line["vector"] = {words[term]: impact for impact, term in pairs}
        if metadata:
            line["metadata"] = plain(metadata)
        file.write(json.dumps(line, ensure_ascii=False, allow_nan=False).encode() + b"\n")


def files_of(path: Path) -> list[Path]:
    """Return the files of a folder of such lines, or the one file."""
    if not path.is_dir():
        return [path]
    found = sorted(it for it in path.iterdir() if it.name.endswith(SUFFIXES) and it.is_file())
    if not found:
        raise LexLIPError(f"{path} holds no .jsonl file: give one, or a folder of some")
    return found


def read(path: Path) -> Iterator[tuple[str, str, Any]]:
    """Yield (place, id, (vector, metadata) or what is wrong) of each line.

    A vector is {word: weight}, metadata {column: value}. What is wrong is a LexLIPError.
    """
    for file in files_of(path):
        for number, line in lines(file):
            if line.strip():
                place = f"{file.name}, line {number}"
                try:
                    id, *found = _parsed(line)
                    yield place, id, tuple(found)
                except LexLIPError as error:
                    yield place, "", error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object whose names all differ."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise LexLIPError(f"has {twice!r:.60} twice")
    return found


def _parsed(line: str) -> tuple[str, dict[str, float], dict[str, Any]]:
    try:
        row = json.loads(line, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise LexLIPError(f"is not JSON ({why_not_json(error)})") from None
    if not isinstance(row, dict) or not isinstance(row.get("vector"), dict):
        raise LexLIPError('has no "vector" {word: weight}')
    id = row.get("id", row.get("docid"))
    id = str(id) if isinstance(id, int) and not isinstance(id, bool) else id
    if not isinstance(id, str):
        raise LexLIPError('has no "id"')
    check_ids([id])
    for word in row["vector"]:
        check_word(word)
    vector = {word: check_weight(weight) for word, weight in row["vector"].items()}
    metadata = row.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise LexLIPError('has "metadata" that are no object')
    for value in metadata.values():
        kind_of(value)
    return id, vector, metadata

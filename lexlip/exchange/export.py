"""Export: the vectors of an index in formats of other programs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lexlip.build.manifest import check_outside, has_said
from lexlip.errors import LexLIPError
from lexlip.exchange import anserini, ciff, npz, opensearch
from lexlip.exchange.documents import Source
from lexlip.storage.files import atomic_directory, atomic_file, check_replaceable

if TYPE_CHECKING:
    from lexlip.index import Index

FORMATS = ("anserini", "ciff", "npz", "opensearch")
_OPENSEARCH = "mapping.json"


@dataclass(frozen=True)
class Exported:
    """The outcome of an export.

    Attributes
    ----------
    documents : int
    said : tuple of str
        What the format cannot carry, and what was written otherwise, a line each.
    """

    documents: int
    said: tuple[str, ...]


def export(
    index: Index, out: str | os.PathLike[str], format: str, *, replace: bool = False
) -> Exported:
    """Write the documents of an index for another program, by id, with their impacts.

    The memory that it takes grows with the ids alone. The file, or folder, is there in full or not
    at all.

    Parameters
    ----------
    index : Index
    out : path
        A file, gzipped if its name ends in ``.gz`` (anserini and ciff); for opensearch a folder.
    format : {"anserini", "ciff", "npz", "opensearch"}
    replace : bool
        Overwrite what is there.

    Raises
    ------
    LexLIPError
        For another format, something at `out`, a place inside of an index, and one that cannot be
        written.

    Examples
    --------
    >>> from lexlip.exchange import export
    >>> export(index, "photos.npz", "npz")                                    # doctest: +SKIP
    Exported(documents=500, said=())
    """
    if format not in FORMATS:
        raise LexLIPError(f"no format {format!r}: choose one of {', '.join(FORMATS)}")
    target = Path(out)
    check_outside(target)
    source = Source(index, index.model.lexicon)
    packed = target.suffix == ".gz"
    if packed and format in ("npz", "opensearch"):
        raise LexLIPError(f"{format} is not gzipped as a whole: leave out .gz")
    kinds: dict[str, Any] = dict(index.engine.kinds)
    said = _said(index, format, kinds)
    joined = format == "anserini"
    words = source.words("_" if joined else None)
    if joined and (spaced := sum(any(map(str.isspace, t)) for t in source.lexicon.tokens)):
        said.append(f"{spaced:,} words of the vocabulary with spaces are written with _")
    if format == "opensearch":
        if target.exists() and not replace:
            raise LexLIPError(f"{target} is there: give another name, or overwrite it: --replace")
        check_replaceable(target, _OPENSEARCH)
        with atomic_directory(target, marker=_OPENSEARCH, replace=replace) as folder:
            return Exported(opensearch.write(folder, source, words, kinds), tuple(said))
    with atomic_file(target, replace) as temporary:
        if format == "anserini":
            count = anserini.write(temporary, source, words, packed)
        elif format == "npz":
            count = npz.write(temporary, source, words, _facts(index))
        else:
            about = f"lexlip: impacts as term frequencies, {len(index)} documents of {index.path}"
            count = ciff.write(temporary, source, words, about, packed)
    return Exported(count, tuple(said))


def _facts(index: Index) -> dict[str, Any]:
    """Return what an archive says of the index, so that pictures can be added after an import."""
    manifest = index.manifest
    return {name: manifest[name] for name in ("scale", "model", "vocabulary")}


def _said(index: Index, format: str, kinds: dict[str, str]) -> list[str]:
    """Return what of the index the format cannot carry, a line each."""
    left, stores = [], index.side_stores
    if has_said(index.manifest):
        left.append("words that are said of documents (must: and - ask for them)")
    for name, there in (
        ("dense vectors", index.has_vectors),
        ("float vectors", stores.floats is not None),
        ("views for rerankers", stores.views is not None),
    ):
        if there:
            left.append(name)
    if kinds and format == "ciff":
        left.append(f"metadata ({', '.join(kinds)})")
    said = [f"left out, {format} has no place for them: {', '.join(left)}"] if left else []
    if format == "opensearch" and (dotted := opensearch.unnamed(kinds)):
        said.append(f"kept, but no filter can ask for them: columns {', '.join(dotted)}")
    return said

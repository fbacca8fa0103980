"""Lucene indexes that were written apart, joined into one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from lexlip.engines.lucene.bridge import PACKAGE, WRITING, classes, readable_errors
from lexlip.engines.lucene.engine import LuceneEngine
from lexlip.filters.columns import Column, Kind, merge_kinds


def _kinds_of_all(engines: Sequence[LuceneEngine]) -> dict[str, Kind]:
    """Return the kinds of the columns once all documents are together."""
    kinds: dict[str, Kind] = {}
    nothing = np.empty(0), np.empty(0, np.bool_)
    for engine in engines:
        kinds = merge_kinds(
            kinds, {name: Column(kind, *nothing) for name, kind in engine._kinds.items()}
        )
    return kinds


def merge_engines(
    folders: Sequence[str | os.PathLike[str]], target: str | os.PathLike[str]
) -> None:
    """Add the documents of some Lucene engines to a new one, and commit once.

    Their segments are copied as they are (Lucene's `IndexWriter.addIndexes`): nothing is written
    anew, so this takes what copying the files takes. The segments stay apart; `compact` makes
    them one.

    Parameters
    ----------
    folders
        What was committed in each is taken; they stay as they are. No id may be in two of them.
    target
        The folder of the new engine.

    Raises
    ------
    LexLIPError
        When one is missing or damaged, or a column holds values of kinds that do not go together;
        `target` has no documents then.

    Examples
    --------
    >>> merge_engines(["shard-0", "shard-1"], "engine")         # doctest: +SKIP
    """
    lucene = classes()
    with ExitStack() as closing:
        shards = []
        for folder in folders:
            shards.append(LuceneEngine(folder, "r"))
            closing.callback(shards[-1].close)
        kinds = _kinds_of_all(shards)
        merged = LuceneEngine(Path(target), "w")
        closing.callback(merged.close)
        # pyjnius cannot choose among overloads that take a subclass.
        directories = [lucene.cast(PACKAGE + "store.Directory", s._directory) for s in shards]
        with WRITING, readable_errors(merged.path):
            merged._writer.addIndexes(*directories)
        merged._kinds = kinds
        merged.commit()

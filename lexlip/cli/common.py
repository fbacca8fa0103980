"""Shared parts of the commands: errors as one line, models, arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lexlip.console import one_line, readable
from lexlip.errors import LexLIPError

__all__ = [
    "Checkpoint", "LexiconTable", "in_our_words", "is_index", "load", "load_speaker", "one_line",
    "quiet", "read_item", "readable",
]  # fmt: skip

Checkpoint = Annotated[str, typer.Option("--model", "-m", help="checkpoint folder or hub name")]
LexiconTable = Annotated[
    Path | None,
    typer.Option("--lexicon-map", help="for queries in another language: lines of word, tab, word"),
]


def quiet() -> None:
    """Keep transformers from chattering while it loads."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def load(checkpoint: str | None) -> Any:
    """Load a model; None leaves that to the index."""
    if checkpoint is None:
        return None
    from lexlip.models.checkpoints import load_checkpoint

    quiet()
    return load_checkpoint(checkpoint)


def load_speaker(index: Path, checkpoint: str | None, encoder: str) -> Any:
    """Load what turns texts into words for an index: its network, or the query table of that."""
    if encoder == "network":
        return load(checkpoint)
    if encoder != "table":
        raise LexLIPError(f"no encoder {encoder!r}: choose network or table")
    from lexlip.build.manifest import read_manifest
    from lexlip.models.query_table import QueryTable

    return QueryTable.from_pretrained(checkpoint or read_manifest(index)["checkpoint"])


def read_item(item: str) -> Any:
    """A path that exists, or looks like a picture's, is a picture; anything else is a query."""
    from lexlip.data.images import SUFFIXES
    from lexlip.query.query import Query

    path = Path(item)
    try:
        exists = path.is_file()
    except (OSError, ValueError):  # a text too long to be a name, or one with a NUL
        exists = False
    query = None if exists else Query.parse(item)
    if query is not None and (query.plain is None or path.suffix.lower() not in SUFFIXES):
        return query
    return path


def is_index(path: Path) -> bool:
    """Return whether a folder holds an index."""
    from lexlip.build import manifest

    return manifest.is_index(path)


def in_our_words(query: Any, table: Path | None) -> Any:
    """Return a query in the index's language, where a lexicon map is given."""
    if table is None:
        return query
    from lexlip.query.lexicon_map import LexiconMap

    return LexiconMap.read(table).query(query)

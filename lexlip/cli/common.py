"""Shared parts of the commands: errors as one line, models, arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lexlip.console import one_line, readable
from lexlip.errors import LexLIPError
from lexlip.models.runtime import quiet

__all__ = [
    "Checkpoint", "LexiconTable", "in_our_words", "load", "load_speaker", "one_line",
    "quiet", "read_item", "read_query", "readable", "save_drawing",
]  # fmt: skip

Checkpoint = Annotated[str, typer.Option("--model", "-m", help="checkpoint folder or hub name")]
LexiconTable = Annotated[
    Path | None,
    typer.Option("--lexicon-map", help="for queries in another language: lines of word, tab, word"),
]


def load(checkpoint: str | None) -> Any:
    """Load a model; with None the index loads its own when needed."""
    if checkpoint is None:
        return None
    from lexlip import models

    quiet()
    return models.load(checkpoint)


def load_speaker(index: Path, checkpoint: str | None, encoder: str) -> Any:
    """Load the text encoder for an index: its network, or the query table of that network."""
    if encoder == "network":
        return load(checkpoint)
    if encoder != "table":
        raise LexLIPError(f"no encoder {encoder!r}: choose network or table")
    from lexlip.build.manifest import read_manifest
    from lexlip.models.query_table import QueryTable

    return QueryTable.from_pretrained(checkpoint or read_manifest(index)["checkpoint"])


def read_item(item: str) -> Any:
    """Read an argument: an existing or picture-like path is a picture, anything else a query."""
    from lexlip.data.images import SUFFIXES
    from lexlip.query.query import Query

    path = Path(item)
    try:
        exists = path.is_file()
    except (OSError, ValueError):  # too long for a name, or with a NUL
        exists = False
    query = None if exists else Query.parse(item)
    if query is not None and (query.plain is None or path.suffix.lower() not in SUFFIXES):
        return query
    return path


def read_query(text: str) -> Any:
    """Read a query; the name of a picture alone is that picture."""
    from lexlip.data.given import names_picture
    from lexlip.query.query import Query

    query = Query.parse(text)
    if query.plain is not None and names_picture(text.strip()):
        return Query.image(text.strip())
    return query


def in_our_words(query: Any, table: Path | None) -> Any:
    """Translate a query into the index's language, if a lexicon map is given."""
    if table is None:
        return query
    from lexlip.query.lexicon_map import LexiconMap

    return LexiconMap.read(table).query(query)


def save_drawing(drawn: Any, out: Path) -> None:
    """Save a picture; a place that cannot be written, or an unknown suffix, is one line."""
    try:
        drawn.save(out)
    except (OSError, ValueError) as error:  # Pillow's word for an unknown suffix
        reason = " ".join(str(error).split())
        raise LexLIPError(f"cannot draw in {out} ({reason}): give a path such as why.png") from None

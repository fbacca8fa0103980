"""Shared parts of the commands: errors as one line, models, arguments."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from lexlip.cli.console import one_line, readable
from lexlip.errors import LexLIPError
from lexlip.models.runtime import quiet

__all__ = [
    "Checkpoint", "Device", "FolderIndex", "FolderModel", "LexiconTable", "in_our_words", "load",
    "load_speaker", "one_line", "quiet", "read_item", "read_query", "readable", "save_drawing",
]  # fmt: skip

Checkpoint = Annotated[str, typer.Option("--model", "-m", help="checkpoint folder or hub name")]
Device = Annotated[
    str | None,
    typer.Option(
        envvar="LEXLIP_DEVICE",
        help="where networks run: auto (a GPU if one is there), cpu, cuda, cuda:1, mps ...",
    ),
]
FolderModel = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", help="for folders: any model; for an index: checkpoint, if moved"
    ),
]
FolderIndex = Annotated[
    Path | None,
    typer.Option("--index", help="where the index of folders is; by default among your data"),
]
LexiconTable = Annotated[
    Path | None,
    typer.Option("--lexicon-map", help="for queries in another language: lines of word, tab, word"),
]


def load(checkpoint: str | None, fingerprint: str | None = None, table: bool = True) -> Any:
    """Load a model, and export it where it was not, so that it loads quickly from then on."""
    if checkpoint is None:
        return None
    from lexlip import models
    from lexlip.models.export_files import may_export

    quiet()
    model = models.load(checkpoint, fingerprint, table=table)
    if "lexlip.models.lexlip" in sys.modules and may_export():  # it has torch
        from lexlip.models.export import keep_export

        keep_export(model, checkpoint)
    return model


def load_speaker(index: Path, checkpoint: str | None, encoder: str, texts: bool) -> Any:
    """Load what encodes a query for an index.

    Parameters
    ----------
    index : Path
    checkpoint : str, optional
        By default the one that the index names.
    encoder : str
        "auto" (the query table where there is one, for texts), "network" or "table".
    texts : bool
        Whether the query has no pictures.
    """
    if encoder not in ("auto", "network", "table"):
        raise LexLIPError(f"no encoder {encoder!r}: choose auto, network or table")
    from lexlip.build.manifest import checkpoint_of, read_manifest
    from lexlip.models.export_files import export_folder
    from lexlip.models.query_table import QueryTable, is_table

    manifest = read_manifest(index)
    name = checkpoint or checkpoint_of(index, manifest)
    slow = encoder == "auto" and texts and is_table(name) and export_folder(name) is None
    if encoder == "table" or slow:
        return QueryTable.from_pretrained(name)
    return load(name, manifest["model"], table=encoder == "auto")


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

"""Folders on the command line: which arguments name them, and their index brought up to date."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from lexlip.console import one_line, said_once
from lexlip.errors import LexLIPError

_LINES = 3
"""Files that are named when some were skipped."""


def split_target(given: Sequence[str], with_picture: bool = False) -> tuple[list[Path], str]:
    """Divide arguments into an index or folders, and the query behind them.

    Parameters
    ----------
    given : sequence of str
    with_picture : bool
        A picture is asked with: the query may be missing.

    Examples
    --------
    >>> split_target(["photos", "a dog"])
    ([PosixPath('photos')], 'a dog')
    """
    *places, last = given
    if not places or (with_picture and Path(last).is_dir()):
        return [Path(place) for place in given], ""
    return [Path(place) for place in places], last


def up_to_date(paths: Sequence[Path], index: Path | None, model: str | None) -> Path:
    """Return the index that was given, or that of some folders, with what changed in them.

    Raises
    ------
    LexLIPError
        For several indexes, and what is neither an index nor a folder.
    """
    from lexlip.build.manifest import is_index

    indexes = [path for path in paths if is_index(path)]
    if indexes:
        if len(paths) > 1:
            raise LexLIPError(f"{indexes[0]} is an index: give one index, or folders of pictures")
        if index is not None:
            raise LexLIPError(f"{indexes[0]} is an index: leave out --index")
        return indexes[0]
    from lexlip.home import follow

    done = follow(paths, index, model, say=lambda line: typer.echo(f"lexlip: {line}", err=True))
    added = done.added
    if done.busy:
        typer.echo(one_line(f"lexlip: nothing was added ({done.busy})"), err=True)
    for line in added.said if done.made else ():
        typer.echo(one_line(line), err=True)
    reasons = said_once(reason for _, reason in done.news)
    for reason in reasons[:_LINES]:
        typer.echo(f"skipped: {one_line(reason)}", err=True)
    if len(reasons) > _LINES:
        typer.echo(f"{len(reasons) - _LINES} more are in {done.index}/skipped.jsonl", err=True)
    counts = {"new": added.written, "of known bytes": added.alike, "deleted": added.pruned}
    news = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
    if news:
        typer.echo(f"{one_line(', '.join(map(str, paths)))}: {news}", err=True)
    return done.index

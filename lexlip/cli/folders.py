"""Folders on the command line: which arguments name them, and their index brought up to date."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lexlip.cli.common import load
from lexlip.cli.console import one_line, said_once
from lexlip.errors import LexLIPError
from lexlip.models.runtime import quiet

if TYPE_CHECKING:
    from lexlip.server.growing import Job

_LINES = 3
"""Files that are named when some were skipped."""


def split_target(given: Sequence[str], with_picture: bool = False) -> tuple[list[Path], str]:
    """Divide arguments into an index or folders, and the query behind them.

    Parameters
    ----------
    given : sequence of str
    with_picture : bool
        A picture is asked with: the query may be missing.

    Raises
    ------
    LexLIPError
        For a URL: what lies behind one is indexed first.

    Examples
    --------
    >>> split_target(["photos", "a dog"])
    ([PosixPath('photos')], 'a dog')
    """
    from lexlip.storage.remote import is_remote

    *places, last = given
    if far := next(filter(is_remote, places or given), None):
        raise LexLIPError(
            f"{far} is a URL: lexlip index {far} -o photos.lex indexes pictures behind one, and "
            "lexlip serve serves the index of a cluster"
        )
    if not places or (with_picture and last and Path(last).is_dir()):
        return [Path(place) for place in given], ""
    return [Path(place) for place in places], last


def index_of(paths: Sequence[Path], index: Path | None) -> Path | None:
    """Return the index that was given, None for folders.

    Raises
    ------
    LexLIPError
        For several indexes, an index among folders, and an index with --index.
    """
    from lexlip.build.manifest import is_index

    indexes = [path for path in paths if is_index(path)]
    if not indexes:
        return None
    if len(paths) > 1:
        raise LexLIPError(f"{indexes[0]} is an index: give one index, or folders of pictures")
    if index is not None:
        raise LexLIPError(f"{indexes[0]} is an index: leave out --index")
    return indexes[0]


def say(line: str) -> None:
    """Tell people what takes a while, apart from what was asked for."""
    typer.echo(one_line(f"lexlip: {line}"), err=True)


def up_to_date(paths: Sequence[Path], index: Path | None, model: str | None) -> Path:
    """Return the index that was given, or that of some folders, with what changed in them."""
    there = index_of(paths, index)
    if there is not None:
        return there
    from lexlip.home import follow

    try:
        done = follow(paths, index, model, say=say)
    except KeyboardInterrupt:
        say("stopped: what is done is kept, and the same command goes on")
        raise typer.Exit(130) from None
    added = done.added
    if done.busy:
        say(f"nothing was added ({done.busy})")
    for line in added.said if done.made else ():
        typer.echo(one_line(line), err=True)
    reasons = said_once(reason for _, reason in done.news)
    for reason in reasons[:_LINES]:
        typer.echo(f"skipped: {one_line(reason)}", err=True)
    if len(reasons) > _LINES:
        more = f"{len(reasons) - _LINES} more are in {done.index}/skipped.jsonl"
        typer.echo(one_line(more), err=True)
    counts = {"new": added.written, "of known bytes": added.alike, "deleted": added.pruned}
    news = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
    if news:
        typer.echo(f"{one_line(', '.join(map(str, paths)))}: {news}", err=True)
    return done.index


def served(
    given: Sequence[str], index: Path | None, model: str | None
) -> tuple[Path | str, Any, Job | None]:
    """Return the index to serve, its model if it was moved, and what goes on meanwhile.

    Of folders, as soon as a few of their pictures can be searched. An index behind a URL is
    returned as it was given.

    Raises
    ------
    LexLIPError
        For no index, and a URL among others.
    """
    from lexlip.build.manifest import read_manifest
    from lexlip.storage.remote import is_remote

    if any(map(is_remote, given)):
        if len(given) > 1 or index is not None:
            raise LexLIPError("give one URL of an index alone")
        say("behind a URL an index is only read: nothing is added or deleted here")
        return given[0], load(model), None
    paths = list(map(Path, given))
    there = index_of(paths, index)
    if there is None and not all(path.is_dir() for path in paths):
        read_manifest(paths[0])  # says that there is none
    if there is not None:
        read_manifest(there)
        return there, load(model), None
    from lexlip.home.background import Background

    quiet()
    following = Background(paths, index, model, say)
    try:
        return following.wait(), None, following.job
    except KeyboardInterrupt:
        say("stopped: what is done is kept, and the same command goes on")
        raise typer.Exit(130) from None

"""Following folders: an index of them is made, and then holds what they hold."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lexlip.build.manifest import is_index
from lexlip.build.progress import Progress, telling
from lexlip.build.write import SKIPPED, Added
from lexlip.data.collection import load_collection
from lexlip.errors import LexLIPError
from lexlip.home.places import Place, place_of, wanted_model
from lexlip.index import Index
from lexlip.storage.remote import check_local


class Often(Progress):
    """A bar on the terminal, and a commit every few seconds: an interruption costs little."""

    first, chunk = 256, 128


@dataclass(frozen=True)
class Following:
    """What `follow` did.

    Attributes
    ----------
    index : Path
    added : Added
    made : bool
        Whether there was no index before.
    news : tuple of (str, str)
        Files that were skipped now and not before, and why.
    busy : str
        Why nothing was added: another process writes. Empty otherwise.
    """

    index: Path
    added: Added
    made: bool = False
    news: tuple[tuple[str, str], ...] = ()
    busy: str = ""


def follow(
    folders: Sequence[str | os.PathLike[str]],
    index: str | os.PathLike[str] | None = None,
    model: str | None = None,
    progress: Progress | None = None,
    say: Callable[[str], Any] = lambda line: None,
) -> Following:
    """Make an index of some folders, or bring it up to date: what changed is added or deleted.

    Interrupt it when you like: what was committed stays, and the next call goes on.

    Parameters
    ----------
    folders : sequence of path
        Folders of pictures.
    index, model : optional
        As for `lexlip.home.places.place_of`.
    progress : Progress, optional
        By default a bar on the terminal.
    say : callable
        Is told what takes a while.

    Raises
    ------
    LexLIPError
        When a folder is missing or holds no picture, or there is no model.

    Examples
    --------
    >>> done = follow(["photos"])                                   # doctest: +SKIP
    >>> Index.open(done.index).search("a dog on a beach")           # doctest: +SKIP
    [OrderedHit(id='2024/a.jpg', ...), ...]
    """
    paths = [Path(folder) for folder in folders]
    for path in paths:
        if not path.is_dir():
            check_local(path)
            raise LexLIPError(f"no folder at {path}: give a folder of pictures, or an index")
    place = place_of(paths, index, model)
    with telling(progress or Often()):
        if not is_index(place.index):
            return _make(paths, place, wanted_model(model), say)
        return _renew(paths, place)


def _make(
    paths: list[Path], place: Place, model: str | None, say: Callable[[str], Any]
) -> Following:
    from lexlip.home.words import speaker_for

    if place.index.exists() and any(place.index.iterdir()):
        raise LexLIPError(f"{place.index} holds something else: give another --index")
    pictures = [load_collection(path) for path in paths]  # before a model is fetched
    speaker, checkpoint = speaker_for(pictures, model, place.model, say)
    first, *others = paths
    built = Index.create(place.index, speaker, first, engine="postings", checkpoint=checkpoint)
    with built:
        done = Added(written=len(built), skipped=built.skipped, said=built.said)
        for path in others:
            done += built.add(path)
    return Following(place.index, done, True, done.skipped)


def _renew(paths: list[Path], place: Place) -> Following:
    before = _noted(place.index)
    try:
        opened = Index.open(place.index, mode="w")
    except LexLIPError as error:
        with Index.open(place.index):  # it is sound, so another process writes
            return Following(place.index, Added(), busy=str(error))
    done = Added()
    with opened:
        for path in paths:
            done += opened.add(path, prune=True)
    news = tuple(it for it in done.skipped if it[0] not in before)
    return Following(place.index, done, False, news)


def _noted(index: Path) -> str:
    """Return the list of files that were skipped before."""
    with suppress(OSError):
        return (index / SKIPPED).read_text("utf-8")
    return ""

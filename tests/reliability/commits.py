"""Changes of an index with a fault at each of their system calls, one after the other.

`python -m tests.reliability.commits add` prints what came of it as JSON (make faults: all of them).
It is a process of its own, because children are forked from it: it has one thread.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any
from unittest import mock

from lexlip import Index, LexLIPError
from lexlip.build.manifest import is_index
from lexlip.models.shipped import load_shipped

from . import faults

TEXTS = {f"{n}.png": f"a {('red circle', 'blue square', 'green star')[n % 3]}" for n in range(7)}
NEW = {"new.png": "a purple moon", "0.png": "a yellow heart"}
MODEL = load_shipped()
NAME = "i.lex"
QUERY = "red blue green yellow purple circle square star heart moon"


def _create(path: Path, texts: dict[str, str], **options: Any) -> None:
    Index.create(path, MODEL, texts, engine="postings", keep_floats=True, **options).close()


def _within(change: Callable[[Index], object]) -> Callable[[Path], None]:
    def work(path: Path) -> None:
        with Index.open(path, MODEL, "w") as index:
            change(index)

    return work


WORK: dict[str, Callable[[Path], None]] = {
    "add": _within(lambda index: index.add(NEW)),
    "delete": _within(lambda index: index.delete(["0.png", "3.png"])),
    "compact": _within(lambda index: index.compact()),
    "create": lambda path: _create(path, NEW),
    "replace": lambda path: _create(path, NEW, replace=True),
}
"""Changes, by name. All but `create` begin with an index of `TEXTS`."""


def state(path: Path) -> dict[str, int] | None:
    """Return what a search of everything finds, id to score; None where there is no index.

    Raises
    ------
    LexLIPError
        When the index cannot be opened, or is not as it was written.
    """
    if not is_index(path):  # heals what a kill between two renames left
        return None
    with Index.open(path, MODEL) as index:
        if damaged := index.check():
            raise LexLIPError("; ".join(damaged))
        ids = sorted(index.engine.ids())
        found = {hit.id: int(hit.score) for hit in index.search(QUERY, 50)}
        if found.keys() != {hit.id for hit in index.search(QUERY, 50, rescore=50)}:
            raise LexLIPError("float vectors are missing")
        return {name: found.get(name, 0) for name in ids}


def leftovers(folder: Path) -> list[str]:
    """Return temporary files and folders below a folder."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    return sorted(name for name in names if ".tmp-" in name or ".old-" in name)


def prepared(change: str, home: Path) -> Path:
    """Write what a change begins with, and return the folder that holds the index."""
    sound = home / "sound"
    sound.mkdir(parents=True)
    if change != "create":
        _create(sound / NAME, TEXTS)
        with Index.open(sound / NAME, MODEL, "w") as index:  # two parts, and some are deleted
            index.add({"late.png": "a green heart"})
            index.delete(["5.png"])
    return sound


def tried(change: str, kinds: Iterable[str], home: Path, every: int, first: int) -> dict[str, Any]:
    """Make a change with faults at its calls number `first`, `first` + `every`, and so on.

    After each: the index is the one before the change or the one after it, whole, and the latter if
    the change was acknowledged. The same change made again succeeds, and nothing is left over.

    Returns
    -------
    dict
        ``calls`` of the change, by name, ``ended``, how often it ended how, and ``failures``.
    """
    work, sound = WORK[change], prepared(change, home)
    before = state(sound / NAME)
    whole = shutil.copytree(sound, home / "whole")
    calls = faults.run(lambda: work(whole / NAME), whole).calls
    after, ended, failures = state(whole / NAME), Counter[str](), []
    for fault, at in product(kinds, range(first, len(calls) + 1, every)):
        folder = shutil.copytree(sound, home / f"{fault}-{at}")
        result = faults.run(partial(work, folder / NAME), folder, at, faults.FAULTS[fault])
        ended[{0: "done", 3: "refused", -9: "killed"}.get(result.status, "failed")] += 1
        try:
            wrong = _judged(folder, result.status, before, after, work)
        except Exception as error:
            wrong = f"{type(error).__name__}: {error}"
        if wrong:
            failures.append(f"{change}, {fault} at call {at} ({calls[at - 1]}): {wrong}")
        shutil.rmtree(folder)
    return {"calls": dict(Counter(calls)), "ended": dict(ended), "failures": failures}


def _judged(
    folder: Path, status: int, before: Any, after: Any, work: Callable[[Path], None]
) -> str | None:
    if status not in (0, 3, -9):
        return f"it ended with {status}"
    found = state(folder / NAME)
    if found != after and (status == 0 or found != before):
        return f"status {status}, and the index holds {found}"
    if found == before or work is not WORK["create"]:
        with mock.patch.object(os, "fsync"):  # the disk has been waited for above
            work(folder / NAME)
    if (found := state(folder / NAME)) != after:
        return f"after it was made again: {found}"
    if left := leftovers(folder):
        return f"left over: {left}"
    return None


def main(change: str, every: str = "1", first: str = "1") -> None:
    """Print what comes of one change with all faults."""
    with tempfile.TemporaryDirectory() as home:
        print(json.dumps(tried(change, faults.FAULTS, Path(home), int(every), int(first))))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Upgrades: an index in an older layout becomes one in today's, without encoding anything again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from lexlip.build.manifest import read_manifest
from lexlip.build.side_stores import FILES, FLOATS, VECTORS, VIEWS
from lexlip.build.write import ENGINE
from lexlip.engines import PostingsEngine
from lexlip.engines.postings.older import older_parts, older_strings
from lexlip.engines.postings.snapshot import FORMAT, OLDER
from lexlip.errors import LexLIPError
from lexlip.storage.files import MANIFEST, atomic_directory, read_json
from lexlip.storage.folder_lock import LOCK, OWNER, FolderLock
from lexlip.storage.generations import CURRENT, Generation, GenerationWriter, open_current
from lexlip.storage.part_store import Ids
from lexlip.storage.remote import check_local
from lexlip.storage.seal import KEY, write_sealed

_STARTS = ("ids.npy", "ids-starts.npy", "sums.npy", "sum-rows.npy")
_STORES = (FLOATS, VIEWS, VECTORS, FILES)


def upgrade(path: str | os.PathLike[str]) -> list[str]:
    """Bring an index to today's formats, in place.

    A new folder is written beside the index, checked, and takes its place by a rename: readers see
    the old index or the new one, and a kill leaves one of them.

    Parameters
    ----------
    path : path
        An index that any earlier version wrote.

    Returns
    -------
    list of str
        A line for each part that was converted. Empty where all was of today.

    Raises
    ------
    LexLIPError
        When there is no index, it is damaged, or open for writing elsewhere. It stays as it is.

    Examples
    --------
    >>> upgrade("photos.lex")                                           # doctest: +SKIP
    ['engine: lexlip-postings-1 to lexlip-postings-2, 36 documents']
    """
    check_local(path)
    target = Path(os.path.realpath(path))
    manifest = read_manifest(target)
    jobs: dict[str, Callable[[Path], str]] = {}
    postings = manifest["engine"] == "postings"
    if postings and _generation(target / ENGINE).data.get("format") == OLDER:
        jobs[ENGINE] = lambda new: _engine(target / ENGINE, new)
    for name in _STORES:
        if (target / name / CURRENT).is_file() and _older_ids(target / name):
            jobs[name] = lambda new, name=name: _store(target / name, new)  # type: ignore[misc]
    sealed = KEY in read_json(target / MANIFEST)
    done = [] if sealed else [f"{MANIFEST}: with a checksum"]
    if not jobs:
        if not sealed:
            write_sealed(target / MANIFEST, manifest)
        return done
    lock = FolderLock(target / ENGINE)  # what is copied must not change meanwhile
    try:
        with atomic_directory(target) as folder:
            for entry in os.scandir(target):
                if entry.name not in jobs:
                    _copy(Path(entry.path), folder / entry.name)
            done += [f"{name}: {convert(folder / name)}" for name, convert in jobs.items()]
            write_sealed(folder / MANIFEST, manifest)
    finally:
        lock.release()
    return done


def _copy(source: Path, place: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, place, symlinks=True, ignore=shutil.ignore_patterns(LOCK, OWNER))
    else:
        shutil.copy2(source, place, follow_symlinks=False)


def _generation(folder: Path) -> Generation:
    return open_current(folder, lambda generation: generation)


def _older_ids(folder: Path) -> bool:
    return any("ids-starts.npy" in files for files in _generation(folder).parts.values())


def _engine(source: Path, folder: Path) -> str:
    """Write the documents of an older engine into a new one."""
    generation = _generation(source)
    strings: Any = generation.data.get("user_data") or {}
    with closing(PostingsEngine(folder)) as engine:
        expected = 0
        for ids, impacts, columns in older_parts(generation):
            expected += len(ids)
            engine.add(ids, impacts, columns)
        engine.commit(strings)
        if len(engine) != expected:
            raise LexLIPError(f"{source} holds an id twice: build the index anew")
    return f"{OLDER} to {FORMAT}, {expected} documents"


def _store(source: Path, folder: Path) -> str:
    """Write the parts of a store with ids in today's layout; what else they hold stays."""
    generation = _generation(source)
    generation.check_digests(generation.parts)
    with closing(GenerationWriter(folder)) as writer:
        for name, files in generation.parts.items():
            part = writer.folder / name
            part.mkdir()
            for file in files:
                if file not in _STARTS or "ids-starts.npy" not in files:
                    shutil.copy2(source / name / file, part / file)
            if "ids-starts.npy" in files:
                Ids.write(part, older_strings(source / name, "ids"))
        writer.publish(generation.parts, generation.data)
    return f"ids of {generation.data.get('rows', 0)} rows"

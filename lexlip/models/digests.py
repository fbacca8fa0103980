"""Digests of a checkpoint's files: taken when it is written, compared where a file is used.

A checkpoint without them, of an older lexlip or of another program, is read as it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lexlip.errors import LexLIPError
from lexlip.models.bounds import VOCABULARIES, check_bounds
from lexlip.storage.files import MANIFEST, read_json, sha256_file

FILES = "files"
"""Their key in a manifest: {path in the folder: SHA-256}."""

TOKENIZERS = tuple(name for name in VOCABULARIES if name != "merges.txt")
_UNUSED = ("train_state/", "README.md")
"""What encoding never reads; training compares it itself."""


def digests(folder: Path, without: Iterable[str] = (MANIFEST,)) -> dict[str, str]:
    """Return the SHA-256 of the files of a folder, by path."""
    names = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    return {
        name: sha256_file(path)
        for name, path in sorted(names.items())
        if path.is_file() and name not in without
    }


def check_digests(
    folder: str | os.PathLike[str], facts: Mapping[str, Any], names: Iterable[str] | None = None
) -> None:
    """Compare files with what is known of them.

    Parameters
    ----------
    folder : path
    facts : mapping
        A manifest. Nothing happens where it lists no files.
    names : iterable of str, optional
        Of these files; by default of all.

    Raises
    ------
    LexLIPError
        Names the first file that is missing or is not what was written.
    """
    listed = facts.get(FILES) if isinstance(facts, Mapping) else None
    if not isinstance(listed, Mapping):
        return
    for name in sorted(listed) if names is None else names:
        if name in listed and not name.startswith(_UNUSED):
            file = Path(folder) / name
            if not file.is_file() or sha256_file(file) != listed[name]:
                what = "corrupted: its checksum differs" if file.is_file() else "missing"
                raise LexLIPError(f"{file} is {what}: put back a copy, or write {folder} again")


def check_checkpoint(name: str | os.PathLike[str]) -> None:
    """Check the files of a checkpoint in a folder, before its weights are loaded.

    Raises
    ------
    LexLIPError
        When one is missing or corrupted, when sizes are absurd (`lexlip.models.bounds`), or when
        there is no tokenizer: what loads it would make up one of five words.
    """
    folder = Path(name)
    if not (folder / "config.json").is_file():
        return
    check_bounds(folder)
    if (folder / MANIFEST).is_file():
        check_digests(folder, read_json(folder / MANIFEST))
    if not any((folder / file).is_file() for file in TOKENIZERS):
        raise LexLIPError(f"{folder / TOKENIZERS[0]} is missing: put back a copy of the checkpoint")

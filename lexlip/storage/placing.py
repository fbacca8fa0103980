"""Folders that were filled over several runs, and take the place of others once they are whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from lexlip.errors import LexLIPError
from lexlip.storage.files import MANIFEST, check_replaceable, fsync_tree, heal, swap


def put_in_place(
    folder: Path,
    path: str | os.PathLike[str],
    held: Callable[[Path], AbstractContextManager[None]],
) -> None:
    """Move a folder that is whole to the place of one that was made here, or to a free place.

    The folder is flushed first. What was at `path` is deleted once the new one is there; a kill
    between the two renames is mended as `atomic_directory` says.

    Parameters
    ----------
    folder
        On the same file system as `path`; it holds a file ``manifest.json``.
    path, held
        As for `atomic_directory`.

    Raises
    ------
    LexLIPError
        When `path` is a file, or a folder with content that was not made here.
    """
    target = Path(os.path.realpath(path))
    heal(target)
    check_replaceable(target, MANIFEST)
    try:
        fsync_tree(folder)
        with held(target):
            swap(folder, target)
    except OSError as error:
        raise LexLIPError(f"{path} cannot be written: {error.strerror or error}") from None

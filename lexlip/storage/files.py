"""Files and folders that are either there in full or not there at all.

Everything is written to a temporary sibling, flushed to the disk, and renamed into place: a
reader, or the next run after a power cut, never meets half a file.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from lexlip.errors import LexLIPError
from lexlip.storage.remote import check_local

try:
    import fcntl
except ImportError:  # Windows, where folders have no locks: leftovers of killed processes stay
    fcntl = None  # type: ignore[assignment]

MANIFEST = "manifest.json"
_TRIES = 100
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)


def _sibling(path: Path, kind: str) -> Path:
    """Return an unused hidden name beside `path`: same file system, so renames are atomic."""
    return path.with_name(f".{path.name}.{kind}-{secrets.token_hex(6)}")


def fsync_directory(path: Path) -> None:
    """Make the names inside a folder durable (a no-op where folders cannot be opened)."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(path: Path) -> None:
    """Flush every file and folder below `path`, the deepest first."""
    for folder, _, names in os.walk(path, topdown=False):
        for name in names:
            with open(os.path.join(folder, name), "rb+") as file:
                os.fsync(file.fileno())
        fsync_directory(Path(folder))


def reserve(path: str | os.PathLike[str]) -> None:
    """Let the disk set the room of a file aside, before it is written through a map.

    A full disk is an error then; through the map it would be a signal that kills the process.

    Raises
    ------
    OSError
        When there is no room. It names the file.
    """
    if hasattr(os, "posix_fallocate") and (size := os.path.getsize(path)):
        with open(path, "rb+") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                error.filename = os.fspath(path)
                raise


def write_bytes(path: str | os.PathLike[str], data: bytes, follow: bool = True) -> None:
    """Write `data` to `path` atomically, making the parent folders.

    Parameters
    ----------
    path
        The file; an old one is replaced only when the new one is complete.
    data
        Its whole content.
    follow
        Write where a link leads. Not in an index: one from elsewhere leads to no file of yours.
    """
    target = Path(os.path.realpath(path))
    if not follow:
        target = Path(os.path.realpath(Path(path).parent)) / Path(path).name
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _sibling(target, "tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
        fsync_directory(target.parent)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and not error.filename:  # say of what
            error.filename = os.fspath(path)
        raise


@contextmanager
def atomic_file(path: str | os.PathLike[str], replace: bool = False) -> Iterator[Path]:
    """Write a temporary file, which becomes `path` when the block ends without an exception.

    Parameters
    ----------
    path
        The file to make; its folder is made where it is missing.
    replace
        Overwrite a file that is there.

    Yields
    ------
    Path
        Of the temporary file, beside `path`; the block makes it.

    Raises
    ------
    LexLIPError
        When there is a file and it is not to be overwritten, or a folder, or no right to write.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "a.txt"
    >>> with atomic_file(target) as temporary:
    ...     _ = temporary.write_text("whole")
    >>> target.read_text()
    'whole'
    """
    target = Path(os.path.realpath(path))
    check_writable(target)
    _check_free(target, replace)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _sibling(target, "tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        _check_free(target, replace)
        os.replace(temporary, target)
    except OSError as error:
        reason = error.strerror or f"{error}: is the disk full?"
        raise LexLIPError(f"{path} cannot be written: {reason}") from None
    finally:
        temporary.unlink(missing_ok=True)
    fsync_directory(target.parent)


def _check_free(target: Path, replace: bool) -> None:
    if target.is_dir():
        raise LexLIPError(f"{target} is a folder: give the name of a file")
    if os.path.lexists(target) and not replace:
        raise LexLIPError(f"{target} is there: give another name, or overwrite it with --replace")


def write_text(path: str | os.PathLike[str], text: str, follow: bool = True) -> None:
    """Write `text` as UTF-8 to `path` atomically (see `write_bytes`)."""
    write_bytes(path, text.encode("utf-8"), follow)


def _plain(value: Any) -> Any:
    """Turn numpy scalars and arrays, which json does not know, into plain numbers and lists."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} does not fit into JSON")


def write_json(path: str | os.PathLike[str], obj: Any, follow: bool = True) -> None:
    """Write `obj` as indented UTF-8 JSON to `path` atomically.

    Raises
    ------
    ValueError, TypeError
        For NaN, infinities and objects that JSON does not know; nothing is written then.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> write_json(folder + "/a.json", {"recall": 0.5})
    >>> read_json(folder + "/a.json")
    {'recall': 0.5}
    """
    text = json.dumps(obj, indent=2, ensure_ascii=False, allow_nan=False, default=_plain)
    try:
        data = text.encode()
    except UnicodeEncodeError:  # a path that is not UTF-8
        data = json.dumps(obj, indent=2, allow_nan=False, default=_plain).encode()
    write_bytes(path, data + b"\n", follow)


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file.

    Raises
    ------
    LexLIPError
        When the file is missing, unreadable or no JSON.
    """
    try:
        return json.loads(Path(path).read_bytes().decode("utf-8"))
    except FileNotFoundError:
        raise LexLIPError(f"{path} does not exist: check the folder's name") from None
    except OSError as error:
        raise LexLIPError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:  # numbers of 10,000 digits too
        raise LexLIPError(f"{path} is not valid JSON ({error}): write it anew") from None


def sha256_file(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits.

    Raises
    ------
    LexLIPError
        When the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise LexLIPError(f"{path} cannot be read: {error.strerror or error}") from None


def check_replaceable(path: Path, marker: str | None) -> None:
    """Refuse to put a new folder in the place of something that was not made here.

    Raises
    ------
    LexLIPError
        When `path` is a URL, a file, or a folder with content and no file named `marker`.
    """
    check_local(path)
    if not path.exists():
        return
    if not path.is_dir():
        raise LexLIPError(f"{path} is a file: give the name of a folder")
    if marker is not None and any(path.iterdir()) and not (path / marker).is_file():
        raise LexLIPError(
            f"{path} is not empty and holds no {marker}, so it was not made here: "
            "give a new folder, or empty it first"
        )


def check_writable(path: Path) -> None:
    """Refuse a place where no folder can be made.

    Raises
    ------
    LexLIPError
        When the nearest folder above `path` that is there may not be written.
    """
    parent = Path(os.path.realpath(path)).parent
    while not os.path.lexists(parent):
        parent = parent.parent
    effective = os.access in os.supports_effective_ids
    if not os.access(parent, os.W_OK | os.X_OK, effective_ids=effective):
        raise LexLIPError(
            f"{path} cannot be written: no permission in {parent}: give another place"
        )


def _lock(folder: Path) -> int | None:
    """Own a folder until its descriptor is closed, or the process ends; None if another does.

    Raises
    ------
    OSError
        Where the folder is gone, or its file system has no locks.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), os.stat(folder)):  # nobody removed it meanwhile
            return descriptor
    except BlockingIOError:
        pass
    except OSError:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _sweep(target: Path) -> None:
    """Remove what killed processes left beside `target`, and no process owns.

    A folder that was moved aside goes only where its successor is there.
    """
    if fcntl is None:
        return
    ours = re.compile(rf"\.{re.escape(target.name)}\.(tmp|old)-[0-9a-f]{{12}}")
    for entry in list(os.scandir(target.parent)):
        found = ours.fullmatch(entry.name)
        if not found or not entry.is_dir(follow_symlinks=False):
            continue
        if found[1] == "old" and not target.exists():
            continue
        with suppress(OSError):
            descriptor = _lock(Path(entry.path))
            if descriptor is not None:
                shutil.rmtree(entry.path, ignore_errors=True)
                os.close(descriptor)


def _own_sibling(target: Path) -> tuple[Path, int | None]:
    """Make a temporary folder beside `target`, and own it where the file system has locks."""
    while True:
        temporary = _sibling(target, "tmp")
        temporary.mkdir()
        descriptor = None
        with suppress(OSError):
            if fcntl is not None and (descriptor := _lock(temporary)) is None:
                continue  # another process takes it for a leftover, and removes it
        if temporary.is_dir():  # not swept away before it was owned
            return temporary, descriptor


def heal(path: str | os.PathLike[str], marker: str = MANIFEST) -> None:
    """Put a folder back that a killed process had moved aside, and not yet replaced.

    Nothing happens where there is something at `path`, where a living process is replacing it, or
    where the place cannot be written.

    Parameters
    ----------
    path
        The folder.
    marker
        What was moved aside must hold a file of this name.
    """
    target = Path(os.path.realpath(path))
    if fcntl is None or os.path.lexists(target):
        return
    beside = re.compile(rf"\.{re.escape(target.name)}\.(tmp|old)-[0-9a-f]{{12}}")
    with suppress(OSError):
        found = [Path(entry) for entry in os.scandir(target.parent) if beside.fullmatch(entry.name)]
        old = [folder for folder in found if ".old-" in folder.name and (folder / marker).is_file()]
        owned: list[int] = []
        try:
            for folder in found if old else ():
                if (descriptor := _lock(folder)) is None:
                    return  # its owner lives, and is between its two renames
                owned.append(descriptor)
            if old:
                os.rename(max(old, key=lambda folder: folder.stat().st_mtime_ns), target)
                fsync_directory(target.parent)
        finally:
            for descriptor in owned:
                os.close(descriptor)


def _nobody(path: Path) -> AbstractContextManager[None]:
    """Keep nobody away."""
    return nullcontext()


@contextmanager
def atomic_directory(
    path: str | os.PathLike[str],
    *,
    marker: str | None = MANIFEST,
    replace: bool = True,
    held: Callable[[Path], AbstractContextManager[None]] = _nobody,
) -> Iterator[Path]:
    """Fill a temporary folder which becomes `path` when the block ends without an exception.

    A folder that was at `path` is moved aside, the new one takes its place, then the old one is
    deleted. These are two renames: a power cut between them leaves both folders, complete, under
    hidden names beside `path`, and `heal` puts the old one back. After an exception the old folder
    is as it was. Temporary folders of killed processes are removed first.

    Parameters
    ----------
    path
        The folder to make.
    marker
        A non-empty folder is replaced only if it holds a file of this name. None replaces any.
    replace
        False refuses to replace anything that came to be at `path` meanwhile.
    held
        Keeps writers away from the folder at `path` while it is replaced.

    Yields
    ------
    Path
        The temporary folder, beside `path`.

    Raises
    ------
    LexLIPError
        When `path` is a file, or a folder with content and no `marker`, or may not be written
        (before anything is made). When the disk is full, broken or read-only.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "index"
    >>> with atomic_directory(target) as folder:
    ...     write_json(folder / "manifest.json", {"format": 1})
    >>> sorted(p.name for p in target.iterdir())
    ['manifest.json']
    """
    target = Path(os.path.realpath(path))
    if marker is not None:
        heal(target, marker)
    check_replaceable(target, marker)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        temporary, owned = _own_sibling(target)
    except OSError as error:
        raise LexLIPError(f"{path} cannot be written: {error.strerror or error}") from None
    try:
        yield temporary
        fsync_tree(temporary)
        check_replaceable(target, marker)
        if replace:
            with held(target):
                swap(temporary, target)
        else:
            _place(temporary, target)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
            raise LexLIPError(
                f"{path} cannot be written: {error.strerror}: make room, or give another place"
            ) from None
        raise
    finally:
        if owned is not None:
            os.close(owned)


def swap(temporary: Path, target: Path) -> None:
    """Rename a folder that is whole to `target`, deleting what was there only after that."""
    aside: list[Path] = []
    for _ in range(_TRIES):
        old = _sibling(target, "old")
        with suppress(FileNotFoundError):
            os.rename(target, old)
            aside.append(old)
        try:
            os.rename(temporary, target)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                continue  # another process put its own there just now: the last one stays
            _put_back(aside, target)
            raise
        except BaseException:
            _put_back(aside, target)
            raise
        break
    else:
        raise LexLIPError(f"{target} is replaced by others all the time: try again")
    fsync_directory(target.parent)
    for old in aside:
        # By another name first: what is moved aside is whole, whenever this process ends.
        gone = _sibling(target, "tmp")
        with suppress(OSError):
            os.rename(old, gone)
        shutil.rmtree(gone, ignore_errors=True)


def _put_back(aside: list[Path], target: Path) -> None:
    if aside:
        os.rename(aside[-1], target)


def _place(temporary: Path, target: Path) -> None:
    """Rename `temporary` to `target`, where nothing may be but an empty folder."""
    try:
        with suppress(OSError):
            target.rmdir()
        os.rename(temporary, target)
    except OSError as error:
        if not os.path.lexists(target):
            raise
        raise LexLIPError(
            f"{target} came to be meanwhile, by another process ({error.strerror}): it stays as it "
            "is; add to it, or replace it"
        ) from None
    fsync_directory(target.parent)

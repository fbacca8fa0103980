"""A folder of write-once parts, where one small file says which of them are the current state.

    CURRENT            gen-000007.json and its SHA-256
    gen-000007.json    the parts of this generation, with size and SHA-256 of every file, and `data`
    part-000012/       files that never change once a generation names them
    LOCK, OWNER        held by who writes; their name, and since when

A commit writes new parts beside the old ones, flushes them, writes the next manifest and then
replaces CURRENT by a rename. Parts that stay are only named again, so a small change to a large
index is a small write. A reader opens the files of one generation and keeps them: on POSIX systems
what is open or mapped outlives its name, so the writer removes old parts at once. A killed writer
leaves parts that nothing names; the next writer, and nobody else, removes those.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from lexlip.errors import LexLIPError
from lexlip.storage.files import fsync_tree, sha256_file, write_bytes
from lexlip.storage.folder_lock import LOCK, OWNER, FolderLock

FORMAT = "lexlip-generations/1"
CURRENT = "CURRENT"
_OURS = re.compile(r"part-\d+|gen-\d+\.json|\.(gen-\d+\.json|CURRENT)\.tmp-[0-9a-f]+")
_PART, _DIGEST = re.compile(r"part-\d+"), re.compile("[0-9a-f]{64}")
_TRIES = 100
T = TypeVar("T")


@dataclass(frozen=True)
class Generation:
    """One committed state: which parts it is made of, and what their owner says about them.

    Parameters
    ----------
    folder
        Where the parts lie.
    number
        1 for the first; each commit adds one.
    parts
        Part name -> file name in it -> [bytes, SHA-256].
    data
        Anything that JSON holds.
    following
        The number of the next new part: a name is never used twice.
    mark
        The line of CURRENT: unique to a generation, across all folders.
    """

    folder: Path
    number: int
    parts: dict[str, dict[str, tuple[int, str]]]
    data: dict[str, Any]
    following: int
    mark: str

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(size for files in self.parts.values() for size, _ in files.values())

    def check_sizes(self) -> None:
        """See that every file is there and as long as it was: cheap, so done at every opening.

        Raises
        ------
        LexLIPError
            Names the first file that is missing or has another size.
        """
        for part, files in self.parts.items():
            for name, (size, _) in files.items():
                path = self.folder / part / name
                try:
                    found = path.stat().st_size
                except OSError as error:
                    raise LexLIPError(
                        f"{path} cannot be read ({error.strerror}): restore it, or build anew"
                    ) from None
                if found != size:
                    raise LexLIPError(
                        f"{path} is damaged: {found} bytes instead of {size}; "
                        "restore it, or build anew"
                    )

    def check_digests(self, parts: Iterable[str]) -> None:
        """Read every byte of some parts, before what they hold is written anew with new checksums.

        Raises
        ------
        LexLIPError
            Names the first file that is not what was written.
        """
        for part in parts:
            for name, (_, digest) in self.parts[part].items():
                path = self.folder / part / name
                if sha256_file(path) != digest:
                    raise LexLIPError(
                        f"{path} is damaged: its checksum differs; nothing was written. Restore "
                        "it, or build anew"
                    )

    def named(self, parts: Iterable[Any]) -> list[str]:
        """Return names of parts that `data` holds, each of this generation.

        Raises
        ------
        LexLIPError
            When there is no such part: a name may lead out of the folder.
        """
        names = list(parts)
        for name in names:
            if not isinstance(name, str) or name not in self.parts:
                raise LexLIPError(f"{self.folder} has no part {name!r:.60}: build the index anew")
        return names


def current_mark(path: str | os.PathLike[str]) -> str | None:
    """Return the line of CURRENT, None where there is none: says whether anything changed."""
    folder = Path(path)
    try:
        return (folder / CURRENT).read_text("ascii")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise LexLIPError(f"{folder / CURRENT} cannot be read ({error}): restore it") from None


def read_line(folder: Path, line: str) -> Generation:
    """Read the manifest that a line of CURRENT names."""
    found = re.fullmatch(r"(gen-\d+\.json) ([0-9a-f]{64})\n", line)
    if not found:
        raise LexLIPError(f"{folder / CURRENT} is damaged: restore it, or build anew")
    path = folder / found[1]
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise LexLIPError(f"{path} cannot be read ({error.strerror}): build anew") from None
    if sha256(raw).hexdigest() != found[2]:
        raise LexLIPError(f"{path} is damaged: its checksum differs; restore it, or build anew")
    try:
        manifest = json.loads(raw)
        if manifest.get("format") == FORMAT:
            return _parsed(folder, line, manifest)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise LexLIPError(f"{path} is no manifest of parts ({error!r:.80}): build anew") from None
    raise LexLIPError(
        f"{path} has format {manifest.get('format')!r:.40}, this lexlip reads {FORMAT!r}: "
        "build the index again"
    )


def _parsed(folder: Path, line: str, manifest: dict[str, Any]) -> Generation:
    """Return the generation that a manifest describes; ValueError where it describes none."""
    parts: dict[str, dict[str, tuple[int, str]]] = {}
    for part, files in manifest["parts"].items():
        if not _PART.fullmatch(part):
            raise ValueError(f"a part {part!r:.40}")
        parts[part] = {}
        for name, (size, digest) in files.items():
            outside = {"", ".", ".."} & set(name.split("/")) or "\\" in name or ":" in name
            if outside or type(size) is not int or not _DIGEST.fullmatch(digest):
                raise ValueError(f"a file {name!r:.40}")
            parts[part][name] = size, digest
    numbers = manifest["generation"], manifest["following"]
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError("numbers that are none")
    if not isinstance(manifest["data"], dict):
        raise ValueError("data that are no table")
    return Generation(folder, numbers[0], parts, manifest["data"], numbers[1], line)


def open_current(path: str | os.PathLike[str], load: Callable[[Generation], T]) -> T:
    """Return `load(generation)` for the current generation.

    When files vanish because a writer publishes newer generations meanwhile, it tries again: so
    `load` opens every file that it will ever need.

    Raises
    ------
    LexLIPError
        When there is no generation, it is corrupted, or `load` raises.
    """
    folder = Path(path)
    for _ in range(_TRIES):
        line = current_mark(folder)
        if line is None:
            raise LexLIPError(f"{folder} holds no index: build it first")
        try:
            generation = read_line(folder, line)
            generation.check_sizes()
            return load(generation)
        except (LexLIPError, OSError) as error:
            if current_mark(folder) != line:
                continue
            if isinstance(error, LexLIPError):
                raise
            raise LexLIPError(f"{folder} cannot be opened ({error})") from None
    raise LexLIPError(f"{folder} changes faster than it can be opened: try again")


def verify(
    path: str | os.PathLike[str], load: Callable[[Generation], object] | None = None
) -> list[str]:
    """Read every byte of the current generation and compare it with the recorded checksums.

    Parameters
    ----------
    path
    load
        Opens what the bytes say, once they are right: what it raises is told as well.

    Returns
    -------
    list of str
        One line a damaged file: which, and what is wrong. Empty when all is well.

    Raises
    ------
    LexLIPError
        When there is nothing to verify.
    """
    folder = Path(path)
    damaged: list[str] = []

    def read_all(generation: Generation) -> None:
        damaged.clear()
        for part, files in generation.parts.items():
            for name, (_, digest) in files.items():
                if sha256_file(folder / part / name) != digest:
                    damaged.append(f"{part}/{name} is damaged: its checksum differs")
        if load is not None and not damaged:
            load(generation)

    if current_mark(folder) is None:
        raise LexLIPError(f"{folder} holds no index: build it first")
    try:
        open_current(folder, read_all)
    except LexLIPError as error:
        damaged.append(str(error))
    return damaged


class GenerationWriter:
    """The one writer of a folder of generations.

    Opening makes the folder, takes the lock, and removes what a killed writer left. A new folder
    gets an empty first generation at once, so it can be opened for reading from then on.

    Parameters
    ----------
    path
        The folder.

    Raises
    ------
    LexLIPError
        When another writer has it open (it is named), it holds something else, or is damaged.

    Examples
    --------
    >>> import tempfile
    >>> writer = GenerationWriter(tempfile.mkdtemp())
    >>> part = writer.new_part()
    >>> _ = (part / "words.txt").write_text("dog")
    >>> writer.publish([part.name], {"documents": 1}).number
    2
    >>> writer.close()
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.folder = Path(path)
        if self.folder.exists() and not self.folder.is_dir():
            raise LexLIPError(f"{self.folder} is a file: give the name of a folder")
        if not (self.folder / CURRENT).exists():
            self._check_ours()
        self._lock: FolderLock | None = None
        with self._readable_errors("cannot be opened for writing"):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = FolderLock(self.folder)
        try:
            line = current_mark(self.folder)
            if line is None:
                self.current = Generation(self.folder, 0, {}, {}, 1, "")
                self.publish([], {})
            else:
                self.current = read_line(self.folder, line)
                self._sweep()
        except BaseException:
            self.close()
            raise

    def _check_ours(self) -> None:
        """Refuse a folder of other things, and one that has parts but lost its CURRENT."""
        names = {entry.name for entry in self.folder.iterdir()} if self.folder.exists() else set()
        if any(name.startswith("part-") for name in names):
            raise LexLIPError(f"{self.folder} lost its file {CURRENT}: restore it, or build anew")
        if not all(name in (LOCK, OWNER) or _OURS.fullmatch(name) for name in names):
            raise LexLIPError(
                f"{self.folder} is not empty and holds no index: give a new folder, or empty it"
            )

    @contextlib.contextmanager
    def _readable_errors(self, what: str) -> Any:
        try:
            yield
        except OSError as error:
            raise LexLIPError(f"{self.folder} {what}: {error.strerror or error}") from None

    def _sweep(self) -> None:
        """Remove what is ours by name but not of the current generation.

        Nothing where another folder has taken the place of this one.
        """
        if self._lock is None or self._lock.moved:
            return
        kept = {*self.current.parts, f"gen-{self.current.number:06}.json"}
        for entry in os.scandir(self.folder):
            if entry.name not in kept and _OURS.fullmatch(entry.name):
                # What cannot be removed now (open files on some systems) is tried at the next.
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        shutil.rmtree(entry.path, ignore_errors=True)
                    else:
                        os.unlink(entry.path)

    def _check_place(self) -> None:
        if self._lock is not None:
            self._lock.check()

    def new_part(self) -> Path:
        """Return a new empty folder; it lasts when the next `publish` names it."""
        self._check_place()
        number = self.current.following
        while True:
            part = self.folder / f"part-{number:06}"
            if not part.exists():
                part.mkdir()
                return part
            number += 1

    def publish(self, parts: Iterable[str], data: dict[str, Any]) -> Generation:
        """Make `parts`, old and new, the current generation; remove the parts it leaves out.

        Parameters
        ----------
        parts
            Names of folders: of the current generation, or from `new_part`.
        data
            Kept in the manifest.

        Raises
        ------
        LexLIPError
            When writing fails, as on a full disk: the last generation stays.
        """
        self._check_place()
        known = self.current.parts
        table: dict[str, dict[str, tuple[int, str]]] = {}
        number = self.current.number + 1
        following = self.current.following
        line = ""
        try:
            with self._readable_errors("keeps its last commit, this one failed"):
                for part in parts:
                    table[part] = known.get(part) or self._seal(part)
                    following = max(following, int(part.removeprefix("part-")) + 1)
                manifest = {
                    "format": FORMAT,
                    "generation": number,
                    "following": following,
                    "parts": table,
                    "data": data,
                }
                raw = json.dumps(manifest, ensure_ascii=False, allow_nan=False).encode()
                name = f"gen-{number:06}.json"
                write_bytes(self.folder / name, raw, follow=False)
                line = f"{name} {sha256(raw).hexdigest()}\n"
                write_bytes(self.folder / CURRENT, line.encode(), follow=False)
        finally:
            # Ask the disk: the rename may have come through and only the flush after it failed.
            if line and current_mark(self.folder) == line:
                self.current = Generation(self.folder, number, table, data, following, line)
            self._sweep()
        return self.current

    def _seal(self, part: str) -> dict[str, tuple[int, str]]:
        """Flush a new part and take down its files."""
        folder = self.folder / part
        fsync_tree(folder)
        return {
            path.relative_to(folder).as_posix(): (path.stat().st_size, sha256_file(path))
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    def discard(self) -> None:
        """Remove the new parts that no `publish` named."""
        self._sweep()

    def close(self) -> None:
        """Remove what was not published and let the next writer in. Closing twice is fine."""
        if self._lock is not None:
            if hasattr(self, "current"):
                self._sweep()
            self._lock.release()
            self._lock = None

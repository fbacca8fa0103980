"""An index on shared storage: copied to this machine, file by file with checksums, and followed.

Only an index whose engine is distant is served so: its postings are in a cluster, and what is left
are a manifest and files that never change. They are copied before the file that names them is
replaced, as their writer does, so nobody opens half of a copy.
"""

from __future__ import annotations

import re
import shutil
from hashlib import sha256
from pathlib import Path

from platformdirs import user_cache_path

from lexlip.build.manifest import is_index, read_manifest
from lexlip.build.side_stores import FLOATS, VECTORS, VIEWS
from lexlip.build.write import ENGINE
from lexlip.engines import is_distant
from lexlip.errors import LexLIPError
from lexlip.storage.files import MANIFEST, atomic_directory, write_bytes
from lexlip.storage.folder_lock import FolderLock
from lexlip.storage.generations import CURRENT, Generation, current_mark, open_current, read_line
from lexlip.storage.remote import Remote, Unreachable, telling

STORES = (FLOATS, VIEWS, VECTORS)
_OTHERS = ("sources.json", "rerank.json", "words/manifest.json")
_TURN = 300.0
"""Seconds to wait for another server of this machine that copies the same."""

_PIECE = 2**20


class Shared:
    """The copy of an index that lies behind a URL.

    Parameters
    ----------
    url : str
        Of the index's folder: s3://, gs://, https://, file:// and others that fsspec reads.
    cache : Path, optional
        Folder for copies; by default ``lexlip/shared`` in the user's cache folder.

    Attributes
    ----------
    path : Path
        The copy: an index that is only read.
    """

    def __init__(self, url: str, cache: Path | None = None) -> None:
        self.remote = Remote(url.rstrip("/"))
        cache = cache or user_cache_path("lexlip", appauthor=False) / "shared"
        name = re.sub(r"[^\w.-]+", "-", self.remote.name)[:40]
        digest = sha256(self.remote.url.encode()).hexdigest()[:12]
        self._home = cache / f"{name}-{digest}"
        self.path = self._home / "index"

    def follow(self) -> bool:
        """Copy what is new, and return whether anything is.

        Raises
        ------
        LexLIPError
            When the storage cannot be read, or what lies there is damaged or half written. The
            copy stays as it was.
        """
        try:
            self._home.mkdir(parents=True, exist_ok=True)
            lock = FolderLock(self._home, _TURN)
        except OSError as error:
            raise LexLIPError(f"{self._home} cannot be written: {error.strerror}") from None
        try:
            raw = self._manifest()
            if is_index(self.path) and (self.path / MANIFEST).read_bytes() == raw:
                name = _link(self.path)
                if (self.path / name).read_bytes() == (self.remote / name).read():
                    return self._catch_up(self.path)
            with atomic_directory(self.path) as folder:
                write_bytes(folder / MANIFEST, raw)
                self._check(folder)
                name = _link(folder)
                write_bytes(folder / name, link := (self.remote / name).read())
                self._catch_up(folder)
                if [(self.remote / it).read() for it in (MANIFEST, name)] != [raw, link]:
                    raise LexLIPError(f"{self.remote} is being replaced: try again in a moment")
            return True
        except OSError as error:
            raise LexLIPError(
                f"{self.remote} cannot be copied to {self._home}: {error.strerror or error}"
            ) from None
        finally:
            lock.release()

    def _manifest(self) -> bytes:
        manifest = self.remote / MANIFEST
        if not is_index(self.path) and not manifest.exists():
            raise LexLIPError(
                f"no index at {self.remote}: give the URL of one. Pictures behind a URL are "
                f"indexed first: lexlip index {self.remote} -o photos.lex"
            )
        return manifest.read()

    def _check(self, folder: Path) -> None:
        try:
            engine = read_manifest(folder)["engine"]
        except LexLIPError as error:
            raise LexLIPError(str(error).replace(str(folder), str(self.remote))) from None
        if not is_distant(engine):
            raise LexLIPError(
                f"{self.remote} has the engine {engine}: an index on shared storage needs one of "
                "a cluster, so copy the folder and serve that"
            )

    def _catch_up(self, folder: Path) -> bool:
        found = [self._single(folder, name) for name in _OTHERS]  # a list: all are copied
        return any([*found, *(self._store(folder, name) for name in STORES)])

    def _single(self, folder: Path, name: str) -> bool:
        """Copy a small file that is replaced as a whole."""
        target = folder / name
        try:
            raw = (self.remote / name).read()
        except Unreachable:
            raise
        except LexLIPError:
            raw = None
        if raw == (target.read_bytes() if target.is_file() else None):
            return False
        if raw is None:
            target.unlink()
        else:
            write_bytes(target, raw, follow=False)
        return True

    def _store(self, folder: Path, name: str) -> bool:
        """Copy the current generation of a side store, CURRENT last."""
        remote, local = self.remote / name, folder / name
        try:
            line = (remote / CURRENT).read().decode("ascii", "replace")
        except Unreachable:
            raise
        except LexLIPError:
            return False
        if line == current_mark(local):
            return False
        file = line.partition(" ")[0]
        if not re.fullmatch(r"gen-\d+\.json", file):
            raise LexLIPError(f"{remote / CURRENT} is damaged: restore it")
        write_bytes(local / file, (remote / file).read(), follow=False)
        there = current_mark(local)
        had = {} if there is None else open_current(local, lambda found: found).parts
        coming = read_line(local, line)
        for part, files in coming.parts.items():
            for below, (size, digest) in files.items():
                if had.get(part, {}).get(below) != (size, digest):
                    self._file(remote / part / below, local / part / below, size, digest)
        write_bytes(local / CURRENT, line.encode(), follow=False)
        _sweep(local, coming)
        return True

    def _file(self, remote: Remote, target: Path, size: int, digest: str) -> None:
        """Copy a file, and see that it is the one that was written."""
        target.parent.mkdir(parents=True, exist_ok=True)
        coming, seen, count = target.with_name(f".{target.name}.coming"), sha256(), 0
        try:
            with telling(remote.url), remote.open() as source, open(coming, "wb") as copy:
                while count <= size and (piece := source.read(_PIECE)):
                    count += len(piece)
                    seen.update(piece)
                    copy.write(piece)
            if count != size or seen.hexdigest() != digest:
                raise LexLIPError(f"{remote} is half written, or damaged: its checksum differs")
            coming.replace(target)
        finally:
            coming.unlink(missing_ok=True)


def _link(folder: Path) -> str:
    """Return the file by which an index knows what it has in the cluster."""
    return f"{ENGINE}/{read_manifest(folder)['engine'].partition(':')[0]}.json"


def _sweep(local: Path, kept: Generation) -> None:
    """Remove what no generation names any more; what is mapped outlives its name."""
    names = {*kept.parts, CURRENT, kept.mark.partition(" ")[0]}
    for entry in local.iterdir():
        if entry.name not in names and re.fullmatch(r"part-\d+|gen-\d+\.json", entry.name):
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)

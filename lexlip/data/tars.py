"""Webdataset tars: pictures with captions and metadata by key, found by offset, never unpacked.

    photos-00000.tar    0001.jpg  0001.txt (a caption)  0001.json (captions, metadata)  0002.png ...

A tar is gone through once, header by header; then each picture is read by itself. What was found
in a tar behind a URL is kept in the user's cache, as long as its size, date and etag are the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections import Counter
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

from lexlip.data.images import SUFFIXES
from lexlip.data.in_order import in_order
from lexlip.data.left_out import LeftOut
from lexlip.data.metadata import FILE_METADATA, kept_apart, not_columns, rows_to_columns
from lexlip.data.readers import CAPTION_COLUMNS, Records, texts_of
from lexlip.errors import LexLIPError
from lexlip.filters.columns import nfc
from lexlip.storage.files import read_json, write_json
from lexlip.storage.remote import Facts, telling
from lexlip.storage.stored import Stored, place

MOST = 10_000_000
"""Members of a tar."""

MOST_TEXT = 1024 * 1024
"""Bytes of a caption, of metadata, and of what a header may say."""

_BLOCK = tarfile.BLOCKSIZE
_TEXTS = (".txt", ".json")
_FORMAT = "lexlip-tar/1"


@dataclass(frozen=True)
class Member(Stored):
    """A picture in a tar.

    Attributes
    ----------
    start : int
        Where its bytes begin, behind its header.
    """

    start: int = 0

    def _bytes(self) -> bytes:
        found = place(self.url).read(self.start - _BLOCK, (self.size or 0) + _BLOCK)
        try:
            header = tarfile.TarInfo.frombuf(found[:_BLOCK], "utf-8", "surrogateescape")
            same = header.isreg() and header.size == self.size
        except tarfile.HeaderError:
            same = False
        if not same or len(found) != _BLOCK + (self.size or 0):
            raise LexLIPError(f"{self}: the tar changed since it was gone through: run it again")
        return found[_BLOCK:]


@dataclass
class _Found:
    """The members of a tar: pictures, texts by key and kind, and what is left out."""

    pictures: list[tuple[str, int, int]] = field(default_factory=list)  # name, start, size
    texts: dict[str, str] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_tars(files: Sequence[Facts], names: Sequence[str], cache: Path) -> Records:
    """Read the pictures of tars; the id is the tar's name, and the picture's name in it.

    Parameters
    ----------
    files : sequence of Facts
        Tars, not compressed.
    names : sequence of str
        How ids of each begin.
    cache : Path
        Folder for what was found in tars behind URLs.

    Raises
    ------
    LexLIPError
        When there is no tar among them, or one cannot be read at all. Behind a damage in the
        middle nothing is read: the pictures before it are, and a note says so.
    """
    left_out, kinds, seen = LeftOut(), Counter[str](), set[str]()
    ids, captions, pictures, rows = [], [], list[Any](), list[dict[str, Any]]()
    with closing(in_order(lambda facts: _members(facts, cache), files, ahead=8)) as coming:
        for facts, start, found in zip(files, names, coming, strict=True):
            kinds.update(found.kinds)
            left_out.notes += found.notes
            left_out.skipped += [(f"{start}/{name}", why) for name, why in found.skipped]
            for name, begin, size in found.pictures:
                key, id = _key(name)[0], nfc(f"{start}/{name}")
                if id in seen:
                    left_out.skipped.append((id, f"{place(facts.url)}: {name} is there twice"))
                    continue
                seen.add(id)
                row = _row(found, key, facts.url, left_out)
                told = [found.texts[key + ".txt"]] if key + ".txt" in found.texts else texts_of(row)
                ids.append(id)
                captions.append(told)
                rows.append(row)
                pictures.append(Member(facts.url, size, facts.modified, facts.etag, name, begin))
    left_out.kinds = kinds
    apart = {*CAPTION_COLUMNS, *FILE_METADATA}
    columns = rows_to_columns(rows, apart)
    named = {name for row in rows for name in row}
    left_out.notes += kept_apart(named, "the tars") + not_columns(
        named - apart, columns, "the tars"
    )
    return Records(ids, captions, pictures, columns=columns, left_out=left_out)


def _key(name: str) -> tuple[str, str]:
    """Split a name at the first dot of its last part, as webdataset does."""
    folder, slash, last = name.rpartition("/")
    stem, dot, suffix = last.partition(".")
    return folder + slash + stem, (dot + suffix).lower()


def _row(found: _Found, key: str, where: str, left_out: LeftOut) -> dict[str, Any]:
    """Return the metadata of a key, empty where there is none to use."""
    text = found.texts.get(key + ".json")
    if text is None:
        return {}
    with suppress(ValueError, RecursionError):
        if isinstance(row := json.loads(text), dict):
            return row
    left_out.notes.append(f"{where}: {key}.json is no JSON object: it is left out")
    return {}


def _members(facts: Facts, cache: Path) -> _Found:
    """Go through a tar, or take what was found when it was the same."""
    known = [_FORMAT, facts.url, facts.size, facts.modified, facts.etag]
    name = hashlib.sha256(json.dumps(known).encode()).hexdigest()
    kept = cache / "tars" / f"{name}.json"
    distant = not facts.url.startswith("file://") and (facts.modified or facts.etag)
    if distant and kept.is_file():
        with suppress(LexLIPError, TypeError, ValueError):
            found = _Found(**read_json(kept))
            found.pictures = [(str(n), int(start), int(size)) for n, start, size in found.pictures]
            found.skipped = [(str(name), str(why)) for name, why in found.skipped]
            return found
    found = _Found()
    remote = place(facts.url)
    with telling(facts.url), remote.open() as opened:
        _walk(_Bounded(opened), facts, found)
    if distant:
        with suppress(OSError):
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_json(kept, asdict(found))
    return found


class _Bounded:
    """A file that refuses to read much at once: a header of a tar may claim any size."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        if size > MOST_TEXT + _BLOCK:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self._file.read(size)


def _walk(file: Any, facts: Facts, found: _Found) -> None:
    """Collect the members of an open tar."""
    where, total = place(facts.url), facts.size
    try:
        tar = tarfile.open(fileobj=file, mode="r:")
    except tarfile.TarError as error:
        raise LexLIPError(
            f"{where} is no tar, or a compressed one ({error}): give plain .tar files"
        ) from None
    count = 0
    try:
        for member in tar:
            tar.members = []  # type: ignore[attr-defined]  # else all are kept
            count += 1
            if count > MOST:
                raise LexLIPError(f"{where} has over {MOST:,} members: make several tars of it")
            if not member.isdir():
                _take(tar, member, total, where, found)
        file.seek(tar.offset)  # type: ignore[attr-defined]
        end = file.read(_BLOCK)
        damage = "a damaged header" if end.strip(b"\0") else "" if end else "its end is missing"
    except (tarfile.TarError, EOFError) as error:
        damage = str(error)
    if damage:
        found.notes.append(f"{where}: damaged behind its member {count} ({damage}): fetch it again")


def _take(
    tar: tarfile.TarFile, member: tarfile.TarInfo, total: int | None, where: Any, found: _Found
) -> None:
    """Add a member by its kind."""
    name = os.path.normpath(member.name).replace(os.sep, "/")
    (key, suffix), last = _key(name), name.rpartition("/")[2]
    start = member.offset_data
    picture = PurePosixPath(last).suffix.lower() in SUFFIXES
    if last.startswith("."):
        _count(found, "hidden files")
    elif not member.isreg() or member.issparse():
        _count(found, "links and devices in tars")
    elif not picture and suffix not in _TEXTS:
        _count(found, PurePosixPath(last).suffix.lower() or "without a suffix")
    elif why := _wrong(name, member.size, start, total, MOST_TEXT if not picture else None):
        shown = name.encode("utf-8", "replace").decode()
        if picture:
            found.skipped.append((shown, f"{where}/{shown}: {why}"))
        else:
            found.notes.append(f"{where}: {shown} is left out: {why}")
    elif picture:
        found.pictures.append((name, start, member.size))
    else:
        opened = tar.extractfile(member)
        text = b"" if opened is None else opened.read()
        found.texts[key + suffix] = text.decode("utf-8", "replace").removeprefix("\ufeff").strip()


def _wrong(name: str, size: int, start: int, total: int | None, most: int | None) -> str | None:
    """Return why a member cannot be taken, None where it can."""
    if name.startswith(("/", "../")) or name == "..":
        return "its name leads out of the tar: rename it"
    if any("\udc80" <= letter <= "\udcff" for letter in name):
        return "its name is not UTF-8: rename it"
    if size <= 0:
        return "it is empty"
    if total is not None and start + size > total:
        return "the tar ends within it: fetch the tar again"
    if most is not None and size > most:
        return f"over {most:,} bytes"
    return None


def _count(found: _Found, kind: str) -> None:
    found.kinds[kind] = found.kinds.get(kind, 0) + 1

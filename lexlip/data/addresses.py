"""Sources behind URLs, and tars: patterns of files, and the reader that each source needs.

A pattern has ``{00000..00099}``, ``{train,val}``, ``*`` or ``?`` in it. Ids begin below the folder
in front of the pattern, so that they are the same whatever else matches.
"""

from __future__ import annotations

import itertools
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lexlip.data.folders import TABLES, add_metadata, excluded
from lexlip.data.images import SUFFIXES
from lexlip.data.left_out import LeftOut
from lexlip.data.metadata import FILE_METADATA, not_columns, rows_to_columns
from lexlip.data.readers import CAPTION_COLUMNS, Records, no_split
from lexlip.data.tars import read_tars
from lexlip.errors import LexLIPError
from lexlip.filters.columns import nfc
from lexlip.storage.remote import Facts, Remote, is_remote
from lexlip.storage.stored import Stored

MOST_FILES = 1_000_000
"""Of a pattern with numbers."""

_BRACES = re.compile(r"\{([^{}]*)\}")
_MAGIC = re.compile(r"[*?\[{]")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def is_addressed(source: str) -> bool:
    """Say whether a source is behind a URL or made of tars, and read by `read_addressed`.

    Examples
    --------
    >>> is_addressed("photos-{000..099}.tar"), is_addressed("s3://bucket/photos"), is_addressed("a")
    (True, True, False)
    """
    return is_remote(source) or source.lower().endswith(".tar")


def address_of(source: str) -> str:
    """Return where a source is from any folder: its URL, or its absolute path."""
    return source if is_remote(source) else os.path.abspath(source)


def expand(pattern: str) -> list[str]:
    """Return the names that a pattern with braces stands for.

    Raises
    ------
    LexLIPError
        When there are over a million, or a range runs backwards.

    Examples
    --------
    >>> expand("{train,val}/p-{008..010}.tar")[2:4]
    ['train/p-010.tar', 'val/p-008.tar']
    """
    parts: list[list[str]] = []
    for number, part in enumerate(_BRACES.split(pattern)):
        if number % 2 == 0:
            parts.append([part])
        elif bounds := _RANGE.fullmatch(part):
            first, last = int(bounds[1]), int(bounds[2])
            if not 0 <= last - first < MOST_FILES:
                raise LexLIPError(f"{pattern}: {{{part}}} is no range of at most {MOST_FILES:,}")
            parts.append([f"{it:0{len(bounds[1])}}" for it in range(first, last + 1)])
        else:
            parts.append(part.split(","))
    count = 1
    for part_ in parts:
        count *= len(part_)
    if count > MOST_FILES:
        raise LexLIPError(f"{pattern} stands for {count:,} files: give fewer at a time")
    return ["".join(some) for some in itertools.product(*parts)]


def read_addressed(
    source: str, splits: Sequence[str] | None, cache: Path, exclude: Sequence[str] = ()
) -> Records:
    """Read tars, parquet files or pictures, behind a URL or (tars) on disk.

    Parameters
    ----------
    source : str
        A file, a pattern of files, or a folder.
    splits : sequence of str, optional
        Of a folder of parquet files or pictures.
    cache : Path
        Folder for what was found in tars.
    exclude : sequence of str
        As for a folder on disk.

    Raises
    ------
    LexLIPError
        When nothing is there or can be read; of the kind `lexlip.storage.remote.Unreachable` when
        a service does not answer.
    """
    if re.match(r"[^/]+://[^/@]*:[^/@]*@", source):
        raise LexLIPError(
            f"{Remote(source)}: its password would be kept with the pictures: give it in the "
            "environment, or in fsspec's configuration"
        )
    url = source if is_remote(source) else f"file://{os.path.abspath(source)}"
    kind = _suffix(url)
    if kind not in (".tar", ".parquet", *SUFFIXES):
        return _read_folder(url, splits, cache, exclude)
    files = _files(url)
    if kind in SUFFIXES:
        return _pictures(_fixed(url), [(facts, _name(facts, url)) for facts in files], LeftOut())
    if splits is not None:
        raise LexLIPError(f"{Remote(url)}: files have no split: leave it out, or give a pattern")
    return _of_kind(kind, url, files, cache)


def _of_kind(kind: str, url: str, files: list[Facts], cache: Path) -> Records:
    from lexlip.data.cells import read_cells

    names = [_name(facts, url).removesuffix(kind) for facts in files]
    records = read_tars(files, names, cache) if kind == ".tar" else read_cells(files, names)
    if not records.ids:
        said = "; ".join(records.left_out.lines(str(Remote(url))))
        raise LexLIPError(f"no picture in {Remote(url)}" + (f" ({said})" if said else ""))
    return records


def _suffix(url: str) -> str:
    """Return the suffix of a file or of a pattern, in small letters."""
    return os.path.splitext(Remote(url).name)[1].lower()


def _fixed(url: str) -> str:
    """Return the folder in front of a pattern, or the folder of a file, ending in a slash."""
    query = re.split(r"[?#]", url)[0] if url.startswith("http") else url
    found = _MAGIC.search(query)
    return query[: query.rindex("/", 0, found.start() if found else None) + 1]


def _name(facts: Facts, url: str) -> str:
    """Return the name of a file below the folder in front of a pattern."""
    plain = re.split(r"[?#]", facts.url)[0] if facts.url.startswith("http") else facts.url
    return plain.removeprefix(_fixed(url)).lstrip("/")


def _files(url: str) -> list[Facts]:
    """Return the files that a URL or a pattern stands for; numbered ones must all be there."""
    found: list[Facts] = []
    for name in expand(url):
        # In an address of HTTP a question mark begins a query.
        magic = "*" in name or "[" in name or ("?" in name and not name.startswith("http"))
        if not magic:
            found.append(Remote(name).facts())
        elif some := Remote(name).matching():
            found += some
        else:
            raise LexLIPError(f"no file matches {Remote(name)}: check the pattern")
    return found


def _read_folder(
    url: str, splits: Sequence[str] | None, cache: Path, exclude: Sequence[str]
) -> Records:
    """Read a folder behind a URL, by what is in it."""
    base = url.rstrip("/") + "/"
    found = Remote(base).files()
    top = {facts.url for facts in found if "/" not in facts.url.removeprefix(base)}
    top |= {f.url for f in found if re.fullmatch(r"data/[^/]*", f.url.removeprefix(base))}
    for kind in (".parquet", ".tar"):
        of_kind = [facts for facts in found if facts.url in top and _suffix(facts.url) == kind]
        if of_kind:
            return _of_kind(kind, base, _of_split(of_kind, splits, base), cache)
    left_out = LeftOut(patterns=tuple(exclude))
    tables, pictures = [], []
    for facts in found:
        name = facts.url.removeprefix(base).lstrip("/")
        parts = name.split("/")
        if splits is not None and parts[0] not in splits:
            continue
        below = ["/".join(parts[: n + 1]) for n in range(len(parts))]
        hits = (excluded(one, path, exclude) for one, path in zip(parts, below, strict=True))
        if pattern := next((hit for hit in hits if hit), None):
            left_out.kinds[pattern] += 1
        elif any(part.startswith(".") for part in parts):
            left_out.kinds["hidden files"] += 1
        elif parts[-1] in TABLES:
            tables.append((facts, name))
        elif (suffix := os.path.splitext(parts[-1])[1].lower()) in SUFFIXES:
            pictures.append((facts, name))
        else:
            left_out.kinds[suffix or "without a suffix"] += 1
    if splits is not None and not pictures:
        folders = {f.url.removeprefix(base).split("/")[0] for f in found}
        raise no_split(Path(base), splits, folders)
    return _pictures(base, pictures, left_out, tables)


def _of_split(files: list[Facts], splits: Sequence[str] | None, base: str) -> list[Facts]:
    """Return the files of some splits: names of shards begin with it."""
    found: dict[str, list[Facts]] = {}
    for facts in files:
        found.setdefault(re.sub(r"-.*", "", Remote(facts.url).name.rsplit(".", 1)[0]), []).append(
            facts
        )
    if splits is None:
        return files
    if not set(splits) <= set(found):
        raise LexLIPError(
            f"{Remote(base)} has no split {'+'.join(splits)!r}: it has {', '.join(sorted(found))}"
        )
    return [facts for split in splits for facts in found[split]]


def _pictures(
    base: str,
    files: Sequence[tuple[Facts, str]],
    left_out: LeftOut,
    tables: Sequence[tuple[Facts, str]] = (),
) -> Records:
    """Return picture files by their names, with what tables among them say."""
    stored = {nfc(name): Stored(f.url, f.size, f.modified, f.etag) for f, name in files}
    captions: dict[str, list[str]] = {name: [] for name in stored}
    told: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for facts, name in tables:
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(Remote(facts.url).read())
            add_metadata(captions, told, Path(folder), path, left_out)
    if not stored:
        said = "; ".join(left_out.lines(str(Remote(base))))
        raise LexLIPError(f"no picture in {Remote(base)}" + (f" ({said})" if said else ""))
    ids = sorted(captions)
    apart = ("file_name", *CAPTION_COLUMNS, *FILE_METADATA)
    columns = rows_to_columns((told.get(name, {}) for name in ids), apart)
    names = {name for row in told.values() for name in row} - set(apart)
    left_out.notes.extend(not_columns(names, columns, Remote(base)))
    pictures = [stored.get(name) or Stored(base + name) for name in ids]
    return Records(ids, [captions[i] for i in ids], pictures, columns=columns, left_out=left_out)

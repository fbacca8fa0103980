"""A collection: pictures with ids, their captions, and which pictures each caption is true of."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Collection as Container
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from lexlip.data import readers
from lexlip.data.addresses import address_of, is_addressed, read_addressed
from lexlip.data.folders import read_image_folder
from lexlip.data.images import Photo, read_photo
from lexlip.data.in_order import in_batches
from lexlip.data.left_out import LeftOut
from lexlip.data.qrels import judgements
from lexlip.data.readers import Pictures, Records, read_texts
from lexlip.errors import LexLIPError
from lexlip.filters.columns import nfc, plain
from lexlip.storage.remote import Unreachable, shown
from lexlip.storage.stored import Stored

__all__ = ["Collection", "Place", "load_collection", "read_texts"]

_READING = threading.Lock()  # tables promise nothing to threads


class Place(NamedTuple):
    """The place that a collection was read from, to find its pictures again."""

    path: str  # absolute
    split: str | None = None


class Collection:
    """Pictures, read when asked for, and their captions.

    Parameters
    ----------
    ids : sequence of str
        All different; kept in Unicode's composed form (NFC).
    captions : sequence of sequences of str
        The captions of each picture, none empty.
    pictures : Pictures
        Something with ``pictures[i]``, a file or the bytes of one.
    judged : mapping of str to container of str, optional
        Query id -> ids of the pictures it is true of, for the captions that have been judged.
    source : str
        Where the pictures come from, in words.
    dropped_captions : int
        How many empty captions were left out.
    columns : mapping of str to sequence, optional
        Metadata: a value (text, number, truth value, date or None) of each picture.
    place : Place, optional
        Where `load_collection` finds the same pictures again.
    left_out : LeftOut, optional
        Files that were found there and are not among the pictures.

    Attributes
    ----------
    whole : bool
        False for a selection.

    Raises
    ------
    LexLIPError
        If two pictures have one id.
    """

    def __init__(
        self,
        ids: Sequence[str],
        captions: Sequence[Sequence[str]],
        pictures: Pictures,
        judged: Mapping[str, Container[str]] | None = None,
        source: str = "",
        dropped_captions: int = 0,
        columns: Mapping[str, Sequence[Any]] | None = None,
        place: Place | None = None,
        left_out: LeftOut | None = None,
    ) -> None:
        self.ids = [nfc(name) if isinstance(name, str) else name for name in ids]
        self.left_out = left_out or LeftOut()
        self.whole = True
        self.captions = [list(c) for c in captions]
        self.source = source
        self.place = place
        self.dropped_captions = dropped_captions
        self.columns = {name: list(map(plain, values)) for name, values in (columns or {}).items()}
        self._judged = judged or {}
        self._all = pictures
        self._rows: Sequence[int] = range(len(self.ids))
        if len(self.captions) != len(self.ids):
            raise ValueError(f"{len(self.ids)} ids but captions of {len(self.captions)} pictures")
        if any(len(values) != len(self.ids) for values in self.columns.values()):
            raise ValueError(f"{len(self.ids)} ids but columns of other lengths")
        if len(set(self.ids)) < len(self.ids):
            double = Counter(self.ids).most_common(1)[0][0]
            raise LexLIPError(f"{source}: two pictures have the id {double!r}: rename one")

    def __len__(self) -> int:
        """Return how many pictures there are."""
        return len(self.ids)

    def __repr__(self) -> str:
        """Say what this is, and how much of it."""
        n = sum(map(len, self.captions))
        return f"Collection({self.source!r}, {len(self)} pictures, {n} captions)"

    @cached_property
    def qrels(self) -> dict[str, set[str]]:
        """Query id (``"<image id>#<number of the caption>"``) -> ids of the pictures it fits.

        A caption fits its own picture, and those of this collection that judgements name.
        """
        kept = set(self.ids)
        return {
            (query := f"{name}#{n}"): {i for i in self._judged.get(query, ()) if i in kept} | {name}
            for name, captions in zip(self.ids, self.captions, strict=True)
            for n in range(len(captions))
        }

    def picture(self, i: int) -> Path | bytes | Stored:
        """Return picture number `i`, not decoded."""
        return self._all[self._rows[i]]

    def image(self, i: int, at_least: int | None = None) -> Image.Image:
        """Decode picture number `i` to RGB, as `lexlip.data.images.read_image` does.

        Raises
        ------
        LexLIPError
            Naming the picture and the reason, if it is missing, broken or too large.
        """
        return self.photo(i, at_least).image

    def photo(self, i: int, at_least: int | None = None) -> Photo:
        """Decode picture number `i`, with what its file says about it; see `image`."""
        with _READING:
            picture = self.picture(i)
        named = isinstance(picture, Path | Stored)
        name = str(picture) if named else f"{self.ids[i]} ({self.source})"
        return read_photo(picture, name, at_least)

    def batches(
        self,
        size: int,
        skipped: list[tuple[str, str]] | None = None,
        prepare: Callable[[Photo], Any] | None = None,
        at_least: int | None = None,
    ) -> Iterator[tuple[list[int], list[Any]]]:
        """Go through all pictures in order; threads read them while the caller works.

        Parameters
        ----------
        size : int
            Pictures a batch, at most.
        skipped : list of (str, str), optional
            When given, a picture that cannot be read is left out, and its id and the reason are
            added here; otherwise it is an error. A service that does not answer is always one.
        prepare : callable, optional
            Makes of a `lexlip.data.images.Photo` what is yielded, in the thread that decoded it; by
            default the picture is. Up to two batches are held, so let it be small.
        at_least : int, optional
            Pixels of the shorter side that are needed; see `lexlip.data.images.read_image`.

        Yields
        ------
        (list of int, list)
            The numbers of the pictures, and the pictures, or what was made of them.
        """

        def read(i: int) -> Any:
            try:
                photo = self.photo(i, at_least)
                return photo.image if prepare is None else prepare(photo)
            except LexLIPError as error:
                if skipped is None or isinstance(error, Unreachable):
                    raise
                return error

        with closing(in_batches(read, range(len(self)), size)) as batches:
            for start, results in zip(range(0, len(self), size), batches, strict=True):
                numbers, pictures = [], []
                for i, result in enumerate(results, start):
                    if isinstance(result, LexLIPError):
                        assert skipped is not None
                        skipped.append((self.ids[i], str(result)))
                    else:
                        numbers.append(i)
                        pictures.append(result)
                if numbers:
                    yield numbers, pictures

    def select(self, indices: Iterable[int]) -> Collection:
        """Return the collection of these pictures, in this order."""
        chosen = list(indices)
        part = Collection(
            [self.ids[i] for i in chosen],
            [self.captions[i] for i in chosen],
            self._all,
            self._judged,
            self.source,
            self.dropped_captions,
            {name: [values[i] for i in chosen] for name, values in self.columns.items()},
            self.place,
            self.left_out,
        )
        part._rows = [self._rows[i] for i in chosen]
        part.whole = False
        return part

    def renamed(self, ids: Sequence[str]) -> Collection:
        """Return the same pictures with other ids, one for each; judgements are left behind."""
        pictures, columns = self._all, self.columns
        other = Collection(
            ids, self.captions, pictures, None, self.source, self.dropped_captions, columns,
            self.place, self.left_out,
        )  # fmt: skip
        other._rows, other.whole = self._rows, self.whole
        return other

    def without(self, ids: Iterable[str]) -> Collection:
        """Return the collection less the pictures with these ids; unknown ids do not matter."""
        left_out = set(ids)
        return self.select(i for i, name in enumerate(self.ids) if name not in left_out)


def load_collection(
    source: str | Path,
    split: str | None = None,
    limit: int | None = None,
    cache: str | Path | None = None,
    scenes: Mapping[str, int] | None = None,
    seed: int = 0,
    exclude: Sequence[str] = (),
) -> Collection:
    """Read a collection of pictures and their captions.

    Parameters
    ----------
    source : str or Path
        One of: the name ``scenes`` (drawn by `lexlip.data.scenes`) or ``flickr8k`` (in the folder
        that the environment variable LEXLIP_DATA names, by default ``../shared/data``); a folder
        of ``<split>-*.parquet``; a folder of pictures; a ``.csv`` or ``.tsv`` table; a ``.json``
        of Karpathy's splits; tars of webdataset, and tars, parquet files and pictures behind a
        URL, one, a pattern or a folder of them. `lexlip.data.readers`, `lexlip.data.tars` and
        `lexlip.data.cells` say what each must hold.
    split : str, optional
        A split, or several joined by ``+``. Needed where a folder of parquet has several (as the
        two names do); else None is everything.
    limit : int, optional
        Number of first pictures to take.
    cache : str or Path, optional
        Folder for drawn scenes and memory-mapped tables; by default ``lexlip`` in the user's
        cache folder (XDG_CACHE_HOME, or ``~/.cache``).
    scenes : mapping of str to int, optional
        Arguments of `write_scenes` (train, dev, test, size), for the source ``scenes``.
    seed : int
        Of the scenes.
    exclude : sequence of str
        Files and folders of a folder to leave out, by name (``*.tmp.jpg``) or by path
        (``2024/raw``); see `lexlip.data.folders`.

    Returns
    -------
    Collection
        Pictures are not decoded yet, and may turn out to be missing or broken.

    Raises
    ------
    LexLIPError
        If the source or the split does not exist or cannot be read.
    """
    if limit is not None and limit < 0:
        raise LexLIPError(f"a limit of {limit} pictures: give 0 or more")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = Path(cache) if cache is not None else home / "lexlip"
    splits = None if split is None else [name.strip() for name in split.split("+")]
    name = str(source)
    if name == "scenes":
        path, name = _draw(cache, dict(scenes or {}), seed)
    elif name == "flickr8k":
        path = Path(os.environ.get("LEXLIP_DATA", "../shared/data")) / "flickr8k"
        if not path.is_dir():
            raise LexLIPError(
                f"no Flickr8k in {path}: set LEXLIP_DATA to the folder above flickr8k"
            )
    elif is_addressed(name):
        addressed = address_of(name)
        records = read_addressed(addressed, splits, cache, exclude)
        return _first(_assemble(records, shown(name)), Place(addressed, split), limit)
    else:
        path = Path(source)
    loaded = _assemble(_read(path, splits, cache / "datasets", exclude), name)
    return _first(loaded, Place(str(path.resolve()), split), limit)


def _first(loaded: Collection, place: Place, limit: int | None) -> Collection:
    loaded.place = place
    return loaded if limit is None else loaded.select(range(min(limit, len(loaded))))


def _draw(cache: Path, sizes: dict[str, int], seed: int) -> tuple[Path, str]:
    """Write the scenes into a folder of `cache` and return it, with a name for their source."""
    from lexlip.data.scenes import VERSION, write_scenes

    counts = {"train": 6000, "dev": 500, "test": 500, "size": 64} | sizes
    unknown = set(counts) - {"train", "dev", "test", "size"}
    if unknown:
        raise LexLIPError(
            f"scenes have no {', '.join(sorted(unknown))}: give train, dev, test, size"
        )
    stem = "-".join(str(n) for n in (*counts.values(), seed))
    size = counts.pop("size")
    name = f"scenes version {VERSION}, seed {seed}, {size} px"
    folder = cache / f"scenes-{VERSION}-{stem}"
    return write_scenes(folder, **counts, seed=seed, size=size), name


def _read(path: Path, splits: Sequence[str] | None, cache: Path, exclude: Sequence[str]) -> Records:
    """Read any source with the reader it needs."""
    suffix = path.suffix.lower()
    if path.is_dir():
        if any(path.glob("*.parquet")) or any(path.glob("data/*.parquet")):
            return readers.read_parquet(path, splits, cache)
        return read_image_folder(path, splits, exclude)
    if not path.exists():
        raise LexLIPError(f"{path} does not exist: give a folder, a table, 'scenes' or 'flickr8k'")
    if suffix == ".parquet":
        return readers.read_parquet(path, splits, cache)
    if suffix in (".csv", ".tsv"):
        return readers.read_csv(path, splits)
    if suffix == ".json":
        return readers.read_karpathy(path, splits)
    raise LexLIPError(f"{path}: not a folder, .parquet, .csv, .tsv or .json")


def _assemble(records: Records, source: str) -> Collection:
    """Drop empty captions, read the judgements and make the collection."""
    known = set(records.ids)
    judged: dict[str, set[str]] = {}
    for path in records.qrels:
        for number, query, image, relevant in judgements(path):
            if image not in known or query.rpartition("#")[0] not in known:
                raise LexLIPError(
                    f"{path}, line {number}: unknown picture: it is of another data set"
                )
            if relevant:
                judged.setdefault(query, set()).add(image)
    captions, dropped = [], 0
    renamed: dict[str, set[str]] = {}
    for name, texts in zip(records.ids, records.captions, strict=True):
        kept = [n for n, text in enumerate(texts) if text.strip()]
        captions.append([texts[n].strip() for n in kept])
        dropped += len(texts) - len(kept)
        # Judgements count captions as the file does; a query id counts those that are kept.
        for new, old in enumerate(kept):
            if f"{name}#{old}" in judged:
                renamed[f"{name}#{new}"] = judged[f"{name}#{old}"]
    columns, left_out = records.columns, records.left_out
    return Collection(
        records.ids, captions, records.pictures, renamed, source, dropped, columns, None, left_out
    )

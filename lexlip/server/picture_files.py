"""The pictures of an index: found by id, named by opaque tokens, made small, kept when posted."""

from __future__ import annotations

import base64
import functools
import hashlib
import logging
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from lexlip.data.images import ENOUGH, format_of, read_image, size_of
from lexlip.data.limits import PictureTooLarge
from lexlip.data.metadata import file_metadata
from lexlip.data.originals import Originals, is_below
from lexlip.data.url_folders import UrlFolder
from lexlip.errors import LexLIPError
from lexlip.server.failures import Refused, no_such_image
from lexlip.server.settings import Settings
from lexlip.storage.files import write_bytes
from lexlip.storage.ids import MAX_ID_BYTES
from lexlip.storage.remote import Unreachable

log = logging.getLogger(__name__)

UPLOADS = "uploads"
"""Folder of posted pictures, next to the index; their ids begin with it."""

SHOWN = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
"""Formats that browsers show unchanged; others are sent as JPEG."""

_SUFFIX = {
    "JPEG": ".jpg",
    "PNG": ".png",
    "WEBP": ".webp",
    "GIF": ".gif",
    "BMP": ".bmp",
    "AVIF": ".avif",
    "HEIF": ".heic",
    "RAW": ".raw",
}
_SMALL = 32  # pictures kept for queries
_PART = 1024  # ids that an engine is asked about at a time
_TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.\w+\.tmp-[0-9a-f]{12}")  # of a write that was killed
_UPLOADED = re.compile(rf"{UPLOADS}/[0-9a-f]{{32}}\.(?:jpg|png|webp|gif|bmp|tiff|avif|heic|raw)")


def token_of(id: str) -> str:
    """Return the opaque name of a document.

    Examples
    --------
    >>> token_of("trip/a.jpg"), id_of("dHJpcC9hLmpwZw")
    ('dHJpcC9hLmpwZw', 'trip/a.jpg')
    """
    return base64.urlsafe_b64encode(id.encode()).rstrip(b"=").decode()


def id_of(token: str) -> str:
    """Return the id that a token names, whether or not the index holds it.

    Raises
    ------
    Refused
        404 for a token that this server did not make.
    """
    try:
        id = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
    except ValueError:
        id = ""
    if not 0 < len(id.encode()) <= MAX_ID_BYTES or token_of(id) != token:
        raise no_such_image()
    return id


class Sent(NamedTuple):
    """A picture on its way out: its bytes, or the file that has them."""

    data: bytes | Path
    media_type: str


class Size(NamedTuple):
    """Size of a picture file, in pixels and bytes, and its place; None where it is not at hand."""

    width: int | None = None
    height: int | None = None
    bytes: int | None = None
    path: str | None = None


def read_posted(data: bytes, max_pixels: int, name: str = "the picture") -> Image.Image:
    """Decode a picture that was posted, at a scale that is enough for any model.

    Raises
    ------
    Refused
        413 when it is too large.
    LexLIPError
        When it is not a picture, or corrupted.
    """
    try:
        return read_image(data, name, ENOUGH, max_pixels)
    except PictureTooLarge as error:
        raise Refused(413, str(error)) from None


class Pictures:
    """Where the pictures of an index are.

    Parameters
    ----------
    index : Path
    originals : Originals
        The indexed pictures.
    settings : Settings
    held : callable
        Returns the metadata of a document, by its id.
    posted : UrlFolder, optional
        The index's folder on shared storage, with the pictures that were posted elsewhere.

    Attributes
    ----------
    problem : str or None
        Why pictures of that source cannot be shown.
    """

    def __init__(
        self,
        index: Path,
        originals: Originals,
        settings: Settings,
        held: Callable[[str], Mapping[str, Any] | None],
        posted: UrlFolder | None = None,
    ) -> None:
        self._index, self._originals, self._settings = index, originals, settings
        self._held, self._posted = held, posted
        self._converting = threading.Lock()
        self._swept = False
        self.problem = originals.problem
        self._thumbnail = functools.lru_cache(settings.thumbnails)(self._make_thumbnail)
        self._small = functools.lru_cache(_SMALL)(self._read_small)

    def find(self, id: str) -> Path | bytes | None:
        """Return the picture file of a document, None where there is none.

        The caller has seen that the index holds the id. Where links lead out of the folder that
        was indexed, the file is sent only if it is the one that was indexed: by size and date.

        Raises
        ------
        Refused
            403 where links lead to another file, 503 where the storage does not answer.
        """
        if _UPLOADED.fullmatch(id) and (self._index / id).is_file():
            found: Path | bytes | None = self._index / id
            out = not is_below(self._index / id, self._index / UPLOADS)
        else:
            found = self._elsewhere(id)
            out = isinstance(found, Path) and self._originals.leads_out(id, found)
        if out and not self._is_as_indexed(id, found):
            raise Refused(403, "the picture is now a link out of its folder: index it again")
        return found

    def _elsewhere(self, id: str) -> Path | bytes | None:
        """Return a picture that was not posted here; one behind a URL may be out of reach."""
        self._originals.renew(self._index)
        try:
            if self._posted is not None and _UPLOADED.fullmatch(id):
                return self._posted.find(id)
            return self._originals.find(id)
        except Unreachable as error:
            log.warning("pictures cannot be fetched: %s", error)
            raise Refused(
                503, "the storage of the pictures does not answer: try again in a moment"
            ) from None

    def _is_as_indexed(self, id: str, found: Any) -> bool:
        now = {name: values[0] for name, values in file_metadata([id], [found]).items()}
        held = self._held(id) or {}
        return now["bytes"] is not None and all(
            held.get(name) == now[name] for name in ("bytes", "modified")
        )

    def found(self, id: str) -> Path | bytes:
        """Return the picture file of a document; see `find`.

        Raises
        ------
        Refused
            404 where there is none.
        """
        found = self.find(id)
        if found is None:
            raise _gone()
        return found

    def stamp(self, id: str) -> str:
        """Return a stamp that changes when the picture does.

        Raises
        ------
        Refused
            404 without a picture.
        """
        found = self.found(id)
        if isinstance(found, bytes):
            return hashlib.sha256(found).hexdigest()[:32]
        with _still_there():
            facts = found.stat()
        stamp = f"{id}\0{facts.st_mtime_ns}\0{facts.st_size}"
        return hashlib.sha256(stamp.encode()).hexdigest()[:32]

    def thumbnail(self, id: str, stamp: str) -> Sent:
        """Return a small JPEG, from memory where it was made before."""
        return self._thumbnail(id, stamp)

    def _make_thumbnail(self, id: str, stamp: str) -> Sent:
        side = self._settings.thumbnail
        with _still_there():
            small = read_image(self.found(id), "the picture", 2 * side)
        small.thumbnail((side, side))
        return _as_jpeg(small)

    def small(self, id: str, side: int | None) -> Image.Image:
        """Return a picture for a model that looks at `side` pixels.

        Raises
        ------
        Refused
            404 without one that can be read.
        """
        return self._small(id, self.stamp(id), side or ENOUGH)

    def _read_small(self, id: str, stamp: str, side: int) -> Image.Image:
        with _still_there():
            return read_image(self.found(id), "the picture", side)

    def size(self, id: str) -> Size:
        """Return the size of a picture file, as far as that can be read."""
        try:
            found = self.find(id)
            if found is None:
                return Size()
            count = len(found) if isinstance(found, bytes) else found.stat().st_size
            width, height = size_of(found, "the picture") or (None, None)
        except (OSError, LexLIPError):
            return Size()
        place = None if isinstance(found, bytes) else str(found.absolute())
        return Size(width, height, count, place)

    def full(self, id: str) -> Sent:
        """Return the picture as it is, or as a JPEG where browsers do not show its format.

        Raises
        ------
        Refused
            404 without one that can be read, 413 for one that is too large.
        """
        with _still_there():
            found = self.found(id)
            kind = format_of(found, "the picture")
            if kind in SHOWN:
                count = len(found) if isinstance(found, bytes) else found.stat().st_size
                if count > self._settings.max_file:
                    most = f"{self._settings.max_file:,} bytes"
                    raise Refused(413, f"the file is over {most}: the small picture is sent")
                return Sent(found, SHOWN[kind])
            with self._converting:  # one at a time: each holds all of its pixels
                return _as_jpeg(read_image(found, "the picture"))

    def keep(self, data: bytes, name: str) -> tuple[str, Path]:
        """Store a picture that was posted, named by its content.

        Returns
        -------
        (str, Path)
            The id that it gets, and the file.

        Raises
        ------
        LexLIPError
            When it is not a picture, corrupted or too large; nothing is stored then.
        """
        read_posted(data, self._settings.max_pixels, name)
        suffix = _SUFFIX.get(format_of(data, name), ".tiff")
        id = f"{UPLOADS}/{hashlib.sha256(data).hexdigest()[:32]}{suffix}"
        path = self._index / id
        if not path.exists():
            try:
                write_bytes(path, data)
            except OSError as error:
                raise Refused(507, f"{name}: cannot be stored ({error.strerror})") from None
        return id, path

    def sweep(self, held: Callable[[Sequence[str]], Sequence[object | None]]) -> int:
        """Remove posted pictures that no document has: a kill came before its commit, or after it.

        To be called by the writer of the index, so that nobody is about to commit one. Only the
        first call looks.

        Parameters
        ----------
        held : callable
            Ids to documents, None where there is none.

        Returns
        -------
        int
            How many files went.
        """
        folder = self._index / UPLOADS
        if self._swept or not folder.is_dir():
            return 0
        self._swept, gone = True, 0
        names = [entry.name for entry in os.scandir(folder) if entry.is_file(follow_symlinks=False)]
        ids = [f"{UPLOADS}/{name}" for name in names if _UPLOADED.fullmatch(f"{UPLOADS}/{name}")]
        for start in range(0, len(ids), _PART):
            part = ids[start : start + _PART]
            missing = [id for id, it in zip(part, held(part), strict=True) if it is None]
            self.forget(missing)
            gone += len(missing)
        for name in names:
            if _TEMPORARY.fullmatch(name):
                (folder / name).unlink(missing_ok=True)
        return gone

    def forget(self, ids: Iterable[str]) -> None:
        """Remove the files of posted pictures; other files stay."""
        for id in ids:
            if _UPLOADED.fullmatch(id):
                (self._index / id).unlink(missing_ok=True)


def _gone() -> Refused:
    return Refused(404, "the picture is not where it was indexed: serve with --pictures FOLDER")


@contextmanager
def _still_there() -> Iterator[None]:
    """Turn a file that disappears or is corrupted during a request into a 404."""
    try:
        yield
    except OSError:
        raise _gone() from None
    except Refused:
        raise
    except LexLIPError as error:
        raise Refused(404, f"it cannot be shown: {error}") from None


def _as_jpeg(picture: Image.Image) -> Sent:
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return Sent(buffer.getvalue(), SHOWN["JPEG"])

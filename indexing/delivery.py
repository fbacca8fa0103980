"""Delivery of encoded parts from other machines: attempts, of which one becomes the part.

A worker writes an attempt under a name of its own, in a folder that both see or behind a URL. The
process that planned the parts takes one attempt a part, by a rename: so no part comes twice, and
none by half, however often a part was tried and whoever was believed dead.
"""

from __future__ import annotations

import hashlib
import shutil
import socket
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from lexlip.build.encode import Chunk
from lexlip.build.encoded_parts import Encoded
from lexlip.errors import LexLIPError
from lexlip.storage.files import MANIFEST, fsync_directory
from lexlip.storage.remote import Remote, is_remote


def deliver(encoded: Encoded, number: int, chunk: Chunk, through: str) -> str:
    """Write an attempt at a part, and return its name.

    Parameters
    ----------
    encoded : Encoded
        The plan; its folder does not matter.
    number : int
    chunk : Chunk
    through : str
        Folder, or URL, that the process that planned the parts sees.
    """
    name = f"{number:06}-{uuid.uuid4().hex}"
    if not is_remote(through):
        folder = Path(through) / name
        try:
            folder.mkdir()
        except OSError as error:
            raise LexLIPError(
                f"{socket.gethostname()} cannot write to {through} ({error.strerror}): give a "
                "folder that all machines see, or a URL, as through="
            ) from None
        replace(encoded, folder=folder).write(number, chunk)
        return name
    with tempfile.TemporaryDirectory(prefix="lexlip-part-") as temporary:
        own = replace(encoded, folder=Path(temporary))
        own.write(number, chunk)
        files = sorted(own.part(number).iterdir(), key=lambda file: file.name == MANIFEST)
        for file in files:  # the manifest last: it says what the others are
            (Remote(through) / name / file.name).write(file.read_bytes())
    return name


def accept(encoded: Encoded, number: int, name: str, through: str) -> None:
    """Make an attempt the part.

    Raises
    ------
    LexLIPError
        When it is not there, or not what was written.
    """
    target = encoded.part(number)
    fetched = is_remote(through)
    attempt = encoded.folder / f".part-{name}" if fetched else Path(through) / name
    try:
        if fetched:
            part = attempt / target.name
            part.mkdir(parents=True)
            for facts in (Remote(through) / name).files():
                (part / Remote(facts.url).name).write_bytes(Remote(facts.url).read())
        replace(encoded, folder=attempt).read(number)
        if target.exists():  # of another plan, or corrupted: `missing` said so
            shutil.rmtree(target)
        (attempt / target.name).rename(target)
        fsync_directory(encoded.folder)
    except OSError as error:
        raise LexLIPError(
            f"part {number} did not come through {through} ({error.strerror or error}): give a "
            "folder that all machines see, or a URL, as through="
        ) from None
    finally:
        shutil.rmtree(attempt, ignore_errors=True)


@contextmanager
def attempts(encoded: Encoded, through: str) -> Iterator[str]:
    """Yield a place for attempts in a folder or behind a URL; it is removed in the end."""
    plan = hashlib.sha256("".join(encoded.manifest["parts"]).encode()).hexdigest()[:16]
    if is_remote(through):
        place = Remote(through) / f"attempts-{plan}"
        try:
            yield place.url
        finally:
            with suppress(LexLIPError):
                place.remove()
        return
    folder = Path(through or encoded.folder).absolute() / f".part-attempts-{plan}"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield str(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)

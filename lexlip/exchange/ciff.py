"""The Common Index File Format: an inverted index as length-delimited protocol buffers.

A header, a message for each term with its postings (documents as gaps, impacts as term
frequencies), a message for each document. https://github.com/osirrc/ciff. The package ciff-toolkit
needs a protobuf older than 5, so the few fields are written here, whole postings lists at a time.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from lexlip.errors import LexLIPError
from lexlip.exchange.documents import Documents
from lexlip.storage.spool import Spool

_MOST = 2**30
"""Bytes of a message: more is no CIFF file."""

_LARGEST = 2**31 - 1
"""Numbers of postings and documents have 32 bits."""

_SMALLEST = 4
"""Bytes of a term or a document, at least: a length, and a text of one letter."""

_UNPACKED = 1032
"""Times its size that gzip can hold, at most."""


def varint(number: int) -> bytes:
    """Return a number as protocol buffers write it.

    Examples
    --------
    >>> varint(300).hex()
    'ac02'
    """
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)


def _number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value) if value else b""


def _text(field: int, text: str) -> bytes:
    data = text.encode()
    return varint(field << 3 | 2) + varint(len(data)) + data


def _message(body: bytes) -> bytes:
    return varint(len(body)) + body


def _sizes(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many bytes each number takes."""
    found = np.ones(len(numbers), np.int64)
    for more in range(1, 5):
        found += numbers >> 7 * more > 0
    return found


def _put(out: NDArray[np.uint8], at: NDArray[np.int64], numbers: NDArray[np.int64]) -> None:
    """Write each number at its place."""
    size = _sizes(numbers)
    for byte in range(int(size.max(initial=0))):
        there = size > byte
        more = (size[there] > byte + 1).astype(np.int64) << 7
        out[at[there] + byte] = numbers[there] >> 7 * byte & 127 | more


def postings_bytes(gaps: NDArray[np.int64], frequencies: NDArray[np.int64]) -> bytes:
    """Return postings as the repeated field 4 of a list.

    Examples
    --------
    >>> postings_bytes(np.array([0, 300]), np.array([255, 7])).hex()
    '2205080010ff01220508ac021007'
    """
    gap, frequency = _sizes(gaps), _sizes(frequencies)
    length = 2 + gap + frequency
    start = np.cumsum(length + 2) - (length + 2)
    out = np.empty(int((length + 2).sum()), np.uint8)
    out[start], out[start + 1], out[start + 2] = 0x22, length, 0x08
    _put(out, start + 3, gaps)
    out[start + 3 + gap] = 0x10
    _put(out, start + 4 + gap, frequencies)
    return out.tobytes()


def write(
    path: Path, documents: Iterable[Documents], words: Sequence[str], about: str, packed: bool
) -> int:
    """Write documents, and return how many.

    Parameters
    ----------
    path : Path
    documents : iterable of Documents
    words : sequence of str [V]
    about : str
        The description, for people.
    packed : bool
        Write it gzipped.
    """
    ids: list[str] = []
    lengths: list[int] = []
    with TemporaryDirectory(prefix="lexlip-", dir=path.parent) as folder:
        spool = Spool(Path(folder) / "documents", np.uint8)
        for some in documents:
            spool.append(some.rows)
            ids += some.ids
            lengths += some.rows.sum(1).tolist()
        spool.close()
        terms = spool.turned(Path(folder) / "terms", len(words))
        held = np.flatnonzero(np.diff(terms.ends)).tolist()
        total = sum(lengths)
        opened: Any = gzip.open(path, "wb", 6) if packed else open(path, "wb")
        with opened as file:
            counts = [len(held), len(ids), len(held), len(ids), total]
            header = _number(1, 1) + b"".join(_number(n, it) for n, it in enumerate(counts, 2))
            mean = struct.pack("<d", total / max(1, len(ids)))
            file.write(_message(header + varint(7 << 3 | 1) + mean + _text(8, about)))
            for term in sorted(held, key=words.__getitem__):
                rows, impacts = terms.entry(int(terms.ends[term]), int(terms.ends[term + 1]))
                gaps = np.asarray(np.diff(rows.astype(np.int64), prepend=0), np.int64)
                said = _text(1, words[term]) + _number(2, len(rows))
                said += _number(3, int(impacts.sum(dtype=np.int64)))
                file.write(_message(said + postings_bytes(gaps, impacts.astype(np.int64))))
            for number, (id, length) in enumerate(zip(ids, lengths, strict=True)):
                file.write(_message(_number(1, number) + _text(2, id) + _number(3, length)))
    return len(ids)


class Reader:
    """A file that is open for reading.

    Attributes
    ----------
    terms, documents : int
        Numbers of messages, of the header.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            opened: Any = gzip.open if path.suffix == ".gz" else open
            self._file: IO[bytes] = opened(path, "rb")
            size = path.stat().st_size if path.is_file() else math.inf
        except OSError as error:
            raise LexLIPError(f"{path} cannot be read: {error.strerror or error}") from None
        self._room = size * _UNPACKED if path.suffix == ".gz" else size
        header = dict(self._fields(self._message()))
        if header.get(1) != 1:
            raise self._wrong(f"version {header.get(1)!r:.20}, not 1")
        self.terms, self.documents = (self._count(header.get(field, 0)) for field in (2, 3))
        if (self.terms + self.documents) * _SMALLEST > self._room:
            raise self._wrong("it ends early")

    def _wrong(self, what: str) -> LexLIPError:
        return LexLIPError(f"{self.path} is no CIFF file, or damaged: {what}")

    def _count(self, value: Any) -> int:
        if not isinstance(value, int):
            raise self._wrong("a text in the place of a number")
        if value >= 2**63:
            raise self._wrong(f"the number {value - 2**64}")
        return value

    def _varint(self) -> int:
        found, shift = 0, 0
        while True:
            byte = self._read(1)[0]
            found |= (byte & 127) << shift
            if byte < 128:
                return found
            if (shift := shift + 7) > 63:
                raise self._wrong("a length without an end")

    def _read(self, size: int) -> bytes:
        try:
            data = self._file.read(size)
        except (OSError, EOFError, zlib.error) as error:
            raise self._wrong(str(error)) from None
        if len(data) < size:
            raise self._wrong("it ends early")
        return data

    def _message(self) -> bytes:
        size = self._varint()
        if size > _MOST:
            raise self._wrong(f"a message of {size:,} bytes")
        if size > self._room:
            raise self._wrong("it ends early")
        return self._read(size)

    def _fields(self, data: bytes, start: int = 0, stop_at: int = 0) -> Iterator[tuple[int, Any]]:
        """Yield (number, value) of the fields of a message.

        At a field of the number `stop_at`, (number, its place) is the last one.
        """
        at = start
        try:
            while at < len(data):
                before = at
                tag, at = _decode(data, at)
                number, kind = tag >> 3, tag & 7
                if number == stop_at:
                    yield number, before
                    return
                if kind == 0:
                    value, at = _decode(data, at)
                    yield number, value
                elif kind in (1, 5):
                    at += 8 if kind == 1 else 4
                elif kind == 2:
                    size, at = _decode(data, at)
                    if at + size > len(data):
                        raise self._wrong("a field beyond its message")
                    yield number, data[at : at + size]
                    at += size
                else:
                    raise self._wrong(f"a field of kind {kind}")
        except IndexError:
            raise self._wrong("a message ends early") from None

    def postings(self) -> Iterator[tuple[str, NDArray[np.int64], NDArray[np.int64]]]:
        """Yield each term with its documents (numbers, ascending) and their frequencies."""
        there: set[str] = set()
        for _ in range(self.terms):
            data = self._message()
            facts: dict[int, Any] = {}
            gaps = frequencies = np.empty(0, np.int64)
            for number, value in self._fields(data, stop_at=4):
                if number == 4:
                    gaps, frequencies = self._list(data, value, facts)
                else:
                    facts[number] = value
            word, count = self._unicode(facts.get(1, b"")), self._count(facts.get(2, 0))
            if word in there:
                raise self._wrong(f"the term {word!r:.60} comes twice")
            there.add(word)
            if count != len(gaps):
                raise self._wrong(f"{word!r:.60} has {len(gaps):,} postings, and says {count:,}")
            if max(gaps.max(initial=0), frequencies.max(initial=0)) > _LARGEST:
                raise self._wrong(f"{word!r:.60} has a number of more than 31 bits")
            if not gaps[1:].all():
                raise self._wrong(f"{word!r:.60} has a document twice")
            yield word, np.cumsum(gaps), frequencies

    def _unicode(self, value: Any) -> str:
        try:
            return str(value, "utf-8")
        except (UnicodeDecodeError, TypeError):
            raise self._wrong("a text that is not UTF-8") from None

    def _list(
        self, data: bytes, start: int, facts: dict[int, Any]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Read the postings behind a place; all are varints, also their tags and lengths.

        Fields of the list that come behind its postings go into `facts`.
        """
        raw = np.frombuffer(data, np.uint8, offset=start)
        last = np.flatnonzero(raw < 128)
        if not len(last) or last[-1] != len(raw) - 1:
            raise self._wrong("a number without an end")
        first = np.concatenate([[0], last[:-1] + 1])
        if (last - first).max() > 4:
            return self._slowly(data, start, facts)
        shift = 7 * (np.arange(len(raw)) - np.repeat(first, last - first + 1))
        numbers = np.add.reduceat((raw & 127).astype(np.int64) << shift, first)
        head = 4 if len(numbers) % 6 == 4 else 0  # a gap of 0 may be left out
        rest = numbers[head:].reshape(-1, 6) if len(numbers) % 6 in (0, 4) else numbers[:0]
        like = len(rest) * 6 + head == len(numbers) and (
            not head or (numbers[0], numbers[2]) == (0x22, 0x10)
        )
        if not like or not (rest[:, [0, 2, 4]] == [0x22, 0x08, 0x10]).all():
            return self._slowly(data, start, facts)
        gaps, frequencies = rest[:, 3], rest[:, 5]
        if head:
            gaps = np.concatenate([[0], gaps])
            frequencies = np.concatenate([[numbers[3]], frequencies])
        return gaps, frequencies

    def _slowly(
        self, data: bytes, start: int, facts: dict[int, Any]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Read postings in any order of fields."""
        found = []
        for number, value in self._fields(data, start):
            if number == 4:
                if not isinstance(value, bytes):
                    raise self._wrong("a posting that is no message")
                one = dict(self._fields(value))
                found.append((self._count(one.get(1, 0)), self._count(one.get(2, 0))))
            else:
                facts[number] = value
        pairs = np.array(found, np.int64).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]

    def ids(self) -> Iterator[tuple[int, str]]:
        """Yield the number and the id of each document, up to the end; after `postings`."""
        for _ in range(self.documents):
            fields = dict(self._fields(self._message()))
            yield self._count(fields.get(1, 0)), self._unicode(fields.get(2, b""))
        try:
            more = self._file.read(1)
        except (OSError, EOFError, zlib.error) as error:
            raise self._wrong(str(error)) from None
        if more:
            raise self._wrong("it goes on after its end")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _decode(data: bytes, at: int) -> tuple[int, int]:
    """Return the number at a place, and the place behind it."""
    found, shift = 0, 0
    while True:
        byte = data[at]
        found |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128 or shift > 63:
            return found, at

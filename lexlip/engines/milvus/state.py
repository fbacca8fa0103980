"""The state of an index: the row with the smallest number, whose addition is a commit.

Milvus has no commits over many rows. So a state says which rows are documents: those up to a
number, without the dead ones, which stand in notes of their own, packed. States and notes have
numbers below 0, each new one the next smaller. Old ones are taken away when a new one is there.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexlip.engines.milvus.documents import CAP, ROW, TEXT, note
from lexlip.engines.milvus.filters import Field
from lexlip.engines.milvus.place import Place, patience
from lexlip.errors import LexLIPError
from lexlip.filters.columns import Kind

FORMAT = "lexlip-milvus/1"
_PACKED = "dead:"
_LONGEST = 60_000
_UNWRITTEN = ("dead", "number", "last")

Rows = NDArray[np.int64]
NO_ROWS: Rows = np.zeros(0, np.int64)


@dataclass(frozen=True)
class State:
    """What a commit says.

    Attributes
    ----------
    owner : str
        The folder that writes the index: a random name that is kept there, too.
    line : str
        The owner of the first of the builds that replaced one another.
    writer : str
        Who opened it last for writing: a random name.
    generation, oldest : int
        The commit, and the first one whose documents are all there.
    rows, reserved : int
        Documents have numbers below `rows`; a writer may be using those below `reserved`.
    documents, postings, bytes : int
        Documents that live; postings and bytes of all that were sent and not dropped.
    columns : mapping of str to Field
    notes : (int, int)
        Numbers of the first note about the dead, and of the one after the last.
    number, last : int
        Of this state: the row -number holds it; and of the last note that a writer left after it.
    dead : int64 [n]
        Numbers of the rows that are dead, ascending.
    """

    owner: str
    line: str = ""
    writer: str = ""
    generation: int = 0
    oldest: int = 0
    rows: int = 0
    reserved: int = 0
    documents: int = 0
    postings: int = 0
    bytes: int = 0
    columns: Mapping[str, Field] = field(default_factory=dict)
    notes: tuple[int, int] = (1, 1)
    number: int = 0
    last: int = 0
    dead: Rows = field(default_factory=lambda: NO_ROWS, compare=False)

    @property
    def kinds(self) -> dict[str, Kind]:
        """Columns and their kinds."""
        return {name: column.kind for name, column in self.columns.items()}


def read_state(client: Any, place: Place, after: int = 0) -> State | None:
    """Read the newest state, or None where there is none with a number over `after`.

    Raises
    ------
    LexLIPError
        When the collection is none of lexlip's, or damaged.
    """
    below = f"{ROW} < {-after}"
    found = client.query(
        place.name, filter=below, output_fields=[ROW, TEXT], limit=CAP, timeout=patience(place)
    )
    texts = {-int(row[ROW]): row[TEXT] for row in found}
    numbers = [number for number, text in texts.items() if not text.startswith(_PACKED)]
    if not numbers:
        if after:
            return None
        raise LexLIPError(f"{place} holds nothing of lexlip: build the index again")
    number = max(numbers)
    try:
        kept = json.loads(texts[number])
        if kept.pop("format") != FORMAT:
            raise LexLIPError(f"{place} was written by another version of lexlip: build it again")
        kept["columns"] = {name: Field(*facts) for name, *facts in kept["columns"]}
        first, end = kept["notes"] = tuple(kept["notes"])
        if after and first <= after:
            return read_state(client, place)
        dead = _unpack([texts[at] for at in range(first, end)])
        return State(**kept, number=number, last=max(texts), dead=dead)
    except (KeyError, TypeError, ValueError, zlib.error):
        raise LexLIPError(f"the state of {place} is damaged: build the index again") from None


def write_state(client: Any, place: Place, state: State, last: State) -> State:
    """Add a state after `last`, take away what is older, and return the state.

    Raises
    ------
    LexLIPError
        When another writer added one meanwhile.
    """
    texts: list[str] = []
    number = start = last.last + 1
    if state.dead is not last.dead:
        texts = _pack(state.dead)
        state = replace(state, notes=(number, number + len(texts)))
        number += len(texts)
    kept = {key: value for key, value in vars(state).items() if key not in _UNWRITTEN}
    kept |= {
        "format": FORMAT,
        "columns": [[name, *column] for name, column in state.columns.items()],
    }
    for at, text in enumerate([*texts, json.dumps(kept, ensure_ascii=False)], start):
        client.insert(place.name, [note(-at, text)], timeout=place.timeout)
    state = replace(state, number=number, last=number)
    newest = read_state(client, place)
    check_writer(newest, state, place)
    first, end = state.notes
    older = f"{ROW} < 0 and {ROW} > {-number} and ({ROW} > {-first} or {ROW} <= {-end})"
    client.delete(place.name, filter=older, timeout=place.timeout)
    return state


def check_writer(newest: State | None, ours: State, place: Place) -> None:
    """Raise when another writer, as of a copy of the folder, has opened the index."""
    if newest is not None and (newest.owner, newest.writer) != (ours.owner, ours.writer):
        raise LexLIPError(f"{place} is open for writing elsewhere: close that, then open it again")


def _pack(rows: Rows) -> list[str]:
    """Return row numbers as texts.

    Examples
    --------
    >>> _unpack(_pack(np.array([3, 5, 70_000]))).tolist()
    [3, 5, 70000]
    """
    if not rows.size:
        return []
    steps = np.diff(rows, prepend=0).astype("<i8").tobytes()
    text = base64.b64encode(zlib.compress(steps)).decode()
    return [_PACKED + text[at : at + _LONGEST] for at in range(0, len(text), _LONGEST)]


def _unpack(texts: list[str]) -> Rows:
    if not texts:
        return NO_ROWS
    packed = "".join(text.removeprefix(_PACKED) for text in texts)
    steps = np.frombuffer(zlib.decompress(base64.b64decode(packed)), "<i8")
    return np.cumsum(steps, dtype=np.int64)

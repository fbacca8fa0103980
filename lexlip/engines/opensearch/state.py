"""The state of an index: one document in it, whose replacement is a commit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from lexlip.engines.opensearch.documents import STATE, STATE_ID
from lexlip.engines.opensearch.place import Place
from lexlip.errors import LexLIPError
from lexlip.filters.columns import Kind

FORMAT = "lexlip-opensearch/1"


@dataclass(frozen=True)
class State:
    """What a commit says.

    Attributes
    ----------
    owner : str
        The folder that writes the index: a random name that is kept there, too.
    writer : str
        Who opened it last for writing: a random name.
    generation, oldest : int
        The commit, and the first one whose documents are all there.
    documents : int
    columns : mapping of str to str
        Columns of metadata and their kinds. The place of a column is its number.
    version : (int, int)
        Of the document in OpenSearch, so that no two writers replace it.
    """

    owner: str
    writer: str = ""
    generation: int = 0
    oldest: int = 0
    documents: int = 0
    columns: Mapping[str, Kind] = field(default_factory=dict)
    version: tuple[int, int] | None = None


def numbered(kinds: Mapping[str, Kind]) -> dict[str, tuple[int, Kind]]:
    """Return the number and the kind of each column."""
    return {name: (number, kind) for number, (name, kind) in enumerate(kinds.items())}


def has_state(client: Any, place: Place) -> bool:
    """Return whether an index has a state."""
    return bool(client.exists(index=place.name, id=STATE_ID))


def read_state(client: Any, place: Place) -> State:
    """Read the newest commit.

    Raises
    ------
    LexLIPError
        When the index is none of lexlip's.
    """
    from opensearchpy.exceptions import NotFoundError

    try:
        found = client.get(index=place.name, id=STATE_ID)
    except NotFoundError as error:
        if isinstance(error.info, dict) and error.info.get("found") is False:
            raise LexLIPError(
                f"{place} holds other documents, none of lexlip: take another name"
            ) from None
        raise
    try:
        kept = dict(found["_source"][STATE])
        if kept.pop("format") != FORMAT:
            raise LexLIPError(f"{place} was written by another version of lexlip: build it again")
        kept["columns"] = {name: kind for name, kind in kept["columns"]}
        return State(**kept, version=(found["_seq_no"], found["_primary_term"]))
    except (KeyError, TypeError, ValueError):
        raise LexLIPError(f"the state of {place} is damaged: build the index again") from None


def write_state(client: Any, place: Place, state: State) -> State:
    """Replace the state that was read, and return the new one.

    Raises
    ------
    LexLIPError
        When another writer replaced it meanwhile.
    """
    from opensearchpy.exceptions import ConflictError

    kept = asdict(state)
    del kept["version"]
    kept |= {"format": FORMAT, "columns": list(map(list, state.columns.items()))}
    only: dict[str, Any] = {"op_type": "create"}
    if state.version is not None:
        only = {"if_seq_no": state.version[0], "if_primary_term": state.version[1]}
    try:
        client.index(index=place.name, id=STATE_ID, body={STATE: kept}, params=only)
    except ConflictError:
        pass  # an earlier try of ours may have arrived, its answer not
    written = read_state(client, place)
    check_writer(written, state, place)
    return written


def check_writer(newest: State, ours: State, place: Place) -> None:
    """Raise when another writer, as of a copy of the folder, has opened the index."""
    if (newest.owner, newest.writer) != (ours.owner, ours.writer):
        raise LexLIPError(f"{place} is open for writing elsewhere: close that, then open it again")

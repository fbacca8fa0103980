"""Documents that an index holds already: unchanged ones, and those with the bytes of a new file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lexlip.data.metadata import modified_of
from lexlip.engines.base import Engine
from lexlip.storage.file_facts import UNKNOWN, FactStore, FileFacts


class Sorted(NamedTuple):
    """Pictures on their way into an index, by what is to be done with them (row numbers).

    Attributes
    ----------
    unchanged : list of int
    alike : list of (int, str)
        With the id of a document of the same bytes: its vectors are taken.
    fresh : list of int
        To be encoded.
    facts : list of FileFacts or None
        Of each picture, hashed where it is not unchanged.
    """

    unchanged: list[int]
    alike: list[tuple[int, str]]
    fresh: list[int]
    facts: list[FileFacts | None]


class Held:
    """What an index holds, for `lexlip.build.encode.encode_pictures`.

    Parameters
    ----------
    engine : Engine
    files : FactStore
    """

    def __init__(self, engine: Engine, files: FactStore) -> None:
        self._engine, self._files = engine, files
        self._sizes: set[int] | None = None

    def metadata(self, ids: Sequence[str]) -> list[Mapping[str, Any]]:
        """Return the metadata of documents, empty where there is none."""
        return [document or {} for document in self._engine.fetch(list(ids))]

    def sort(
        self,
        ids: Sequence[str],
        pictures: Sequence[Any],
        columns: Mapping[str, Sequence[Any]],
        placed: bool,
    ) -> Sorted:
        """Say what is to be done with pictures.

        A picture is unchanged if its metadata are, and its date to the nanosecond where it is
        known. Its bytes are read if its date differs, if it has no date, or if it is new and has
        the size of one that is held.

        Parameters
        ----------
        ids, pictures
            N names and files or bytes.
        columns
            Their metadata, name -> N values.
        placed : bool
            Whether they are of a root of the index.
        """
        held, known = self._engine.fetch(ids), self._files.read(ids)
        found = Sorted([], [], [], [None] * len(ids))
        for row, (picture, old) in enumerate(zip(pictures, held, strict=True)):
            fact = _agreeing(known[row], old)
            plain = FileFacts.of(picture, placed, hashed=False)
            same = old is not None and all(
                old.get(name) == values[row] for name, values in columns.items()
            )
            if plain is None:
                found.fresh.append(row)
            elif same and _same_date(fact, plain):
                found.unchanged.append(row)
                if fact is None or fact.placed != placed:  # of an older lexlip
                    digest = UNKNOWN if fact is None else fact.digest
                    found.facts[row] = plain._replace(digest=digest)
            else:
                self._by_bytes(found, row, picture, fact, same, plain)
        return self._with_twins(found, ids)

    def _by_bytes(
        self,
        found: Sorted,
        row: int,
        picture: Any,
        known: FileFacts | None,
        same: bool,
        plain: FileFacts,
    ) -> None:
        """Hash a picture, and compare it with its own older version."""
        fact = found.facts[row] = FileFacts.of(picture, plain.placed)
        if fact is None or known is None or (fact.size, fact.digest) != (known.size, known.digest):
            found.fresh.append(row)
        elif same:
            found.unchanged.append(row)
        else:
            found.alike.append((row, ""))

    def _with_twins(self, found: Sorted, ids: Sequence[str]) -> Sorted:
        """Find documents of the same bytes among all that are held."""
        alike = [(row, twin or ids[row]) for row, twin in found.alike]
        if self._sizes is None and found.fresh:
            self._sizes = self._files.sizes()
        asked = [
            row for row in found.fresh
            if (fact := found.facts[row]) is not None and fact.size in (self._sizes or ())
        ]  # fmt: skip
        facts = [fact for row in asked if (fact := found.facts[row]) is not None]
        candidates = self._files.alike(facts) if facts else []
        names = list(dict.fromkeys(name for names in candidates for name in names))
        sound = self._sound(names)
        twins = {}
        for row, fact, of in zip(asked, facts, candidates, strict=True):
            for name in of:
                other = sound.get(name)
                if other is not None and (other.size, other.digest) == (fact.size, fact.digest):
                    twins[row] = name
        alike += twins.items()
        fresh = [row for row in found.fresh if row not in twins]
        return Sorted(found.unchanged, sorted(alike), fresh, found.facts)

    def _sound(self, ids: Sequence[str]) -> dict[str, FileFacts]:
        """Return facts of documents as far as the engine agrees with them."""
        if not ids:
            return {}
        pairs = zip(ids, self._files.read(ids), self._engine.fetch(ids), strict=True)
        sound = {name: _agreeing(fact, old) for name, fact, old in pairs}
        return {name: fact for name, fact in sound.items() if fact is not None}


def _agreeing(fact: FileFacts | None, old: Mapping[str, Any] | None) -> FileFacts | None:
    """Return facts where they are of the version that the engine holds, else None.

    They are written before the engine commits, and may be of a version that never was.
    """
    if fact is None or old is None or (old.get("bytes") or 0) != fact.size:
        return None
    date = modified_of(fact.date // 10**9) if fact.date else None
    return fact if old.get("modified") == date else None


def _same_date(known: FileFacts | None, now: FileFacts) -> bool:
    """Say whether a file was not touched; bytes have no date, their hash is compared instead."""
    if known is None or (now.date == 0 and not any(known.digest)):
        return True
    return known.date == now.date and (not any(now.digest) or known.digest == now.digest)

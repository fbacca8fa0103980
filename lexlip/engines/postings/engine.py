"""The postings engine: our own inverted index, in a folder of memory-mapped parts.

A commit writes the new documents as one part and marks those that they replace as dead in older
parts (`lexlip.storage.generations` makes both visible at once). Small parts are merged into the
new one, so that their sizes at least double from one to the next and their number stays
logarithmic: adding ten pictures to a million rewrites a few thousand. A search runs over the parts
one by one and merges their best hits.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lexlip.engines.base import (
    Columns,
    Condition,
    Hit,
    check_conditions,
    check_query,
    check_terms,
)
from lexlip.engines.postings.browsing import Browses
from lexlip.engines.postings.merging import check_read, to_merge
from lexlip.engines.postings.parts import Documents, check_width, write_masks
from lexlip.engines.postings.rows import Rows
from lexlip.engines.postings.snapshot import FORMAT, Snapshot
from lexlip.errors import LexLIPError
from lexlip.filters.columns import Value, merge_kinds
from lexlip.filters.where import Where
from lexlip.storage.blame import blames_damage
from lexlip.storage.generations import GenerationWriter, current_mark, open_current, verify
from lexlip.storage.ids import check_ids, closed, read_only
from lexlip.storage.sound import Sound
from lexlip.storage.vectors import CodedVectors
from lexlip.storage.views import Vectors

_SMALL = 2048
"""Parts up to this many documents are always merged: rewriting them costs less than a flush."""


@blames_damage(
    "verify",
    "search candidates locate contributions ids impacts frequencies fetch ordered counts copy "
    "delete commit compact",
)
class PostingsEngine(Browses):
    """An engine in a folder (`lexlip.engines.base.Engine`) that needs nothing but numpy and numba.

    One engine may write a folder at a time; any number may read it, in any process, each seeing one
    commit until `reopen`. A killed writer loses what was not committed. `search`, `contributions`
    and `fetch` may be called from several threads, also while another one writes.

    Parameters
    ----------
    path
        The folder. None makes a temporary one that goes away with the engine.
    mode
        "w" opens for writing and searching, makes the folder if there is none, and keeps the
        documents that are there. "r" opens for searching only.

    Raises
    ------
    LexLIPError
        When the folder holds no index (mode "r"), something else, or a damaged index; or when
        another writer has it open (mode "w").

    Examples
    --------
    >>> engine = PostingsEngine()
    >>> engine.add(["b.jpg", "a.jpg"], csr_array([[0, 200], [100, 0]]), {"year": [2020, 2024]})
    >>> engine.commit()
    >>> engine.search({0: 2, 1: 1}, k=5)
    [Hit(id='a.jpg', score=200), Hit(id='b.jpg', score=200)]
    >>> engine.search({0: 2, 1: 1}, k=5, where=Where.parse("year < 2022"))
    [Hit(id='b.jpg', score=200)]
    >>> engine.close()
    """

    keeps_vectors = True

    def __init__(
        self, path: str | os.PathLike[str] | None = None, mode: Literal["w", "r"] = "w"
    ) -> None:
        if mode not in ("w", "r"):
            raise LexLIPError(f"mode is {mode!r}: use 'w' or 'r'")
        self._temporary = tempfile.TemporaryDirectory(prefix="lexlip-") if path is None else None
        self.path = Path(self._temporary.name if self._temporary else path or "").absolute()
        self._lock = threading.RLock()
        self._writer: GenerationWriter | None = None
        self._sound = Sound()
        self._snapshot: Snapshot | None = None
        self._forget()
        if mode == "w":
            self._writer = GenerationWriter(self.path)
        try:
            self._load()
        except BaseException:
            self.close()
            raise

    def _forget(self) -> None:
        """Start with no uncommitted changes."""
        self._blocks: list[Documents] = []
        # id -> (block, row), or None where it was deleted
        self._changes: dict[bytes, tuple[int, int] | None] = {}

    def _load(self) -> None:
        self._snapshot = open_current(self.path, Snapshot)
        self._kinds = dict(self._snapshot.kinds)

    def _current(self) -> Snapshot:
        snapshot = self._snapshot
        if snapshot is None:
            raise closed(str(self.path))
        return snapshot

    def _writable(self) -> GenerationWriter:
        self._current()
        if self._writer is None:
            raise read_only(self.path)
        return self._writer

    def add(
        self,
        ids: Sequence[str],
        impacts: csr_array,
        columns: Mapping[str, Sequence[Any]] | None = None,
        vectors: Vectors | None = None,
    ) -> None:
        """Add documents, replacing those with the same id; see `Engine.add`."""
        self._writable()
        coded = None if vectors is None else CodedVectors.encode(vectors)
        self._put(Documents.of(ids, impacts, columns, coded))

    def copy(self, of: Sequence[str], ids: Sequence[str], columns: Columns = None) -> None:
        """Add documents with the impacts and vectors of others; see `Engine.copy`."""
        self._writable()
        snapshot, names = self._current(), [name.encode() for name in check_ids(of)]
        self._sound.check(snapshot.generation, [p.name for p, it in snapshot.find(names) if it])
        impacts, coded = snapshot.taken(names)
        self._put(Documents.of(ids, impacts, columns, coded))

    def _put(self, added: Documents) -> None:
        with self._lock:
            kept = [block.vectors for block in self._blocks]
            kept += [part.vectors for part in self._current().parts if part.living]
            check_width(self.path, kept, added.vectors)
            self._kinds = merge_kinds(self._kinds, added.columns)
            places = ((len(self._blocks), row) for row in range(len(added.names)))
            self._changes.update(zip(added.names, places, strict=True))
            self._blocks.append(added)

    def delete(self, ids: Iterable[str]) -> int:
        """Delete by id and return how many were there; see `Engine.delete`."""
        self._writable()
        names = {name.encode() for name in check_ids(ids)}
        with self._lock:
            known = names & self._changes.keys()
            found = {name for name in known if self._changes[name] is not None}
            for _, rows in self._current().find(names - known):
                found |= rows.keys()
            self._changes.update(dict.fromkeys(found))
            return len(found)

    def commit(self, user_data: Mapping[str, str] | None = None) -> None:
        """Make all changes durable and visible; see `Engine.commit`.

        Parameters
        ----------
        user_data
            A few strings kept with this commit, in place of the earlier ones; None keeps those.

        Raises
        ------
        LexLIPError
            When writing fails, as on a full disk. The last commit stays, and the changes are kept
            for another try.
        """
        self._commit(False, user_data)

    def compact(self) -> None:
        """Commit, and merge everything into one part without dead documents."""
        self._commit(True, None)

    def _commit(self, everything: bool, user_data: Mapping[str, str] | None) -> None:
        with self._lock:
            writer = self._writable()
            if self._current().generation.mark != writer.current.mark:
                self._load()  # an earlier commit came through although it raised
            snapshot = self._current()
            strings = snapshot.generation.data.get("user_data", {})
            wanted = strings if user_data is None else dict(user_data)
            whole = len(snapshot.parts) < 2 and all(part.alive is None for part in snapshot.parts)
            if not self._changes and wanted == strings and (whole or not everything):
                return
            try:
                parts, used = self._write_parts(writer, snapshot, everything)
                data = {"format": FORMAT, "parts": parts, "user_data": wanted}
                writer.publish(used, data)
            except OSError as error:
                reason = error.strerror or f"{error}: is the disk full?"  # numpy's own message
                raise LexLIPError(
                    f"{self.path} keeps its last commit, this one failed: {reason}"
                ) from None
            finally:
                writer.discard()
            self._forget()
            self._load()

    def _write_parts(
        self, writer: GenerationWriter, snapshot: Snapshot, everything: bool
    ) -> tuple[dict[str, str | None], set[str]]:
        """Write what a commit needs.

        Returns
        -------
        parts : dict
            Part -> the part that holds its mask, or None.
        used : set of str
            All of these.
        """
        alive = {part: part.dead(rows.values()) for part, rows in snapshot.find(self._changes)}
        living = {
            part: part.living if mask is part.alive or mask is None else int(mask.sum())
            for part, mask in alive.items()
        }
        added = self._added()
        merged = to_merge(living, len(added.names) if added else 0, everything, _SMALL)
        check_read(snapshot, merged, alive)
        blocks = [part.documents(alive[part]) for part in merged if living[part]]
        if added:
            blocks.append(added)
        parts: dict[str, str | None] = {}
        masks: dict[str, NDArray[np.uint8]] = {}
        for part, mask in alive.items():
            if part not in merged:
                parts[part.name] = snapshot.generation.data["parts"][part.name]
                if mask is not None and mask is not part.alive:
                    masks[part.name] = mask
        if blocks:
            folder = writer.new_part()
            Documents.sorted_together(blocks).write(folder)
            parts[folder.name] = None
        if masks:
            folder = writer.new_part()
            write_masks(folder, masks)
            parts.update(dict.fromkeys(masks, folder.name))
        return parts, {*parts, *(name for name in parts.values() if name)}

    def _added(self) -> Documents | None:
        """Return the uncommitted documents, the last one of each id."""
        rows: list[list[int]] = [[] for _ in self._blocks]
        for place in self._changes.values():
            if place is not None:
                rows[place[0]].append(place[1])
        kept = [
            block.take(np.array(chosen, dtype=np.int64))
            for block, chosen in zip(self._blocks, rows, strict=True)
            if chosen
        ]
        return Documents.sorted_together(kept) if kept else None

    def search(
        self,
        terms: Mapping[int, int],
        k: int,
        where: Where | None = None,
        conditions: Sequence[Condition] = (),
        among: Sequence[str] | None = None,
    ) -> list[Hit]:
        """Return the best `k` hits, exactly; see `Engine.search`."""
        return self._find(terms, k, where, conditions, among).hits()

    def candidates(
        self,
        terms: Mapping[int, int],
        k: int,
        where: Where | None = None,
        conditions: Sequence[Condition] = (),
    ) -> Rows:
        """Return the best `k` documents as arrays; see `Engine.candidates`."""
        return self._find(terms, k, where, conditions, None)

    def _find(
        self,
        terms: Mapping[int, int],
        k: int,
        where: Where | None,
        conditions: Sequence[Condition],
        among: Sequence[str] | None,
    ) -> Rows:
        query, k = check_query(terms, k)
        snapshot = self._current()
        masks = snapshot.masks(where, check_conditions(conditions) if conditions else ())
        if among is not None:
            masks = snapshot.among(among, masks)
        found = [
            (part, *part.segment.search(query, k, mask))
            for part, mask in zip(snapshot.parts, masks, strict=True)
        ]
        return Rows(found).cut(k)

    def locate(self, hits: Sequence[Hit]) -> Rows:
        """Return hits as rows; see `Engine.locate`."""
        scores = {hit.id.encode(): hit.score for hit in hits}
        found = []
        for part, rows in self._current().find(scores):
            numbers = np.fromiter(rows.values(), np.int32, len(rows))
            found.append((part, numbers, np.array([scores[name] for name in rows], np.int64)))
        return Rows(found, ordered=False)

    def contributions(self, id: str, terms: Iterable[int]) -> dict[int, int]:
        """Return {term: impact} of a document's terms; see `Engine.contributions`."""
        numbers = check_terms(terms)
        for part, rows in self._current().find([name.encode() for name in check_ids([id])]):
            for row in rows.values():
                return part.segment.contributions(row, numbers)
        raise LexLIPError(f"no document {id!r} in {self.path}: check the id")

    def ids(self) -> list[str]:
        """Return the ids of all documents; see `Engine.ids`."""
        return [name.decode() for part in self._current().parts for name in part.alive_ids()]

    def impacts(self, ids: Sequence[str]) -> csr_array:
        """Return all impacts of documents; see `Engine.impacts`."""
        names = [name.encode() for name in check_ids(ids)]
        return self._current().taken(names)[0]

    def frequencies(self, terms: Iterable[int]) -> dict[int, int]:
        """Return {term: how many documents have it}; see `Engine.frequencies`."""
        return self._current().frequencies(check_terms(terms))

    def fetch(self, ids: Sequence[str]) -> list[dict[str, Value] | None]:
        """Return the metadata of documents; see `Engine.fetch`."""
        names = [name.encode() for name in check_ids(ids)]
        snapshot = self._current()
        found: dict[bytes, dict[str, Value]] = {}
        for part, rows in snapshot.find(names):
            metadata = part.metadata(list(rows.values()), snapshot.kinds)
            found.update(zip(rows, metadata, strict=True))
        return [dict(found[name]) if name in found else None for name in names]

    @property
    def user_data(self) -> dict[str, str]:
        """The strings of the last `commit(user_data)`."""
        return dict(self._current().generation.data.get("user_data", {}))

    @property
    def generation(self) -> int:
        """The number of the commit that is shown."""
        return self._current().generation.number

    def stale(self) -> bool:
        """Say whether there is a newer commit; see `Engine.stale`."""
        return self._current().generation.mark != current_mark(self.path)

    def reopen(self) -> bool:
        """Go on to the newest commit; see `Engine.reopen`."""
        with self._lock:
            if not self.stale():
                return False
            self._load()
            return True

    def __len__(self) -> int:
        """Return the number of committed documents."""
        return self._current().living

    def stats(self) -> dict[str, int]:
        """Return `documents`, `postings`, `bytes` on disk, `vector_bytes` of these and `segments`.

        Postings of dead documents count until their part is merged (`compact` does).
        """
        snapshot = self._current()
        return {
            "documents": snapshot.living,
            "postings": sum(part.segment.postings for part in snapshot.parts),
            "bytes": snapshot.generation.bytes,
            "vector_bytes": sum(part.vectors.bytes for part in snapshot.parts if part.vectors),
            "segments": len(snapshot.parts),
        }

    def verify(self) -> list[str]:
        """Compare every file with its recorded SHA-256; see `Engine.verify`."""
        self._current()
        return verify(self.path, Snapshot)

    def close(self) -> None:
        """Let go of the files; what was not committed is lost. Closing twice is fine."""
        with self._lock:
            self._snapshot = None
            self._forget()
            if self._writer is not None:
                self._writer.close()
                self._writer = None
            if self._temporary is not None:
                self._temporary.cleanup()
                self._temporary = None

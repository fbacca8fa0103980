"""The float vectors behind the impacts: kept beside an index to rescore its best hits exactly.

An engine ranks by whole numbers: impacts 1..255, query weights 1..64. Here lie, by id, the vectors
as they were before they were quantised. They are made durable before the engine commits, so after
a kill the two may disagree about a document. `rescore_hits` notices: the right vector, quantised,
gives the very score that the engine found. For any other the impacts stand in; and one that gives
the same score by chance is off by no more than the rounding of its impacts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lexlip.engines.base import Engine, Hit, check_ids, closed, read_only
from lexlip.engines.parts import Strings
from lexlip.errors import LexLIPError
from lexlip.generations import Generation, GenerationWriter, current_mark, open_current, verify
from lexlip.impacts import MAX_QUERY_TERMS, quantise

FORMAT = "lexlip-floats-1"
_SMALL = 2048
"""Parts up to this many vectors are always merged, as in the postings engine."""

_ARRAYS = ("starts", "terms", "weights")


class _Part:
    """Some vectors, memory-mapped, sorted by id."""

    def __init__(self, folder: Path) -> None:
        self.name = folder.name
        try:
            self.ids = Strings(folder, "ids")
            self.starts, self.terms, self.weights = (
                np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False).view(np.ndarray)
                for name in _ARRAYS
            )
            sizes = {self.terms.size, self.weights.size, int(self.starts[-1])}
            if self.starts.size != len(self.ids) + 1 or len(sizes) != 1:
                raise ValueError("ids, terms and weights differ in length")
        except (ValueError, IndexError, EOFError) as error:
            raise LexLIPError(f"{folder} is damaged ({error}): build the index anew") from None

    @staticmethod
    def write(folder: Path, places: Mapping[bytes, tuple[_Part | _Rows, int]]) -> None:
        """Write the vectors at these places, by id."""
        names = sorted(places)
        starts, terms, weights = _gather([places[name] for name in names])
        terms = terms.astype(np.uint16 if terms.max(initial=0) < 2**16 else np.int32)
        Strings.write(folder, "ids", names)
        for name, array in zip(_ARRAYS, (starts, terms, weights), strict=True):
            np.save(folder / f"{name}.npy", array, allow_pickle=False)


class _Rows:
    """Vectors in memory, on their way into a part."""

    def __init__(self, rows: csr_array) -> None:
        self.starts, self.terms, self.weights = rows.indptr, rows.indices, rows.data


def _gather(places: Sequence[tuple[_Part | _Rows, int] | None]) -> tuple[NDArray, NDArray, NDArray]:
    """Return starts, terms and weights of the vectors at these places; None is an empty one."""
    starts = np.zeros(len(places) + 1, dtype=np.int64)
    terms, weights = [np.empty(0, np.int32)], [np.empty(0, np.float32)]
    for number, place in enumerate(places):
        if place is not None:
            part, row = place
            span = slice(int(part.starts[row]), int(part.starts[row + 1]))
            terms.append(part.terms[span])
            weights.append(part.weights[span].astype(np.float32))
            starts[number + 1] = span.stop - span.start
    return np.cumsum(starts), np.concatenate(terms), np.concatenate(weights)


class _Snapshot:
    """One generation, open."""

    def __init__(self, generation: Generation) -> None:
        data = generation.data
        if generation.number > 1 and data.get("format") != FORMAT:
            raise LexLIPError(f"{generation.folder} holds no float vectors ({FORMAT}): build anew")
        self.generation = generation
        self.width: int = data.get("width", 0)
        # Oldest first; each is larger than those after it.
        self.parts = [_Part(generation.folder / name) for name in data.get("parts", [])]


class FloatVectors:
    """Sparse float32 vectors by id, in a folder of memory-mapped parts.

    One process may write, any number may read, each seeing one state until `reopen`.

    Parameters
    ----------
    path : path
        The folder.
    mode : {"r", "w"}
        "w" makes the folder if there is none.

    Raises
    ------
    LexLIPError
        The folder is missing (mode "r"), damaged, or open for writing elsewhere (mode "w").

    Examples
    --------
    >>> import tempfile
    >>> vectors = FloatVectors(tempfile.mkdtemp(), "w")
    >>> vectors.write(["b", "a"], csr_array([[0.5, 0.75, 0], [0, 0, 1.0]]))
    >>> vectors.read(["a", "nobody", "b"]).toarray().tolist()
    [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.5, 0.75, 0.0]]
    >>> vectors.close()
    """

    def __init__(self, path: str | os.PathLike[str], mode: Literal["r", "w"] = "r") -> None:
        self.path = Path(path)
        self._snapshot: _Snapshot | None = None
        self._writer = GenerationWriter(self.path) if mode == "w" else None
        try:
            self._snapshot = open_current(self.path, _Snapshot)
        except BaseException:
            self.close()
            raise

    def _current(self) -> _Snapshot:
        snapshot = self._snapshot
        if snapshot is None:
            raise closed(str(self.path))
        return snapshot

    def write(self, ids: Sequence[str], vectors: csr_array) -> None:
        """Store vectors in the place of those with the same ids; durable on return.

        Parameters
        ----------
        ids
            N names.
        vectors
            [N, V], stored as float32.

        Raises
        ------
        LexLIPError
            When the numbers differ, or writing fails, as on a full disk: then all is as it was.
        """
        rows = _Rows(csr_array(vectors))
        names = [name.encode() for name in check_ids(ids)]
        if len(names) != vectors.shape[0]:
            raise LexLIPError(f"{len(names)} ids but {vectors.shape[0]} vectors: one row an id")
        added = {name: (rows, row) for row, name in enumerate(names)}
        kept = list(self._current().parts)
        merged: list[_Part] = []
        size = len(added)
        while kept and len(kept[-1].ids) <= max(size, _SMALL):
            merged.insert(0, kept.pop())
            size += len(merged[0].ids)
        self._publish(kept, merged, added, vectors.shape[1])

    def keep(self, there: Callable[[Sequence[str]], Sequence[object | None]]) -> None:
        """Merge everything, and drop the vectors whose ids `there` answers with None."""
        parts = self._current().parts
        gone: set[bytes] = set()
        for part in parts:
            for start in range(0, len(part.ids), 1024):
                some = part.ids.take(np.arange(start, min(start + 1024, len(part.ids))))
                answers = there([name.decode() for name in some])
                gone |= {name for name, it in zip(some, answers, strict=True) if it is None}
        if gone or len(parts) > 1:
            self._publish([], parts, {}, self._current().width, gone)

    def _publish(
        self,
        kept: Sequence[_Part],
        merged: Sequence[_Part],
        added: Mapping[bytes, tuple[_Rows, int]],
        width: int,
        gone: Iterable[bytes] = (),
    ) -> None:
        writer = self._writer
        if writer is None:
            raise read_only(self.path)
        places: dict[bytes, tuple[_Part | _Rows, int]] = {}
        for part in merged:  # the newest of an id comes last
            names = part.ids.take(np.arange(len(part.ids)))
            places.update((name, (part, row)) for row, name in enumerate(names))
        places.update(added)
        for name in gone:
            places.pop(name, None)
        parts = [part.name for part in kept]
        try:
            if places:
                folder = writer.new_part()
                _Part.write(folder, places)
                parts.append(folder.name)
            data = {"format": FORMAT, "parts": parts, "width": max(width, self._current().width)}
            writer.publish(parts, data)
        except OSError as error:
            reason = error.strerror or f"{error}: is the disk full?"
            raise LexLIPError(f"{self.path} keeps what it had, writing failed: {reason}") from None
        finally:
            writer.discard()
        self._snapshot = open_current(self.path, _Snapshot)

    def read(self, ids: Sequence[str]) -> csr_array:
        """Return the vectors of N different ids, float32 [N, V]; an unknown id has an empty row."""
        snapshot = self._current()
        wanted = {name.encode(): row for row, name in enumerate(ids)}
        places: list[tuple[_Part | _Rows, int] | None] = [None] * len(ids)
        for part in reversed(snapshot.parts):
            for name, row in part.ids.find(wanted.keys()).items():
                places[wanted.pop(name)] = (part, row)
        starts, terms, weights = _gather(places)
        return csr_array((weights, terms, starts), shape=(len(ids), snapshot.width))

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return self._current().generation.bytes

    def verify(self) -> list[str]:
        """Compare every file with its recorded SHA-256; one line for each that is damaged."""
        self._current()
        return verify(self.path)

    def reopen(self) -> bool:
        """Go on to the newest state; True when there is a newer one."""
        if self._current().generation.mark == current_mark(self.path):
            return False
        self._snapshot = open_current(self.path, _Snapshot)
        return True

    def close(self) -> None:
        """Let go of the files. Closing twice is fine."""
        self._snapshot = None
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def rescore_hits(
    hits: Sequence[Hit],
    terms: Mapping[int, int],
    query: Mapping[int, float],
    vectors: FloatVectors | None,
    scale: float,
    engine: Engine,
) -> list[Hit]:
    """Order hits by the cosine of the query and the documents as they were before quantising.

    Parameters
    ----------
    hits
        What an engine found, with the engine's scores.
    terms
        What the engine was asked: {term id: weight 1..64}.
    query
        The same query before it was quantised and cut: {term id: weight}, of any length.
    vectors
        Vectors of unit length, by id.
    scale
        Impacts per unit of weight, of the whole index.
    engine
        What found them: asked for the impacts of documents whose vector is missing, or is not the
        one that the engine holds. Impact over scale then stands for the weight.

    Returns
    -------
    list of Hit
        The same ids with their cosine, largest first, then by id.

    Raises
    ------
    LexLIPError
        When there are no vectors.
    """
    if vectors is None:
        raise LexLIPError(
            "this index keeps no float vectors to rescore with: build it with keep_floats=True "
            "(lexlip index --keep-floats --replace)"
        )
    rows = vectors.read([hit.id for hit in hits])
    weights, asked = np.zeros(rows.shape[1]), np.zeros(rows.shape[1], dtype=np.int64)
    norm = float(np.sqrt(sum(weight**2 for weight in query.values())))
    for term, weight in query.items():
        if term < weights.size:
            weights[term] = weight / norm
    for term, number in terms.items():
        if term < asked.size:
            asked[term] = number
    right = (quantise(rows, scale) @ asked) == np.array([hit.score for hit in hits])
    cosines = rows.astype(np.float64) @ weights
    found = []
    for hit, whole, cosine in zip(hits, right.tolist(), cosines.tolist(), strict=True):
        if not whole:
            cosine = _by_impacts(query, engine, hit.id) / (norm * scale)
        found.append(Hit(hit.id, cosine))
    return sorted(found, key=lambda hit: (-hit.score, hit.id))


def _by_impacts(query: Mapping[int, float], engine: Engine, id: str) -> float:
    """Return the product of a query and the impacts of one document."""
    terms, total = list(query), 0.0
    for start in range(0, len(terms), MAX_QUERY_TERMS):
        held = engine.contributions(id, terms[start : start + MAX_QUERY_TERMS])
        total += sum(query[term] * impact for term, impact in held.items())
    return total

"""One commit of the postings engine, open: its parts, and which documents a search may find."""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

from lexlip.engines.base import Condition
from lexlip.engines.postings.parts import Part, read_mask
from lexlip.errors import LexLIPError
from lexlip.filters.columns import Kind, merge_kinds
from lexlip.filters.where import Where
from lexlip.storage.generations import Generation
from lexlip.storage.ids import check_ids
from lexlip.storage.vectors import CodedVectors

FORMAT, OLDER = "lexlip-postings-2", "lexlip-postings-1"
_Filter = tuple[Where | None, tuple[Condition, ...]]
_FILTERS = 8
"""Filters whose masks are kept, one byte a document each."""


class Snapshot:
    """One generation, open: what a search sees from its start to its end."""

    def __init__(self, generation: Generation) -> None:
        found = generation.data.get("format", FORMAT if generation.number == 1 else None)
        if found == OLDER:
            raise LexLIPError(
                f"{generation.folder} has format {OLDER}, this lexlip reads {FORMAT}: convert it "
                "with lexlip upgrade INDEX; nothing is encoded again"
            )
        if found != FORMAT:
            raise LexLIPError(f"{generation.folder} is no postings index ({FORMAT}): build it anew")
        folder, self.generation = generation.folder, generation
        self.parts: list[Part] = []
        self.kinds: dict[str, Kind] = {}
        named = generation.data.get("parts", {})
        if not isinstance(named, dict):
            raise LexLIPError(f"{generation.folder} names no parts: build the index anew")
        generation.named([*named, *(name for name in named.values() if name is not None)])
        for name, masks in named.items():
            bits = read_mask(folder / masks, name) if masks else None
            self.parts.append(Part(folder / name, bits))
            self.kinds = merge_kinds(self.kinds, self.parts[-1].columns)
        self.living = sum(part.living for part in self.parts)
        self._filters: OrderedDict[_Filter, list[NDArray[np.uint8]]] = OrderedDict()
        self._frequencies: dict[int, int] = {}  # counting may cost more than a search
        self._lock = threading.Lock()

    def frequencies(self, terms: Iterable[int]) -> dict[int, int]:
        """Return how many documents have each term, dead ones included."""
        wanted = list(terms)
        if new := [term for term in wanted if term not in self._frequencies]:
            counts = np.zeros(len(new), np.int64)
            for part in self.parts:
                counts += part.segment.frequencies(new)
            self._frequencies.update(zip(new, counts.tolist(), strict=True))
        return {term: self._frequencies[term] for term in wanted}

    def find(self, names: Iterable[bytes]) -> Iterator[tuple[Part, dict[bytes, int]]]:
        """Yield the parts and what each has alive of these ids."""
        wanted = set(names)
        for part in self.parts:
            found = part.find(wanted) if wanted else {}
            wanted -= found.keys()
            yield part, found

    def taken(self, names: Sequence[bytes]) -> tuple[csr_array, CodedVectors | None]:
        """Return all impacts of documents, in the order of the ids, int32 [N, V], and vectors."""
        rows, coded, where = [], [], dict[bytes, int]()
        for part, found in self.find(names):
            if found:
                where |= dict(zip(found, range(len(where), len(where) + len(found)), strict=True))
                numbers = np.fromiter(found.values(), np.int64)
                rows.append(part.segment.some_impacts(numbers.tolist()))
                coded += [] if part.vectors is None else [part.vectors.take(numbers)]
        if missing := [name for name in names if name not in where]:
            folder = self.generation.folder
            raise LexLIPError(f"no document {missing[0].decode()!r} in {folder}: check the id")
        if not rows:
            return csr_array((0, 0), dtype=np.int32), None
        width = max(part.shape[1] for part in rows)
        for part in rows:
            part.resize((part.shape[0], width))
        order = np.array([where[name] for name in names], np.int64)
        vectors = CodedVectors.concat(coded).take(order) if coded else None
        return csr_array(vstack(rows, format="csr"))[order], vectors

    def masks(
        self, where: Where | None, conditions: tuple[Condition, ...] = ()
    ) -> Sequence[NDArray[np.uint8] | None]:
        """Return which documents of each part may be found, None for all of them."""
        if where is None and not conditions:
            return [part.alive for part in self.parts]
        wanted = (where, conditions)
        with self._lock:
            if wanted in self._filters:
                self._filters.move_to_end(wanted)
                return self._filters[wanted]
        masks = self._narrowed(where, conditions)
        with self._lock:
            self._filters[wanted] = masks
            if len(self._filters) > _FILTERS:
                self._filters.popitem(last=False)
        return masks

    def _narrowed(
        self, where: Where | None, conditions: tuple[Condition, ...]
    ) -> list[NDArray[np.uint8]]:
        if where is not None:
            where.check(self.kinds)
        masks = []
        for part in self.parts:
            kept = [part.fulfils(condition) for condition in conditions]
            if where is not None:
                columns = {name: part.column(name, self.kinds[name]) for name in where.columns}
                kept.append(where.mask(columns).view(np.uint8))
            if part.alive is not None:
                kept.append(part.alive)
            masks.append(functools.reduce(np.bitwise_and, kept))
        return masks

    def among(
        self, ids: Sequence[str], masks: Sequence[NDArray[np.uint8] | None]
    ) -> list[NDArray[np.uint8]]:
        """Narrow masks down to the documents with these ids."""
        narrowed = []
        found = self.find([name.encode() for name in check_ids(ids)])
        for (part, rows), mask in zip(found, masks, strict=True):
            chosen = np.fromiter(rows.values(), dtype=np.int64)
            narrowed.append(np.zeros(len(part.ids), np.uint8))
            narrowed[-1][chosen] = 1 if mask is None else mask[chosen]
        return narrowed

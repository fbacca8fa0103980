"""Intake: the way of a source into an index that is open for writing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from lexlip.build.encode import CHUNK, Chunk, Later, as_source, check_excluding, chunks
from lexlip.build.held import Held
from lexlip.build.manifest import check_levels, has_own_words
from lexlip.build.recipe import Recipe
from lexlip.build.side_stores import SideStores
from lexlip.build.sources import AnySource
from lexlip.build.tables import Names, Texts
from lexlip.build.write import Added, note_skipped, write_chunks
from lexlip.data.collection import Collection
from lexlip.data.roots import Settled, Sources
from lexlip.engines import Engine
from lexlip.errors import LexLIPError
from lexlip.filters.columns import nfc
from lexlip.models.word_list import NO_PICTURES
from lexlip.storage.file_facts import FactStore
from lexlip.storage.ids import check_ids, read_only

_PART = 4096


def first_source(
    source: AnySource, split: str | None, exclude: Sequence[str], names: Names
) -> tuple[Sources, Settled]:
    """Read the source of a new index: its root, and its documents."""
    documents = as_source(source, split, exclude, names)
    check_excluding(documents, exclude)
    return Sources(exclude=tuple(exclude)).settle(documents, lambda ids: [None for _ in ids])


@dataclass(frozen=True)
class Intake:
    """An index, as documents go into it.

    Attributes
    ----------
    path : Path
    manifest : mapping
    engine : Engine
    side_stores : SideStores
        Both open for writing.
    model : Later
    """

    path: Path
    manifest: Mapping[str, Any]
    engine: Engine
    side_stores: SideStores
    model: Later

    def add(
        self,
        source: AnySource,
        split: str | None,
        force: bool,
        prune: bool,
        exclude: Sequence[str],
        names: Names,
    ) -> Added:
        """Encode what is new or has changed; see `lexlip.Index.add`."""
        sources, settled = self._settle(source, split, exclude, names)
        if prune and settled.scope is None:
            raise LexLIPError("prune goes with a whole folder or table: leave out --prune")
        held = None if force else Held(self.engine, self._files)
        self._remember(sources)
        done = self.write(self._chunks(settled.documents, held)) + self.say(settled)
        gone = self._gone(sources, settled)
        pruned = self.delete(gone) if prune and gone else 0
        return dataclasses.replace(done, gone=tuple(gone), pruned=pruned)

    def update(self, source: AnySource, split: str | None, names: Names) -> Added:
        """Encode documents again that are there; see `lexlip.Index.update`."""
        sources, settled = self._settle(source, split, (), names)
        documents = settled.documents
        ids = documents.ids if isinstance(documents, Collection) else list(documents)
        parts = [ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK)]
        held = chain.from_iterable(map(self.engine.fetch, parts))
        if new := [name for name, it in zip(ids, held, strict=True) if it is None]:
            raise LexLIPError(
                f"{len(new)} of {len(ids)} documents are not in {self.path} ({new[0]!r}, ...): "
                "add them with add"
            )
        self._remember(sources)
        return self.write(self._chunks(documents, None)) + self.say(settled)

    def delete(self, ids: Iterable[str]) -> int:
        """Delete documents by id, in any Unicode form, and return how many were there."""
        count = self.engine.delete(known_ids(self.engine, ids))
        self.engine.commit()
        return count

    def write(self, coming: Iterable[Chunk]) -> Added:
        """Write chunks, with a commit after each."""
        return write_chunks(self.path, self.manifest, self.engine, self.side_stores, coming)

    def say(self, settled: Settled) -> Added:
        """Return what was left out of a source, and note the pictures that were."""
        documents = settled.documents
        said = list(settled.notes)
        if isinstance(documents, Collection):
            said += documents.left_out.lines(documents.source)
        elif isinstance(documents, Texts):
            said += documents.left_out.notes
        note_skipped(self.path, settled.skipped)
        return Added(skipped=settled.skipped, said=tuple(said))

    def _chunks(self, documents: Any, held: Held | None) -> Iterator[Chunk]:
        # Checked when the model is loaded: nothing may have to be encoded.
        model = Later(lambda: check_levels(self.path, self.manifest, self.model.load()))
        return chunks(model, documents, held, Recipe.of(self.manifest))

    def _settle(
        self, source: AnySource, split: str | None, exclude: Sequence[str], names: Names
    ) -> tuple[Sources, Settled]:
        """Read a source, and give its pictures the ids that they have here."""
        wanted = Sources.read(self.path, self.manifest).excluding(exclude)
        documents = as_source(source, split, wanted.exclude, names)
        if isinstance(documents, Collection) and has_own_words(self.manifest):
            raise LexLIPError(NO_PICTURES)
        check_excluding(documents, exclude)
        return wanted.settle(documents, self.engine.fetch)

    def _remember(self, sources: Sources) -> None:
        if sources != Sources.read(self.path, self.manifest):
            sources.write(self.path)

    @property
    def _files(self) -> FactStore:
        files = self.side_stores.files
        if files is None:
            raise read_only(self.path)
        return files

    def _gone(self, sources: Sources, settled: Settled) -> list[str]:
        """Return the ids of a folder or table that were not found in it.

        Pictures that a program gave or that were posted are none of these, nor is what lies in a
        folder that could not be opened.
        """
        if settled.scope is None:
            return []
        there, kept = set(settled.documents.ids), []
        missing = [
            name for name in self.engine.ids()
            if name not in there and settled.covers(name) and sources.root_of(name) == settled.root
        ]  # fmt: skip
        for start in range(0, len(missing), _PART):
            names = missing[start : start + _PART]
            known = zip(names, self._files.read(names), self.engine.fetch(names), strict=True)
            for name, fact, old in known:
                # An index of an older lexlip has no facts: its pictures of files have a date.
                if fact.placed if fact is not None else old is not None and "modified" in old:
                    kept.append(name)
        return sorted(kept)


def known_ids(engine: Engine, ids: Iterable[str]) -> list[str]:
    """Return ids in the form that an engine has them in: as given, or composed."""
    names = check_ids(ids)
    held = [it is not None for it in engine.fetch(names)] if names else []
    return [name if there else nfc(name) for name, there in zip(names, held, strict=True)]

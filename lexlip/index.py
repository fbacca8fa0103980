"""The index of pictures: their impacts in an engine, and a manifest that names the model."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lexlip.build.documents import HoldsDocuments
from lexlip.build.encode import Later, check_heads, chunks
from lexlip.build.encoded_parts import Encoded
from lexlip.build.explains import Explains
from lexlip.build.facts import damaged_facts
from lexlip.build.identity import mark, unmixed
from lexlip.build.intake import Intake, first_source
from lexlip.build.manifest import check_model, checkpoint_of, origin, read_manifest
from lexlip.build.recipe import Recipe
from lexlip.build.reopening import Reopens
from lexlip.build.searching import Searches
from lexlip.build.side_stores import SideStores
from lexlip.build.sources import AnySource
from lexlip.build.tables import Names
from lexlip.build.write import (
    ENGINE,
    Added,
    begin,
    build_from,
    check_new,
    check_skipped,
    index_folder,
)
from lexlip.engines import Engine, open_engine
from lexlip.engines.builds import where
from lexlip.impacts import MAX_QUERY_WEIGHT
from lexlip.query.prepared import PreparedQuery
from lexlip.query.query import AnyQuery, prepare
from lexlip.rerank.many import SearchesMany
from lexlip.storage.blame import blames_damage
from lexlip.storage.folder_lock import patiently

if TYPE_CHECKING:
    from lexlip.models.speaker import Speaker
    from lexlip.rerank.stage import SecondStage


@blames_damage(
    "check",
    "search search_many explain explain_all account rerank add update delete compact stats "
    "metadata words_of impacts facets",
)
class Index(HoldsDocuments, Reopens, Explains, Searches, SearchesMany):
    """Pictures (or texts) that can be searched with words, pictures or weighted words.

    An index holds its engine's last commit: a killed writer loses the documents since
    then, readers see one commit until `reopen`, and one process at a time may write.

    Attributes
    ----------
    path : Path
    manifest : dict
        Facts fixed by `create`: model, vocabulary, scale, term budget, engine.
    skipped : tuple of (str, str)
        After `create`: ids of the pictures that could not be read, and why.
    said : tuple of str
        After `create`: what was left out, a line each.

    Examples
    --------
    >>> index = Index.create("photos.lex", model, "photos/")       # doctest: +SKIP
    >>> index.search("a dog on a beach", k=3, where="modified >= '2024'")  # doctest: +SKIP
    [Hit(id='a.jpg', score=20810), ...]
    >>> index.explain("a.jpg", "a dog on a beach")                 # doctest: +SKIP
    [Contribution(word='dog', query=64, impact=201), ...]
    """

    def __init__(
        self, path: Path, manifest: dict[str, Any], mode: Literal["r", "w"], model: Speaker | None
    ) -> None:
        self.path, self.manifest = path, manifest
        self.skipped: tuple[tuple[str, str], ...] = ()
        self._mark, self._mode, self._given = mark(path), mode, model is not None
        self.said: tuple[str, ...] = ()
        self._second: SecondStage | None = None
        self._model = None if model is None else check_model(path, manifest, model)
        self.engine: Engine = open_engine(manifest["engine"], path / ENGINE, mode)
        try:
            # after the engine: never older than it
            self.side_stores = SideStores(path, manifest, mode)
        except BaseException:
            self.engine.close()
            raise

    @property
    def model(self) -> Speaker:
        """The model that encodes: loaded when first needed from the checkpoint in the manifest."""
        if self._model is None:
            from lexlip.models import load

            model = load(checkpoint_of(self.path, self.manifest), self.manifest["model"])
            self._model = check_model(self.path, self.manifest, model)
        return self._model

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        model: Speaker,
        source: AnySource,
        recipe: Recipe = Recipe(),
        *,
        split: str | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        replace: bool = False,
        exclude: Sequence[str] = (),
        id_column: str | None = None,
        image_column: str | None = None,
        max_skipped: float = 1.0,
        **options: Any,
    ) -> Index:
        """Encode a source and write a new index.

        The first 1,024 documents make the index, and fix the scale of its impacts; the others are
        added with a commit after each chunk. A build that was killed goes on with
        `Index.open(path, mode="w").add(source)`.

        Parameters
        ----------
        path : path
            Folder of the index.
        model : Speaker
        source : path, name, Collection, mapping, iterable or table
            A folder, a file, a pattern (``photos/**/*.jpg``), a list of paths, ``{id: picture}``,
            ``{id: text}``, a pandas frame, a `datasets.Dataset` or rows: what
            `lexlip.build.encode.as_source` and `lexlip.build.sources.given` read. Columns of a
            table that are no ids, pictures or captions are metadata.
        recipe : Recipe
            How the index is made; kept in its manifest.
        split : str, optional
        checkpoint : path, optional
            Where the model came from, so that the index finds it again; its own by default.
        replace : bool
            Put the new index in the place of one at `path`, once it is complete. A folder that is
            no lexlip index is never overwritten.
        exclude : sequence of str
            Files and folders to leave out, by name (``*.tmp.jpg``) or by path (``2024/raw``), now
            and when the folder is added again. Thumbnails and bins of NAS are left out anyway.
        id_column, image_column : str, optional
            Columns of a table with ids and pictures, where they are called neither `id` or
            `image_id`, nor `image`, `path` or `file_name`. The only column of pictures in a data
            set needs no name.
        max_skipped : float
            Share of pictures that may be skipped, 0 to 1, where an index is replaced. More is an
            error, and the old one stays.
        **options
            Options of the recipe by name: ``engine="postings"``, which needs no Java, or
            ``keep_floats=True`` for `search(..., rescore=100)`, ``keep_views=True`` for
            `search(..., rerank="filip")`; see `lexlip.build.recipe.Recipe`.

        Raises
        ------
        LexLIPError
            No readable document, an impossible recipe, no Java, a folder that holds something
            else or an index that is not to be replaced. Nothing is left behind.
        """
        recipe = dataclasses.replace(recipe, **options)
        target, there = Path(path), check_new(path, recipe, replace)
        sources, settled = first_source(source, split, exclude, Names(id_column, image_column))
        documents = settled.documents
        check_heads(model, recipe)
        coming = chunks(model, documents, None, recipe)
        facts = origin(model, documents, checkpoint)
        with index_folder(target, recipe, replace) as folder:
            manifest, begun = begin(folder, coming, facts, recipe)
            if exclude:
                sources.write(folder)
            with cls(folder, manifest, "w", model) as index:
                done = index._intake.write(chain(begun, coming if there else ()))
            if there:
                left = len(done.skipped) + len(settled.skipped)
                check_skipped(path, left, left + done.written, max_skipped)
        built = patiently(lambda: cls.open(target, model, mode="w"))
        try:
            done += built._intake.write(coming) + built._intake.say(settled)
            built.skipped, built.said = done.skipped, done.said
        except BaseException:
            built.close()
            raise
        return built

    @classmethod
    def from_encoded(
        cls,
        path: str | os.PathLike[str],
        encoded: Encoded | str | os.PathLike[str],
        model: Speaker | None = None,
        recipe: Recipe | None = None,
        *,
        shards: int = 1,
        replace: bool = False,
        max_skipped: float = 1.0,
        **options: Any,
    ) -> Index:
        """Write a new index of documents that were encoded before: the one that `create` writes.

        Nothing is at `path` before all of it is.

        Parameters
        ----------
        encoded : Encoded or path
            A folder of vectors in parts; all parts must be there.
        model : Speaker, optional
            Loaded when needed, as by `open`.
        recipe : Recipe, optional
            By default the one that the parts were encoded with; it must agree with that.
        shards : int
            Processes that write Lucene at the same time; hits do not depend on it.
        max_skipped : float
            Share of pictures that may be skipped, 0 to 1. More is an error, and nothing is written.
        path, replace, **options
            As for `create`, also what it raises.
        """
        found = encoded if isinstance(encoded, Encoded) else Encoded.open(encoded)
        recipe = dataclasses.replace(recipe or found.recipe, **options)
        check_new(path, recipe, replace)
        if model is not None:
            check_model(found.folder, found.manifest, model)
        with index_folder(path, recipe, replace) as folder:
            done = build_from(found, folder, recipe, shards)
            left = len(done.skipped)
            check_skipped(found.folder, left, left + done.written, max_skipped)
        built = patiently(lambda: cls.open(path, model, mode="w"))
        built.skipped, built.said = done.skipped, done.said
        return built

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        model: Speaker | None = None,
        mode: Literal["r", "w"] = "r",
    ) -> Index:
        """Open an index, for searching (mode "r") or to change it as well ("w").

        Parameters
        ----------
        path : path
        model : Speaker, optional
            Loaded when needed from the checkpoint that the manifest names when left out.
        mode : {"r", "w"}

        Raises
        ------
        LexLIPError
            Not an index, another format, a checkpoint that is gone, another model's index, or one
            that another process is writing (mode "w").
        """
        folder = Path(path)
        return unmixed(folder, lambda: cls(folder, read_manifest(folder), mode, model))

    def add(
        self,
        source: AnySource,
        *,
        split: str | None = None,
        force: bool = False,
        prune: bool = False,
        exclude: Sequence[str] = (),
        id_column: str | None = None,
        image_column: str | None = None,
    ) -> Added:
        """Encode documents and add them, replacing those with the same id.

        Commits after each 1,024 documents. Pictures that have not changed (folder, size, date and
        metadata) are left out, so adding a folder again costs what changed in it, and an
        interrupted addition goes on where it stopped. Pictures with the bytes of one that is there
        (renamed, copied or touched files) are not encoded either. The model is loaded when
        something is to be encoded.

        The index remembers the folders and tables that it was given. Ids of the first are paths in
        it; ids of every other begin with its name.

        Parameters
        ----------
        source : path, name, Collection, mapping, iterable or table
            As for `create`.
        split : str, optional
        force : bool
            Encode unchanged pictures too.
        prune : bool
            Delete the pictures of this folder or table that are no longer in it.
        exclude : sequence of str
            More files and folders to leave out, now and later; see `create`.
        id_column, image_column : str, optional
            As for `create`.

        Raises
        ------
        LexLIPError
            As `create`; with `prune`, when the source is only a part of what was indexed, or holds
            nothing. Nothing is changed then.
        """
        names = Names(id_column, image_column)
        return self._intake.add(source, split, force, prune, exclude, names)

    def update(
        self,
        source: AnySource,
        *,
        split: str | None = None,
        id_column: str | None = None,
        image_column: str | None = None,
    ) -> Added:
        """Encode documents again and replace them, metadata too; all must be in the index.

        `add` takes new documents as well, and skips pictures that have not changed.

        Raises
        ------
        LexLIPError
            When ids are not in the index; nothing is changed then.
        """
        return self._intake.update(source, split, Names(id_column, image_column))

    @property
    def _intake(self) -> Intake:
        model = Later(lambda: self.model)
        return Intake(self.path, self.manifest, self.engine, self.side_stores, model)

    def delete(self, ids: Iterable[str]) -> int:
        """Delete documents by id and return how many were there.

        Ids may be in any Unicode form.
        """
        return self._intake.delete(ids)

    def compact(self) -> None:
        """Drop remains of deleted and replaced documents, and merge: searches are faster."""
        self.engine.compact()
        self.side_stores.keep(self.engine.fetch)

    def prepare(
        self,
        item: AnyQuery,
        max_terms: int | None = None,
        max_weight: int = MAX_QUERY_WEIGHT,
        views: bool = False,
    ) -> PreparedQuery:
        """Encode a query once, to search, rerank and explain with.

        Parameters
        ----------
        item : str, picture, Query, mapping or PreparedQuery
            A text is taken as it is; ``Query.parse(text)`` reads the grammar. A picture is a path,
            bytes, a PIL image or an array; a mapping is ``{term id: weight}``.
        max_terms : int
            Number of heaviest terms that are kept: fewer make searches with pictures faster. By
            default 64; for a speaker with vectors 128 terms that find.
        max_weight : int
            Weight of the heaviest term, 1..64; ``lexlip tune`` measures what it changes.
        views : bool
            Encode what rerankers look at in the same pass; else they encode it when first needed.

        Raises
        ------
        LexLIPError
            As `Query.prepare`; with `views`, when the index keeps none.

        Examples
        --------
        >>> query = index.prepare("a dog on a beach")                       # doctest: +SKIP
        >>> hits = index.search(query)                                      # doctest: +SKIP
        >>> reasons = [index.explain(hit.id, query) for hit in hits]        # doctest: +SKIP
        """
        if views:
            _ = self.second_stage  # an index without views says so before anything is encoded
        return prepare(item, lambda: self.model, max_terms, max_weight, views)

    def query(
        self, item: AnyQuery, max_terms: int | None = None, max_weight: int = MAX_QUERY_WEIGHT
    ) -> dict[int, int]:
        """Turn a text (`str`), a `Query` or a picture (anything else) into ``{term id: weight}``.

        Parameters
        ----------
        item, max_terms, max_weight
            As for `prepare`.

        Returns
        -------
        dict
            Weights 1..`max_weight`, of either sign for a `Query`; empty without a known word.
        """
        return dict(self.prepare(item, max_terms, max_weight).terms)

    def words(self, terms: Mapping[int, int]) -> list[tuple[str, int]]:
        """Read query terms as words, heaviest first."""
        tokens = self.model.lexicon.tokens
        return [(tokens[t], w) for t, w in sorted(terms.items(), key=lambda x: (-x[1], x[0]))]

    def stats(self) -> dict[str, Any]:
        """Return the size of the index and the facts of its build.

        `bytes_per_image` counts words, ids, metadata and vectors, whatever keeps them. Of an index
        on a cluster, `cluster_index` is its name there.
        """
        facts, beside = self.engine.stats(), self.side_stores.stats()
        count = max(1, facts["documents"])
        size = facts["bytes"] + beside.get("vector_bytes", 0)  # those of postings are of its bytes
        return {
            **self.manifest,
            **where(self.engine),
            "vector_bytes": 0,
            **facts,
            "terms_per_image": facts["postings"] / count,
            "bytes_per_image": size / count,
            **beside,
        }

    def check(self) -> list[str]:
        """Read every file of the index again; return the names of corrupted ones."""
        damaged = damaged_facts(self.path, self.manifest)
        return damaged + self.engine.verify() + self.side_stores.verify()

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

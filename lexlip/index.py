"""The index of pictures: their impacts in an engine, and a manifest that names the model."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from lexlip.build.documents import HoldsDocuments
from lexlip.build.encode import Later, check_heads, chunks
from lexlip.build.encoded_parts import Encoded
from lexlip.build.explains import Explains
from lexlip.build.facts import damaged_facts
from lexlip.build.identity import mark, unmixed
from lexlip.build.intake import Intake, first_source
from lexlip.build.manifest import check_model, has_said, origin, read_manifest
from lexlip.build.recipe import Recipe
from lexlip.build.reopening import Reopens
from lexlip.build.side_stores import SideStores
from lexlip.build.sources import AnySource
from lexlip.build.tables import Names
from lexlip.build.write import ENGINE, Added, begin, build_from, check_new
from lexlip.engines import Engine, Hit, open_engine
from lexlip.errors import LexLIPError
from lexlip.filters.where import Where
from lexlip.impacts import MAX_QUERY_WEIGHT
from lexlip.query.counts import check_search
from lexlip.query.prepared import PreparedQuery
from lexlip.query.query import AnyQuery, prepare
from lexlip.rerank.account import Account, account
from lexlip.rerank.fit import TellsFit
from lexlip.rerank.many import SearchesMany
from lexlip.rerank.phases import (
    DEPTH,
    PHASES,
    TERMS,
    VECTORS,
    WORDS,
    OrderedHit,
    constant_of,
    order_by_terms,
    order_by_vectors,
)
from lexlip.rerank.rescore import rescore_hits
from lexlip.storage.blame import blames_damage
from lexlip.storage.files import atomic_directory

if TYPE_CHECKING:
    from lexlip.models.speaker import Speaker
    from lexlip.rerank.rerankers import RerankerName
    from lexlip.rerank.stage import RerankedHit, SecondStage


@blames_damage(
    "check",
    "search search_many explain explain_all account rerank add update delete compact stats "
    "metadata words_of impacts facets",
)
class Index(HoldsDocuments, Reopens, Explains, TellsFit, SearchesMany):
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

            model = load(self.manifest["checkpoint"], self.manifest["model"])
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
        with atomic_directory(target, replace=replace) as folder:
            manifest, begun = begin(folder, coming, facts, recipe)
            if exclude:
                sources.write(folder)
            with cls(folder, manifest, "w", model) as index:
                done = index._intake.write(chain(begun, coming if there else ()))
        built = cls.open(target, model, mode="w")
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
        path, replace, **options
            As for `create`, also what it raises.
        """
        found = encoded if isinstance(encoded, Encoded) else Encoded.open(encoded)
        recipe = dataclasses.replace(recipe or found.recipe, **options)
        check_new(path, recipe, replace)
        if model is not None:
            check_model(found.folder, found.manifest, model)
        with atomic_directory(path, replace=replace) as folder:
            done = build_from(found, folder, recipe, shards)
        built = cls.open(path, model, mode="w")
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

    @overload
    def search(
        self,
        item: AnyQuery,
        k: int = 10,
        where: str | Where | None = None,
        rescore: int = 0,
        max_terms: int | None = None,
        rerank: None = None,
        depth: int | None = None,
        min_fit: float | None = None,
    ) -> Sequence[Hit | OrderedHit]: ...

    @overload
    def search(
        self,
        item: AnyQuery,
        k: int = 10,
        where: str | Where | None = None,
        rescore: int = 0,
        max_terms: int | None = None,
        *,
        rerank: Literal["none"],
        depth: int | None = None,
        min_fit: float | None = None,
    ) -> Sequence[Hit]: ...

    @overload
    def search(
        self,
        item: AnyQuery,
        k: int = 10,
        where: str | Where | None = None,
        rescore: int = 0,
        max_terms: int | None = None,
        *,
        rerank: Literal["vectors", "terms"],
        depth: int | None = None,
        min_fit: float | None = None,
    ) -> Sequence[OrderedHit]: ...

    @overload
    def search(
        self,
        item: AnyQuery,
        k: int = 10,
        where: str | Where | None = None,
        rescore: int = 0,
        max_terms: int | None = None,
        *,
        rerank: RerankerName,
        depth: int | None = None,
        min_fit: float | None = None,
    ) -> Sequence[RerankedHit]: ...

    @overload
    def search(
        self,
        item: AnyQuery,
        k: int = 10,
        where: str | Where | None = None,
        rescore: int = 0,
        max_terms: int | None = None,
        rerank: str | None = None,
        depth: int | None = None,
        min_fit: float | None = None,
    ) -> Sequence[Hit | OrderedHit | RerankedHit]: ...

    def search(
        self,
        item: AnyQuery,
        k: int = 10,
        where: str | Where | None = None,
        rescore: int = 0,
        max_terms: int | None = None,
        rerank: str | None = None,
        depth: int | None = None,
        min_fit: float | None = None,
    ) -> Sequence[Hit | OrderedHit | RerankedHit]:
        """Find the k best documents for a text, a picture, a `Query` or ``{term id: weight}``.

        Parameters
        ----------
        item : str, picture, Query, mapping or PreparedQuery
            As for `prepare`.
        k : int
        where : str or Where, optional
            The best k of the documents with such metadata: ``"year >= 2020 and folder == 'trip'"``.
        rescore : int
            Number of best hits to order by the cosine of the vectors before they were quantised.
            For an index that was made with `keep_floats`.
        max_terms : int
            Terms kept of a text or a picture; rescoring uses all.
        rerank : str, optional
            What orders the best hits: "vectors" (by default where the index has them), "terms" (all
            words of either sign; by default for a speaker with vectors where none are kept), "none"
            (the words that found them; by default otherwise), or a second look: "filip", "naaf",
            "csd" or another of `lexlip.rerank.rerankers.RERANKERS`, for an index that was made with
            `keep_views`.
        depth : int, optional
            Number of hits that are ordered. By default 400 for vectors and terms, at least k; if
            given, further hits follow in groups of as many, so that k changes no order. For a
            reranker 100, and 200 for an ambiguous query.
        min_fit : float, optional
            Leave out hits that fit less (`fits`): standard deviations where vectors order, else the
            share of the query's words, 0..1, of the hits that are ordered, 400 for words.

        Returns
        -------
        list of Hit (of OrderedHit, of RerankedHit)
            By score descending, then by id; only documents that share a word of positive weight.
            Scores are integers (0 or less where much is subtracted), cosines when rescored, or
            those of `lexlip.rerank.phases.OrderedHit`.

        Raises
        ------
        LexLIPError
            For a query or filter that cannot be, and for an order that this index or query lacks.
        """
        check_search(k, rescore, max_terms, rerank, depth, min_fit)
        kept = Where.of(where)
        looks = rerank is not None and rerank not in PHASES
        query = self.prepare(item, max_terms, views=looks)
        by = WORDS if rescore and rerank is None else self.ordered_by(query, rerank)
        if min_fit is not None and by != VECTORS:
            ordered = DEPTH if by in PHASES else depth or self.second_stage.depth(query)
            size = max(k, rescore or ordered)
            hits = self.search(query, size, kept, rescore, rerank=rerank, depth=depth)
            return self.fitting(hits, query, min_fit, k)
        if by in (VECTORS, TERMS):
            group = depth or max(k, DEPTH)
            found = query.candidates(self.engine, -(-k // group) * group, kept)
            if by == TERMS:
                constant = constant_of(query, self.manifest.get("said"), self.manifest["scale"])
                return order_by_terms(found, query, k, self.engine, constant, depth)
            return order_by_vectors(found, query, k, self.side_stores.vectors, depth, min_fit)
        if by != WORDS:
            stage = self.second_stage
            found = query.candidates(self.engine, max(k, depth or stage.depth(query)), kept)
            return stage.order(found, query, by, k)
        if depth is not None:
            raise LexLIPError("depth is for hits that something orders: give rerank too")
        hits = query.search(self.engine, max(k, rescore), kept)
        if not rescore:
            return hits
        if query.penalty:
            raise LexLIPError("rescore cannot count missing words: leave out one of the two")
        scale, floats = self.manifest["scale"], self.side_stores.floats
        return rescore_hits(hits, query.terms, query.exact, floats, scale, self.engine)[:k]

    @property
    def has_vectors(self) -> bool:
        """Whether dense vectors of the documents are kept."""
        return bool(self.manifest.get("vector_size"))

    @property
    def phases(self) -> tuple[str, ...]:
        """What can order hits, of `lexlip.rerank.phases.PHASES`, where there is a choice."""
        if not has_said(self.manifest):
            return ()
        return PHASES if self.has_vectors else (TERMS, WORDS)

    def ordered_by(self, query: PreparedQuery, rerank: str | None = None) -> str:
        """Return what orders the hits of a query: "vectors", "terms", "none" or a reranker's name.

        Parameters
        ----------
        query : PreparedQuery
        rerank : str, optional
            As for `search`.

        Raises
        ------
        LexLIPError
            When the index has no vectors, or the query none, and for an unknown name.
        """
        if rerank is None:
            if query.vector is None or query.penalty:
                return WORDS
            return VECTORS if self.has_vectors else TERMS
        if rerank in (VECTORS, TERMS) and query.penalty:
            raise LexLIPError(f"{rerank} cannot count missing words: leave out one of the two")
        if rerank == VECTORS and not self.has_vectors:
            raise LexLIPError(
                f"{self.path} keeps no vectors to order hits by: choose another --rerank, or build "
                "it by a model with vectors (lexlip index --vectors yes --replace)"
            )
        if rerank not in PHASES:
            from lexlip.rerank.rerankers import check_name

            check_name(rerank)
        return rerank

    @property
    def second_stage(self) -> SecondStage:
        """The rerankers of this index; an error where it keeps no views."""
        if self._second is None:
            from lexlip.rerank.stage import SecondStage

            self._second = SecondStage(self.path, self.side_stores.views, self.model)
        return self._second

    def rerank(
        self, hits: Sequence[Hit], item: AnyQuery, name: str, share: float | None = None
    ) -> list[RerankedHit]:
        """Reorder hits by a second look at them; see `lexlip.rerank.stage.SecondStage.rerank`.

        Parameters
        ----------
        hits : sequence of Hit
            Hits of the same query, of `search`.
        item
            As for `search`.
        name : str
            One of `lexlip.rerank.RERANKERS`.
        share : float, optional
            Share of the reranker's score, 0..1; the tuned one by default.
        """
        return self.second_stage.rerank(hits, self.prepare(item, views=True), name, share)

    def account(self, id: str, item: AnyQuery, rerank: str | None = None) -> Account:
        """Say what orders a list, and take a document's score in it apart.

        Parameters
        ----------
        id : str
        item : str, picture, Query, mapping or PreparedQuery
            As for `search`.
        rerank : str, optional
            As for `search`.

        Returns
        -------
        Account
            For vectors, words of either sign, what is beyond words, and the document's constant
            add up to the score of the hit; for terms the words do.
        """
        query = self.prepare(item)
        by, store = self.ordered_by(query, rerank), self.side_stores.vectors
        tokens = self.model.lexicon.tokens
        scale, said = self.manifest["scale"], self.manifest.get("said")
        return account(by, self.engine, store, id, query, scale, tokens, said)

    def words(self, terms: Mapping[int, int]) -> list[tuple[str, int]]:
        """Read query terms as words, heaviest first."""
        tokens = self.model.lexicon.tokens
        return [(tokens[t], w) for t, w in sorted(terms.items(), key=lambda x: (-x[1], x[0]))]

    def stats(self) -> dict[str, Any]:
        """Return the size of the index and the facts of its build.

        `bytes_per_image` counts words, ids, metadata and vectors, whatever keeps them.
        """
        facts, beside = self.engine.stats(), self.side_stores.stats()
        count = max(1, facts["documents"])
        size = facts["bytes"] + beside.get("vector_bytes", 0)  # those of postings are of its bytes
        return {
            **self.manifest,
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

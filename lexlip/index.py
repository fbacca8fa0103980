"""An index of pictures: their impacts in an engine, and a manifest that says which model spoke."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from lexlip.encode import Chunk, as_source, chunks
from lexlip.engines.base import Engine, Hit
from lexlip.errors import LexLIPError
from lexlip.files import atomic_directory, read_json, write_json
from lexlip.impacts import (
    document_impacts,
    quantisation_error,
    quantise_query,
    query_terms,
    top_terms,
    unit_normalise,
)
from lexlip.where import Where

if TYPE_CHECKING:
    from lexlip.model import LexLIP

FORMAT = "lexlip-index/2"
ENGINES = ("lucene", "postings")
SKIPPED = "skipped.jsonl"


def _open_engine(kind: str, path: Path, mode: Any) -> Engine:
    if kind == "lucene":
        from lexlip.engines.lucene import LuceneEngine

        return LuceneEngine(path, mode)
    from lexlip.engines.postings import PostingsEngine

    return PostingsEngine(path, mode)


@dataclass(frozen=True)
class Added:
    """What an addition did: how many documents were written, were there, could not be read."""

    written: int = 0
    unchanged: int = 0
    skipped: tuple[tuple[str, str], ...] = ()


class Contribution(NamedTuple):
    """One word of an explanation; the products of all words add up to the score."""

    word: str
    query: int  # 1..64
    impact: int  # 1..255

    @property
    def score(self) -> int:
        """What the word adds to the score."""
        return self.query * self.impact


class Index:
    """Pictures (or texts) that can be searched with words, pictures or weighted words.

    What an index holds is its engine's last commit: a killed writer loses the documents since
    then, readers see one commit until `reopen`, and one process at a time may write.

    Attributes
    ----------
    path : Path
    manifest : dict
        What `create` fixed: model, vocabulary, scale, term budget, engine.
    skipped : tuple of (str, str)
        After `create`: ids of the pictures that could not be read, and why.

    Examples
    --------
    >>> index = Index.create("photos.lex", model, "photos/")       # doctest: +SKIP
    >>> index.search("a dog on a beach", k=3, where="modified >= '2024'")  # doctest: +SKIP
    [Hit(id='a.jpg', score=20810), ...]
    >>> index.explain("a.jpg", "a dog on a beach")                 # doctest: +SKIP
    [Contribution(word='dog', query=64, impact=201), ...]
    """

    def __init__(
        self, path: Path, manifest: dict[str, Any], engine: Engine, model: LexLIP | None = None
    ) -> None:
        self.path, self.manifest, self.engine = path, manifest, engine
        self.skipped: tuple[tuple[str, str], ...] = ()
        self._model = None if model is None else self._checked(model)

    @property
    def model(self) -> LexLIP:
        """The model that speaks: loaded when first needed from where the manifest says."""
        if self._model is None:
            from lexlip.model import LexLIP

            self._model = self._checked(LexLIP.from_pretrained(self.manifest["checkpoint"]))
        return self._model

    def _checked(self, model: LexLIP) -> LexLIP:
        for what, mine in (("vocabulary", model.lexicon.hash), ("model", model.fingerprint)):
            if self.manifest[what] != mine:
                raise LexLIPError(
                    f"{self.path} was built by another {what} ({self.manifest['checkpoint']}): "
                    "give that checkpoint with --model, or build it again with lexlip index "
                    "--replace"
                )
        return model

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        model: LexLIP,
        source: Any,
        *,
        max_terms: int = 64,
        engine: str = "lucene",
        split: str | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        replace: bool = False,
    ) -> Index:
        """Encode a source and write a new index.

        The first 1,024 documents make the index, and fix the scale of its impacts; the others are
        added with a commit after each chunk. A build that was killed goes on with
        `Index.open(path, mode="w").add(source)`.

        Parameters
        ----------
        path : path
            Folder of the index.
        model : LexLIP
        source : path, name, Collection or mapping
            What `lexlip.encode.as_source` reads: pictures, or texts by id.
        max_terms : int
            Term budget of a document.
        engine : {"lucene", "postings"}
            Lucene needs a Java >= 21; postings needs none, and is faster.
        split : str, optional
        checkpoint : path, optional
            Where the model came from, so that the index finds it again; its own by default.
        replace : bool
            Put the new index in the place of one at `path`, once it is complete. A folder that is
            no lexlip index is never overwritten.

        Raises
        ------
        LexLIPError
            No readable document, unknown engine, no Java, a folder that holds something else or
            an index that is not to be replaced. Nothing is left behind.
        """
        if engine not in ENGINES:
            raise LexLIPError(f"no engine {engine!r}: choose one of {', '.join(ENGINES)}")
        if max_terms < 1:
            raise LexLIPError(f"max_terms is {max_terms}: keep at least one term a picture")
        if engine == "lucene":  # before an hour of encoding, not after it
            from lexlip.java import find_java

            find_java()
        target = Path(path)
        there = (target / "manifest.json").is_file()
        if there and not replace:
            raise LexLIPError(f"there is an index at {target}: add to it, or replace it")
        documents = as_source(source, split)
        coming = chunks(model, documents)
        with atomic_directory(target) as folder:
            begun: list[Chunk] = []  # the first with a readable document, after any without
            for chunk in coming:
                begun.append(chunk)
                if chunk.ids:
                    break
            if not (begun and begun[-1].ids):
                reason = f" ({begun[0].skipped[0][1]})" if begun else ""
                name = getattr(documents, "source", "the source")
                raise LexLIPError(f"no readable picture in {name}{reason}")
            first = begun[-1].weights
            impacts, scale = document_impacts(first, max_terms)
            unit = unit_normalise(top_terms(first, max_terms))
            manifest = {
                "format": FORMAT,
                "engine": engine,
                "checkpoint": str(Path(checkpoint or model.name_or_path or ".").resolve()),
                "model": model.fingerprint,
                "vocabulary": model.lexicon.hash,
                "source": getattr(documents, "source", "texts"),
                "max_terms": max_terms,
                "scale": scale,
                "quantisation": quantisation_error(unit, impacts, scale),
            }
            write_json(folder / "manifest.json", manifest)
            writer = _open_engine(engine, folder / "engine", "w")
            with cls(folder, manifest, writer, model) as index:
                done = index._write_all(chain(begun, coming if there else ()))
        built = cls.open(target, model, mode="w")
        try:
            built.skipped = done.skipped + built._write_all(coming).skipped
        except BaseException:
            built.close()
            raise
        return built

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        model: LexLIP | None = None,
        mode: Literal["r", "w"] = "r",
    ) -> Index:
        """Open an index, for searching (mode "r") or to change it as well ("w").

        Parameters
        ----------
        path : path
        model : LexLIP, optional
            Loaded when needed from the checkpoint that the manifest names when left out.
        mode : {"r", "w"}

        Raises
        ------
        LexLIPError
            Not an index, another format, a checkpoint that is gone, another model's index, or one
            that another process is writing (mode "w").
        """
        folder = Path(path)
        if not (folder / "manifest.json").is_file():
            raise LexLIPError(
                f"no index at {folder}: make one with lexlip index PICTURES -o {folder}"
            )
        manifest = read_json(folder / "manifest.json")
        if manifest.get("format") != FORMAT:
            raise LexLIPError(
                f"{folder} has format {manifest.get('format')!r}, this lexlip reads {FORMAT!r}: "
                "build the index again with lexlip index --replace"
            )
        engine = _open_engine(manifest["engine"], folder / "engine", mode)
        try:
            return cls(folder, manifest, engine, model)
        except LexLIPError:
            engine.close()
            raise

    def add(self, source: Any, *, split: str | None = None, force: bool = False) -> Added:
        """Encode documents and add them, replacing those with the same id.

        Commits after each 1,024 documents. Pictures that have not changed (folder, size, date and
        metadata) are left out, so adding a folder again costs what changed in it, and an
        interrupted addition goes on where it stopped.

        Parameters
        ----------
        source : path, name, Collection or mapping
            What `lexlip.encode.as_source` reads: pictures, or texts by id.
        split : str, optional
        force : bool
            Encode unchanged pictures too.
        """
        known = None if force else self.engine.fetch
        return self._write_all(chunks(self.model, as_source(source, split), known))

    def _write_all(self, coming: Iterable[Chunk]) -> Added:
        written = unchanged = 0
        skipped: list[tuple[str, str]] = []
        for chunk in coming:
            impacts, _ = document_impacts(
                chunk.weights, self.manifest["max_terms"], self.manifest["scale"]
            )
            if chunk.ids:
                self.engine.add(chunk.ids, impacts, chunk.columns)
                self.engine.commit()
            written += len(chunk.ids)
            unchanged += chunk.unchanged
            skipped += chunk.skipped
            if chunk.skipped:
                with open(self.path / SKIPPED, "a", encoding="utf-8") as file:
                    for name, reason in chunk.skipped:
                        file.write(json.dumps({"id": name, "reason": reason}) + "\n")
        return Added(written, unchanged, tuple(skipped))

    def delete(self, ids: Iterable[str]) -> int:
        """Delete documents by id and return how many were there."""
        count = self.engine.delete(ids)
        self.engine.commit()
        return count

    def compact(self) -> None:
        """Drop what deleted and replaced documents left behind, and merge: searches are faster."""
        self.engine.compact()

    def query(self, item: Any, max_terms: int = 64) -> dict[int, int]:
        """Turn a text (`str`) or a picture (anything else) into ``{term id: weight}``.

        Parameters
        ----------
        item : str, Path, PIL image, bytes or array
        max_terms : int
            The heaviest so many terms are kept: fewer make searches with pictures faster.

        Returns
        -------
        dict
            Weights 1..64; empty when no word of the item is in the lexicon.
        """
        return query_terms(quantise_query(self.model.encode_document([item]), max_terms=max_terms))

    def search(self, item: Any, k: int = 10, where: str | Where | None = None) -> list[Hit]:
        """Find the k best documents for a text, a picture or ``{term id: weight}``.

        Parameters
        ----------
        item : str, picture or mapping
        k : int
        where : str or Where, optional
            Only among documents with such metadata: ``"year >= 2020 and folder == 'trip'"``
            (`lexlip.where`). The result is the best k of those, exactly.

        Returns
        -------
        list of Hit
            By integer score descending, then by id; only documents that share a term.
        """
        terms = item if isinstance(item, Mapping) else self.query(item)
        kept = Where.parse(where) if isinstance(where, str) else where
        return self.engine.search(terms, k, kept) if terms else []

    def explain(self, id: str, item: Any) -> list[Contribution]:
        """Say why a document is found: the words that it shares with a query, heaviest first.

        Parameters
        ----------
        id : str
        item : str, picture or mapping
            As for `search`.

        Returns
        -------
        list of Contribution
            Their scores add up to the score of the hit, exactly.
        """
        terms = item if isinstance(item, Mapping) else self.query(item)
        tokens = self.model.lexicon.tokens
        shared = self.engine.contributions(id, terms)
        found = [Contribution(tokens[t], terms[t], impact) for t, impact in shared.items()]
        return sorted(found, key=lambda c: (-c.score, c.word))

    def words(self, terms: Mapping[int, int]) -> list[tuple[str, int]]:
        """Read query terms as words, heaviest first."""
        tokens: Sequence[str] = self.model.lexicon.tokens
        return [(tokens[t], w) for t, w in sorted(terms.items(), key=lambda x: (-x[1], x[0]))]

    def stats(self) -> dict[str, Any]:
        """Say how large the index is and how it was made."""
        facts = self.engine.stats()
        count = max(1, facts["documents"])
        return {
            **self.manifest,
            **facts,
            "terms_per_image": facts["postings"] / count,
            "bytes_per_image": facts["bytes"] / count,
        }

    def check(self) -> list[str]:
        """Read every file of the index again; returns the names of those that are damaged."""
        return self.engine.verify()

    def reopen(self) -> bool:
        """See the last commit; True when that is a newer one."""
        return self.engine.reopen()

    def __len__(self) -> int:
        return len(self.engine)

    def close(self) -> None:
        """Let go of the engine's files; what was not committed is lost."""
        self.engine.close()

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

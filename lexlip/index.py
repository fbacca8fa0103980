"""An index of pictures: their impacts in an engine, and a manifest that says which model spoke."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scipy.sparse import csr_array, vstack
from tqdm import tqdm

from lexlip.data.collection import Collection, load_collection
from lexlip.engines.base import Engine, Hit
from lexlip.errors import LexLIPError
from lexlip.files import atomic_directory, read_json, write_json, write_text
from lexlip.impacts import (
    document_impacts,
    quantisation_error,
    quantise_query,
    query_terms,
    top_terms,
    unit_normalise,
)

if TYPE_CHECKING:
    from lexlip.model import LexLIP

FORMAT = "lexlip-index/1"
ENGINES = ("lucene", "exact")


def _open_engine(kind: str, path: Path, mode: Any) -> Engine:
    if kind == "lucene":
        from lexlip.engines.lucene import LuceneEngine

        return LuceneEngine(path, mode)
    from lexlip.engines.exact import ExactEngine

    return ExactEngine() if mode == "w" else ExactEngine.load(path)


def encode_collection(
    model: LexLIP, collection: Collection, batch_size: int = 32
) -> tuple[list[str], csr_array, list[str]]:
    """Encode every readable picture.

    Returns
    -------
    ids : list of str
    weights : csr_array float32 [N, V]
    skipped : list of str
        One line for each picture that could not be read: which, and why.
    """
    ids: list[str] = []
    parts: list[csr_array] = []
    skipped: list[str] = []
    with tqdm(total=len(collection), desc="encoding", unit="picture", disable=None) as bar:
        for numbers, images in collection.batches(batch_size, skipped=skipped):
            if numbers:
                parts.append(model.encode_image(images))
                ids += [collection.ids[i] for i in numbers]
            bar.n = len(ids) + len(skipped)
            bar.refresh()
    if not ids:
        reason = f" ({skipped[0]})" if skipped else ""
        raise LexLIPError(f"no readable picture in {collection.source}{reason}")
    return ids, csr_array(vstack(parts, format="csr")), skipped


class Index:
    """Pictures that can be searched with words.

    Examples
    --------
    >>> index = Index.create("photos.lex", model, "photos/")       # doctest: +SKIP
    >>> index.search("a dog on a beach", k=3)                      # doctest: +SKIP
    [Hit(id='a.jpg', score=20810), ...]
    """

    def __init__(self, path: Path, manifest: dict[str, Any], engine: Engine, model: LexLIP) -> None:
        self.path, self.manifest, self.engine, self.model = path, manifest, engine, model

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        model: LexLIP,
        source: str | os.PathLike[str] | Collection,
        *,
        max_terms: int = 64,
        engine: str = "lucene",
        split: str | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
    ) -> Index:
        """Encode pictures and write a new index; an old one at `path` is replaced at the end.

        Parameters
        ----------
        path : path
            Folder of the index. A folder that is no lexlip index is never overwritten.
        model : LexLIP
        source : path, name or Collection
            Anything that `lexlip.data.collection.load_collection` reads.
        max_terms : int
            Term budget of a picture.
        engine : {"lucene", "exact"}
            Lucene needs a Java >= 21; exact needs none and lives in memory.
        split : str, optional
        checkpoint : path, optional
            Where the model came from, so that the index finds it again; its own by default.

        Raises
        ------
        LexLIPError
            No readable picture, unknown engine, no Java, a folder that holds something else.
            Nothing is left behind.
        """
        if engine not in ENGINES:
            raise LexLIPError(f"no engine {engine!r}: choose one of {', '.join(ENGINES)}")
        if max_terms < 1:
            raise LexLIPError(f"max_terms is {max_terms}: keep at least one term a picture")
        if engine == "lucene":  # before an hour of encoding, not after it
            from lexlip.java import find_java

            find_java()
        if isinstance(source, Collection):
            collection = source
        else:
            collection = load_collection(os.fspath(source), split)
        target = Path(path)
        with atomic_directory(target) as folder:
            ids, weights, skipped = encode_collection(model, collection)
            impacts, scale = document_impacts(weights, max_terms)
            writer = _open_engine(engine, folder / "engine", "w")
            writer.add(ids, impacts)
            writer.commit()
            if engine == "exact":
                writer.save(folder / "engine")  # type: ignore[attr-defined]
            stats = writer.stats()
            writer.close()
            unit = unit_normalise(top_terms(weights, max_terms))
            manifest = {
                "format": FORMAT,
                "engine": engine,
                "checkpoint": str(Path(checkpoint or model.name_or_path or ".").resolve()),
                "model": model.fingerprint,
                "vocabulary": model.lexicon.hash,
                "source": collection.source,
                "documents": len(ids),
                "skipped": len(skipped),
                "max_terms": max_terms,
                "scale": scale,
                "terms_per_image": impacts.nnz / len(ids),
                "bytes_per_image": stats["bytes"] / len(ids),
                "quantisation": quantisation_error(unit, impacts, scale),
            }
            write_text(folder / "skipped.txt", "".join(f"{line}\n" for line in skipped))
            write_json(folder / "manifest.json", manifest)
        return cls.open(target, model)

    @classmethod
    def open(cls, path: str | os.PathLike[str], model: LexLIP | None = None) -> Index:
        """Open an index for searching.

        Parameters
        ----------
        path : path
        model : LexLIP, optional
            Loaded from the checkpoint that the manifest names when left out.

        Raises
        ------
        LexLIPError
            Not an index, a newer format, a checkpoint that is gone, or another model's index.
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
                "build the index again with lexlip index"
            )
        if model is None:
            from lexlip.model import LexLIP

            model = LexLIP.from_pretrained(manifest["checkpoint"])
        for what, mine in (("vocabulary", model.lexicon.hash), ("model", model.fingerprint)):
            if manifest[what] != mine:
                raise LexLIPError(
                    f"{folder} was built by another {what} ({manifest['checkpoint']}): give that "
                    "checkpoint with --model, or build the index again with lexlip index"
                )
        engine = _open_engine(manifest["engine"], folder / "engine", "r")
        return cls(folder, manifest, engine, model)

    def query(self, item: Any) -> dict[int, int]:
        """Turn a text (`str`) or a picture (anything else) into ``{term id: weight}``.

        Empty when no word of it is in the lexicon.
        """
        return query_terms(quantise_query(self.model.encode_document([item])))

    def search(self, item: Any, k: int = 10) -> list[Hit]:
        """Find the k best pictures for a text, a picture or ``{term id: weight}``.

        Returns
        -------
        list of Hit
            By integer score descending, then by id; only pictures that share a term.
        """
        terms = item if isinstance(item, dict) else self.query(item)
        return self.engine.search(terms, k) if terms else []

    def words(self, terms: dict[int, int]) -> list[tuple[str, int]]:
        """Read query terms as words, heaviest first."""
        tokens: Sequence[str] = self.model.lexicon.tokens
        return [(tokens[t], w) for t, w in sorted(terms.items(), key=lambda x: (-x[1], x[0]))]

    def __len__(self) -> int:
        return len(self.engine)

    def close(self) -> None:
        """Let go of the engine's files."""
        self.engine.close()

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

"""Import: vectors of other programs become an index."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lexlip.build.manifest import FORMAT, OWN_WORDS, origin
from lexlip.build.recipe import Recipe
from lexlip.build.write import ENGINE, check_new, index_folder, note_skipped
from lexlip.engines import open_engine
from lexlip.errors import LexLIPError
from lexlip.exchange import anserini, ciff, npz
from lexlip.exchange.documents import Vocabulary, columns_of
from lexlip.exchange.spooled import (
    AllWords,
    Imported,
    Spooled,
    Table,
    Terms,
    counted,
    in_words,
    rows_with_repeats,
)
from lexlip.impacts import MAX_IMPACT, quantise
from lexlip.models.speaker import HasVectors
from lexlip.models.word_list import WordList
from lexlip.storage.files import MANIFEST
from lexlip.storage.seal import write_sealed
from lexlip.storage.spool import Spool

if TYPE_CHECKING:
    from lexlip.index import Index
    from lexlip.models.speaker import Speaker

FORMATS = ("anserini", "npz", "ciff")
_ONE_WAY = "which cannot be imported: export the index as .jsonl, .npz or .ciff"
_MANY = 1024
_SAMPLE = 1 << 22
_NAMED = 3


def import_vectors(
    path: str | os.PathLike[str],
    source: str | os.PathLike[str],
    model: Speaker | None = None,
    *,
    format: str | None = None,
    engine: str = "postings",
    skip_wrong: bool = False,
    replace: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
) -> tuple[Index, Imported]:
    """Make an index of vectors that another program wrote, or `lexlip.exchange.export`.

    Everything is read and checked before the index is written. Whole weights 1..255 are the
    impacts, unchanged. Others are scaled so that 255 is the largest but for one in 10,000, and
    rounded.

    Parameters
    ----------
    path : path
        Folder of the new index.
    source : path
        A file of `format`, or a folder of .jsonl files.
    model : Speaker, optional
        Its lexicon has the words, and it reads queries. Without it the index knows the words of
        the file alone: queries are these, with weights where wanted, ``dog^3 beach^1``.
    format : {"anserini", "npz", "ciff"}, optional
        By default what the name of the source says.
    engine : {"postings", "lucene", "opensearch:PLACE"}
    skip_wrong : bool
        Leave out documents that cannot be read, and note them in ``skipped.jsonl``.
    replace : bool
        Put the new index in the place of one at `path`.
    checkpoint : path, optional
        Where the model came from; its own by default.

    Returns
    -------
    Index
        Open for writing.
    Imported

    Raises
    ------
    LexLIPError
        For a source that cannot be read, documents that are wrong, no known word at all, an index
        without `replace`, and a model with vectors, which the files do not hold.

    Examples
    --------
    >>> from lexlip.exchange import import_vectors
    >>> index, done = import_vectors("foreign.lex", "vectors.jsonl")          # doctest: +SKIP
    >>> index.search({"dog": 3, "beach": 1})                                  # doctest: +SKIP
    """
    from lexlip.index import Index

    if isinstance(model, HasVectors):
        raise LexLIPError(
            "a CLIP in words orders hits by vectors, which these files do not hold: import without "
            "a model (-m) and ask with words, or index the pictures"
        )
    target, given = Path(path), Path(source)
    recipe = Recipe(engine=engine)
    check_new(target, recipe, replace)
    kind = format or _kind(given)
    if kind == "opensearch":
        raise LexLIPError(f"opensearch is a format {_ONE_WAY}")
    if kind not in FORMATS:
        raise LexLIPError(f"no format {kind!r}: choose one of {', '.join(FORMATS)}")
    done = Imported()
    with index_folder(target, recipe, replace) as folder:
        with TemporaryDirectory(prefix="spool-", dir=folder) as beside:
            words = AllWords()
            terms: Terms = words if model is None else Vocabulary(model.lexicon)
            spooled = Spooled(Path(beside), terms, done)
            with closing(spooled):
                _READERS[kind](given, spooled, model)
                _check(given, spooled, done, skip_wrong)
                if model is None:
                    model = WordList(list(words.numbers))
                    model.save_pretrained(folder / OWN_WORDS)
                    facts = origin(model, {}) | {"checkpoint": f"./{OWN_WORDS}"}
                else:
                    facts = origin(model, {}, checkpoint)
                facts["source"] = f"vectors of {given.name}"
                _write(folder, spooled, facts, recipe, done)
        note_skipped(folder, done.wrong)
    return Index.open(target, model, mode="w"), done


def _kind(path: Path) -> str:
    """Return the format that a name says."""
    name = path.name.lower()
    bodies = path.is_dir() and (path / "mapping.json").is_file() and any(path.glob("*.ndjson"))
    if bodies or name.endswith(".ndjson"):
        raise LexLIPError(f"{path} is for OpenSearch, {_ONE_WAY}")
    if path.is_dir() or name.endswith(anserini.SUFFIXES):
        return "anserini"
    if name.endswith((".ciff", ".ciff.gz")):
        return "ciff"
    if name.endswith(".npz"):
        return "npz"
    raise LexLIPError(f"{path} says no format by its name: give --format {', '.join(FORMATS)}")


def _read_lines(path: Path, spooled: Spooled, model: Speaker | None) -> None:
    for place, id, found in anserini.read(path):
        try:
            if isinstance(found, LexLIPError):
                raise found
            vector, metadata = found
            spooled.put(id, vector, metadata)
        except LexLIPError as error:
            spooled.done.wrong.append((place, str(error)))


def _read_archive(path: Path, spooled: Spooled, model: Speaker | None) -> None:
    with closing(npz.Archive(path)) as archive:
        words = archive.words
        if words is None:
            if model is None or len(model.lexicon.tokens) != archive.width:
                raise LexLIPError(f"{path} has no words: give the model whose terms it has (-m)")
            words = list(model.lexicon.tokens)
        table = Table(words, spooled, path)
        spooled.scale = archive.scale
        for ids, rows, metadata in archive:
            table.count(rows.indices)
            repeated = rows_with_repeats(rows)
            spooled.take_rows(ids, table.known(rows), metadata, path.name, repeated)


def _read_inverted(path: Path, spooled: Spooled, model: Speaker | None) -> None:
    with closing(ciff.Reader(path)) as reader:
        count, words = reader.documents, list[str]()
        by_term = Spool(spooled.folder / "terms", np.float64)
        for word, documents, frequencies in reader.postings():
            if documents.size and not 0 <= documents.min() <= documents.max() < count:
                raise LexLIPError(f"{path} is damaged: {word!r:.60} is in documents that are not")
            words.append(word)
            by_term.append_row(documents, frequencies)
        by_term.close()
        named = dict(reader.ids())  # as many as the file says, before arrays of that length
        if sorted(named) != list(range(count)):
            raise LexLIPError(f"{path} is damaged: its documents are not numbered 0 to {count - 1}")
        rows = by_term.turned(spooled.folder / "documents", count)
        table = Table(words, spooled, path)
        for start in range(0, count, _MANY):
            stop = min(start + _MANY, count)
            some = rows.rows(start, stop, len(words))
            table.count(some.indices)
            ids = [named[number] for number in range(start, stop)]
            spooled.take_rows(ids, table.known(some), [{}] * len(ids), path.name)


_READERS = {"anserini": _read_lines, "npz": _read_archive, "ciff": _read_inverted}


def _check(path: Path, spooled: Spooled, done: Imported, skip_wrong: bool) -> None:
    """Refuse what cannot become an index, before anything of it is written."""
    if done.wrong and not skip_wrong:
        raise LexLIPError(
            f"{counted(len(done.wrong))} of {path} cannot be read ({in_words(done.wrong)}): mend "
            "them, or leave them out with --skip-wrong"
        )
    if not spooled.ids:
        raise LexLIPError(f"no document in {path}: nothing is imported")
    if not spooled.rows.entries:
        unknown = next(iter(done.unknown), None)
        why = f"has no word of theirs ({unknown!r:.40}, ...)" if unknown else "finds no weight"
        raise LexLIPError(f"the lexicon {why} in {path}: give the model of these words (-m)")


def _write(
    folder: Path, spooled: Spooled, facts: dict[str, Any], recipe: Recipe, done: Imported
) -> None:
    """Write manifest and engine."""
    factor = _factor(spooled.rows)
    most = int(np.diff(spooled.rows.ends).max(initial=1))
    scale = spooled.scale if factor is None else None
    if factor is not None:
        done.said.append(
            f"weights are not all whole numbers 1 to {MAX_IMPACT}: they were multiplied by "
            f"{factor:.6g} and rounded, and so are scores"
        )
    if factor is None and scale is None and not facts["normalise"]:
        done.said.append(
            "the file does not say how many impacts a unit of weight is: search this index, but "
            "add no pictures to it"
        )
    manifest = {
        "format": FORMAT,
        **facts,
        **recipe.facts(),
        "max_terms": max(most, 1),
        "vectors": "no",
        "scale": scale or factor or _length(spooled.rows),
        "quantisation": None,
    }
    engine = open_engine(recipe.engine, folder / ENGINE, "w")
    lost = 0
    try:
        for ids, rows, metadata in spooled.chunks():
            if factor is None:
                whole = csr_array(rows, dtype=np.int64)
            else:
                whole = quantise(rows, factor)
                lost += rows.nnz - whole.nnz
            engine.add(ids, whole, columns_of(metadata))
            done.documents += len(ids)
        engine.commit()
    finally:
        engine.close()
    if lost:
        done.said.append(f"{lost:,} weights were too small for an impact of 1, and are gone")
    write_sealed(folder / MANIFEST, manifest)


def _factor(rows: Spool) -> float | None:
    """Return impacts per unit of weight, None where the weights are impacts."""
    whole, step = True, max(1, rows.entries // _SAMPLE)
    sample: list[NDArray[np.float64]] = []
    for _, _, values in rows.pieces():
        whole = whole and bool((values == np.rint(values)).all() and values.max() <= MAX_IMPACT)
        sample.append(values[::step])
    if whole:
        return None
    return MAX_IMPACT / float(np.quantile(np.concatenate(sample), 0.9999, method="higher"))


def _length(rows: Spool) -> float:
    """Return the median length of documents: the scale of those that were of length one."""
    squares = np.zeros(len(rows))
    for numbers, _, values in rows.pieces():
        squares += np.bincount(numbers, values * values, minlength=len(rows))
    return float(np.median(np.sqrt(squares[squares > 0])))

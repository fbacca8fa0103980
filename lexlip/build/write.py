"""Index writing: checks before encoding, the manifest, chunks of documents, the bulk build.

`Index.create` writes a source while it is encoded. `build_from` writes encoded parts in one commit,
with Lucene on several cores: each process writes a shard, the engine of a range of parts, and the
shards are merged. Hits do not depend on the number of shards.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import astuple, dataclass, fields
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from scipy.sparse import csr_array
from tqdm import tqdm

from lexlip.build.encode import Chunk
from lexlip.build.encoded_parts import Encoded
from lexlip.build.manifest import check_outside, is_index, new_manifest, normalises
from lexlip.build.processes import worker_processes
from lexlip.build.recipe import Recipe
from lexlip.build.side_stores import SideStores
from lexlip.data.roots import Sources
from lexlip.engines import Engine, open_engine
from lexlip.engines.builds import begin_build, check_build, drop_build, serve_build
from lexlip.errors import LexLIPError
from lexlip.impacts import document_impacts, with_said
from lexlip.storage.files import (
    MANIFEST,
    atomic_directory,
    check_replaceable,
    check_writable,
    write_text,
)
from lexlip.storage.folder_lock import without_writers
from lexlip.storage.seal import write_sealed

ENGINE, SKIPPED = "engine", "skipped.jsonl"


@dataclass(frozen=True)
class Added:
    """Result of an addition.

    Attributes
    ----------
    written : int
        Encoded documents.
    unchanged : int
    skipped : tuple of (str, str)
        Ids and reasons. Where a skipped document was in the index before, its old version stays.
    alike : int
        Documents that were written without being encoded: renamed, copied or touched files, and
        those whose metadata alone changed.
    gone : tuple of str
        Ids in the index that are no longer in the folder.
    pruned : int
        How many of these were deleted.
    said : tuple of str
        What was left out, and what became of ids and folders, a line each.
    """

    written: int = 0
    unchanged: int = 0
    skipped: tuple[tuple[str, str], ...] = ()
    alike: int = 0
    gone: tuple[str, ...] = ()
    pruned: int = 0
    said: tuple[str, ...] = ()

    def __add__(self, other: Added) -> Added:
        """Return both together."""
        pairs = zip(fields(self), astuple(self), astuple(other), strict=True)
        return Added(**{field.name: one + two for field, one, two in pairs})


def check_new(path: str | os.PathLike[str], recipe: Recipe, replace: bool) -> bool:
    """Return whether there is an index already; fail now, not after an hour of encoding.

    Raises
    ------
    LexLIPError
        No Java, no cluster, no right to write there, a folder that holds something else or is
        inside of an index, or an index without `replace`.
    """
    check_outside(Path(path))
    if recipe.engine == "lucene":
        from lexlip.engines.lucene.bridge import lucene_jar
        from lexlip.engines.lucene.java import find_java

        find_java(), lucene_jar()
    there = is_index(Path(path))
    if there and not replace:
        raise LexLIPError(
            f"there is an index at {path}: add to it, or replace it with replace=True (--replace)"
        )
    check_replaceable(Path(path), MANIFEST)
    check_writable(Path(path))
    check_build(recipe.engine, Path(path) / ENGINE)
    return there


def closed_to_writers(path: Path) -> AbstractContextManager[None]:
    """Keep writers away from an index at `path` while another one takes its place."""
    return without_writers(path, ENGINE)


@contextmanager
def index_folder(
    path: str | os.PathLike[str], recipe: Recipe, replace: bool = False
) -> Iterator[Path]:
    """Fill a folder that becomes the index at `path` when the block ends without an exception.

    A distant engine makes a build of its own, which takes the name of the place after that.

    Raises
    ------
    LexLIPError
        As `lexlip.storage.files.atomic_directory`, and where the cluster does not take part.
    """
    target = Path(os.path.realpath(path)) / ENGINE
    with atomic_directory(path, replace=replace, held=closed_to_writers) as folder:
        begin_build(recipe.engine, folder / ENGINE, target)
        try:
            yield folder
        except BaseException:
            with suppress(LexLIPError):  # the next replacement deletes it
                drop_build(recipe.engine, folder / ENGINE)
            raise
    serve_build(recipe.engine, target)


def begin(
    folder: Path, coming: Iterator[Chunk], origin: Mapping[str, Any], recipe: Recipe
) -> tuple[dict[str, Any], list[Chunk]]:
    """Write the manifest of a new index.

    Parameters
    ----------
    folder : Path
    coming : iterator of Chunk
        Consumed up to the first chunk with a readable document, to which the scale is fitted.
    origin : mapping
        The facts of `lexlip.build.manifest.origin`.
    recipe : Recipe

    Returns
    -------
    manifest : dict
    begun : list of Chunk
        The chunks consumed.

    Raises
    ------
    LexLIPError
        When no document is readable.
    """
    begun: list[Chunk] = []
    for chunk in coming:
        begun.append(chunk)
        if chunk.ids:
            break
    if not (begun and begun[-1].ids):
        reason = f" ({begun[0].skipped[0][1]})" if begun else ""
        raise LexLIPError(f"no readable picture in {origin['source']}{reason}")
    manifest = new_manifest(begun[-1].weights, origin, recipe)
    write_sealed(folder / MANIFEST, manifest)
    return manifest, begun


def note_skipped(
    folder: Path, skipped: Iterable[tuple[str, str]], written: Iterable[str] = ()
) -> None:
    """Keep a line for each unreadable document in ``skipped.jsonl``: its id and the reason.

    A document is there once, with the last reason, until it was `written`.
    """
    path, noted = folder / SKIPPED, dict[str, str]()
    if path.is_file():
        for line in path.read_text("utf-8").splitlines():
            with suppress(ValueError, KeyError, TypeError):  # a line that a kill cut off
                row = json.loads(line)
                noted[row["id"]] = row["reason"]
    now = {name: reason for name, reason in noted.items() if name not in set(written)}
    now |= dict(skipped)
    if now != noted:
        rows = ({"id": name, "reason": reason} for name, reason in now.items())
        write_text(path, "".join(json.dumps(row) + "\n" for row in rows), follow=False)


def check_skipped(where: object, skipped: int, count: int, most: float) -> None:
    """Fail where more pictures were skipped than somebody expects.

    Parameters
    ----------
    where : path
        Of what was written, for the error.
    skipped, count : int
        Of how many pictures.
    most : float
        The largest share that is fine, 0 to 1.

    Raises
    ------
    LexLIPError

    Examples
    --------
    >>> check_skipped("photos.lex", 1, 10, 0.1)
    >>> check_skipped("photos.lex", 2, 10, 0.1)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    lexlip.errors.LexLIPError: photos.lex: 2 of 10 pictures were skipped, more than the 10 % ...
    """
    if not 0 <= most <= 1:
        raise LexLIPError(f"max_skipped is {most}: give a share from 0 to 1")
    if count and skipped / count > most:
        raise LexLIPError(
            f"{where}: {skipped} of {count} pictures were skipped, more than the {100 * most:g} % "
            "of --max-skipped: look at them, or allow more"
        )


def impacts_of(chunk: Chunk, manifest: Mapping[str, Any]) -> csr_array:
    """Return the impacts that an index holds of a chunk, the words that are said of it included."""
    cost = manifest["max_terms"], manifest["scale"]
    impacts, _ = document_impacts(chunk.weights, *cost, normalise=normalises(manifest))
    return impacts if chunk.said is None else with_said(impacts, chunk.said)


def write_chunks(
    folder: Path,
    manifest: Mapping[str, Any],
    engine: Engine,
    side_stores: SideStores | None,
    coming: Iterable[Chunk],
    commit_each: bool = True,
) -> Added:
    """Write documents into an index, and note unreadable ones.

    Parameters
    ----------
    folder : Path
        The index.
    manifest : mapping
        Its scale and term budget.
    engine, side_stores
        Open for writing; `side_stores` is None where the side stores are written elsewhere.
    coming : iterable of Chunk
    commit_each : bool
        Commit after each chunk; otherwise once at the end.
    """
    done = Added()
    names: list[str] = []
    for chunk in coming:
        alike = chunk.alike
        if side_stores is not None:  # first: a killed writer must not lose any
            if alike is not None:
                side_stores.take(alike)
            if chunk.ids:
                side_stores.write(chunk)
            if chunk.seen[0] and side_stores.files is not None:
                side_stores.files.write(*chunk.seen)
        if alike is not None:
            engine.copy(alike.of, alike.ids, alike.columns)
        if chunk.ids:
            held = chunk.vectors if engine.keeps_vectors else None
            engine.add(chunk.ids, impacts_of(chunk, manifest), chunk.columns, held)
        if commit_each and (chunk.ids or alike is not None):
            engine.commit()
        names += chunk.ids
        count = 0 if alike is None else len(alike.ids)
        done += Added(len(chunk.ids), chunk.unchanged, tuple(chunk.skipped), count)
    if not commit_each:
        engine.commit()
    note_skipped(folder, done.skipped, names)
    return done


def _write_shard(encoded: Encoded, manifest: dict[str, Any], folder: Path, parts: range) -> Added:
    """Write the engine of a range of parts, in a worker process."""
    folder.mkdir(parents=True)
    engine = open_engine(manifest["engine"], folder / ENGINE, "w")
    try:
        coming = (encoded.read(number) for number in parts)
        return write_chunks(folder, manifest, engine, None, coming, commit_each=False)
    finally:
        engine.close()


def _write_shards(
    encoded: Encoded,
    manifest: dict[str, Any],
    folder: Path,
    count: int,
    side_stores: SideStores,
) -> Added:
    """Write an index in `count` processes, and merge their shards."""
    from lexlip.engines.lucene.merge import merge_engines

    shards = [folder / "shards" / str(number) for number in range(count)]
    bounds = [len(encoded) * number // count for number in range(count + 1)]
    advice = "build again, with fewer shards if memory is short; encoded parts stay"
    with worker_processes(count, advice) as pool:
        futures = [
            pool.submit(_write_shard, encoded, manifest, shard, range(*run))
            for shard, run in zip(shards, pairwise(bounds), strict=True)
        ]
        for chunk in encoded:
            if chunk.ids:
                side_stores.write(chunk)
        done = [future.result() for future in futures]
    merge_engines([shard / ENGINE for shard in shards], folder / ENGINE)
    shutil.rmtree(folder / "shards")
    skipped = tuple(chain.from_iterable(added.skipped for added in done))
    note_skipped(folder, skipped)
    return Added(sum(added.written for added in done), 0, skipped)


def build_from(encoded: Encoded, folder: Path, recipe: Recipe, shards: int = 1) -> Added:
    """Write an index of encoded documents.

    Parameters
    ----------
    encoded : Encoded
        Complete: all of its parts are needed.
    folder : Path
        Existing and empty.
    recipe : Recipe
        How they are stored; it must agree with how they were encoded.
    shards : int
        Concurrent processes that write Lucene; the postings engine is written in one.

    Raises
    ------
    LexLIPError
        When a part is missing, corrupted or encoded otherwise, when no document is readable, when
        metadata conflict, or when a process dies.
    """
    if shards < 1:
        raise LexLIPError(f"shards is {shards}: write at least one")
    for name, value in encoded.recipe.encoding().items():
        if (wanted := getattr(recipe, name)) != value:
            raise LexLIPError(
                f"{encoded.folder} was encoded with {name}={value}, not {wanted}: encode again"
            )
    manifest, _ = begin(folder, iter(encoded), encoded.origin, recipe)
    note_skipped(folder, encoded.skipped)
    if excluded := encoded.manifest.get("exclude"):
        Sources.read(folder, manifest).excluding(excluded).write(folder)
    left_out = Added(skipped=encoded.skipped, said=encoded.left_out)
    count = min(shards, len(encoded)) if recipe.engine == "lucene" else 1
    with ExitStack() as closing:
        side_stores = closing.enter_context(SideStores(folder, manifest, "w"))
        if count > 1:
            return _write_shards(encoded, manifest, folder, count, side_stores) + left_out
        writer = open_engine(recipe.engine, folder / ENGINE, "w")
        closing.callback(writer.close)
        coming = tqdm(encoded, "indexing", len(encoded), unit="part", disable=None)
        done = write_chunks(folder, manifest, writer, side_stores, coming, commit_each=False)
        return done + left_out

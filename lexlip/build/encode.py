"""Encoding: sources to weights, in chunks."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, hstack, vstack

from lexlip.build.held import Held, Sorted
from lexlip.build.progress import CHUNK, Progress, current
from lexlip.build.recipe import Recipe
from lexlip.build.sources import AnySource, given
from lexlip.build.tables import NAMES, Names
from lexlip.data.addresses import is_addressed
from lexlip.data.collection import Collection, Place, load_collection
from lexlip.data.crops import looks, mean_of_looks
from lexlip.data.exif import PHOTO_METADATA
from lexlip.data.images import SUFFIXES, Photo
from lexlip.data.left_out import LeftOut
from lexlip.data.metadata import file_metadata
from lexlip.errors import LexLIPError
from lexlip.filters.columns import nfc
from lexlip.models.speaker import (
    CONSTANT_UNIT,
    HasVectors,
    Speaker,
    levelled,
    require_images,
    require_vectors,
    require_views,
)
from lexlip.storage.file_facts import FileFacts
from lexlip.storage.ids import check_ids
from lexlip.storage.views import Vectors, Views

if TYPE_CHECKING:
    from lexlip.models.speaker import Speaker


@dataclass(frozen=True)
class Alike:
    """Documents with the bytes of others that the index holds: their vectors are taken."""

    ids: list[str]
    of: list[str]  # ids of the others
    columns: dict[str, list[Any]]
    facts: list[FileFacts | None]


@dataclass(frozen=True)
class Chunk:
    """Encoded documents of a source, with counts of unchanged and a list of unreadable ones."""

    ids: list[str]
    weights: csr_array  # float32 [N, V]: the words that find
    columns: dict[str, list[Any]]
    unchanged: int
    skipped: list[tuple[str, str]]  # id and reason
    views: Views | None = None  # of N documents, where they are kept
    # float32 [N, V + 1], of a speaker with vectors: the words that are true, and the constant
    said: csr_array | None = None
    vectors: Vectors | None = None  # of N documents, where they are kept
    facts: list[FileFacts | None] = field(default_factory=list)  # of N documents, or none
    alike: Alike | None = None
    seen: tuple[list[str], list[FileFacts | None]] = ([], [])  # unchanged ones, facts to renew


@dataclass(frozen=True)
class Later:
    """A model that is loaded when something is to be encoded with it."""

    load: Callable[[], Speaker]


def loaded(model: Speaker | Later) -> Speaker:
    """Return a model, which is loaded now if it was not yet."""
    return model.load() if isinstance(model, Later) else model


def as_source(
    source: AnySource,
    split: str | None = None,
    exclude: Sequence[str] = (),
    names: Names = NAMES,
) -> Collection | Mapping[str, str]:
    """Return a collection of pictures, or texts by id.

    Parameters
    ----------
    source : Collection, path, name, mapping, iterable or table
        Whatever `lexlip.data.collection.load_collection` reads; one picture file; a pattern of
        files (``photos/**/*.jpg``); what `lexlip.build.sources.given` reads, such as a mapping of
        ids to pictures or to texts.
    split : str, optional
        For sources that have several.
    exclude : sequence of str
        Files and folders of a folder to leave out.
    names : Names
        What columns of a table are called.
    """
    if isinstance(source, Collection) and names == NAMES:
        return source
    if (found := given(source, split, names)) is not None:
        return found
    if is_addressed(name := os.fspath(cast(str, source))):
        return load_collection(name, split, exclude=exclude)
    path = Path(os.fspath(cast(str, source)))
    if path.parts[:1] == ("~",):
        source = path = path.expanduser()
    if glob.has_magic(str(path)) and not path.exists():
        return _matching(path, split, exclude)
    if path.suffix.lower() in SUFFIXES and split is None and not path.is_dir():
        place = Place(str(path.resolve()))
        return Collection([path.name], [[]], [path], source=str(path), place=place)
    return load_collection(os.fspath(path), split, exclude=exclude)


def _matching(pattern: Path, split: str | None, exclude: Sequence[str]) -> Collection:
    """Return the pictures of a folder that match a pattern; their ids are those in the folder."""
    parts = pattern.parts
    first = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    folder = Path(*parts[:first])
    if not folder.is_dir():
        raise LexLIPError(f"{pattern}: there is no folder {folder}")
    whole = load_collection(folder, split, exclude=exclude)
    wanted = Path(*parts[first:]).as_posix()
    found = {nfc(path.relative_to(folder).as_posix()) for path in folder.glob(wanted)}
    if not (rows := [row for row, name in enumerate(whole.ids) if name in found]):
        raise LexLIPError(f"{pattern}: no picture matches ({len(whole)} are in {folder})")
    chosen = whole.select(rows)
    chosen.left_out = LeftOut(closed=whole.left_out.closed, patterns=whole.left_out.patterns)
    return chosen


def check_excluding(documents: Any, exclude: Sequence[str]) -> None:
    """Raise when patterns are given for what is no folder of pictures, and would be ignored."""
    if exclude and not (isinstance(documents, Collection) and documents.left_out.patterns):
        raise LexLIPError("--exclude (exclude=) goes with folders of pictures: leave it out here")


def check_heads(model: Speaker, recipe: Recipe) -> None:
    """Raise when the recipe keeps views and the model has no heads, and the like.

    Raises
    ------
    LexLIPError
        Also without vectors to keep, and for corners of a model that sees pictures as a whole.
    """
    if recipe.keep_views:
        require_views(model)
    if recipe.vectors == "yes":
        require_vectors(model)
    if recipe.crops and isinstance(model, HasVectors):
        raise LexLIPError(
            f"{type(model).__name__} codes a picture as a whole: leave out crops (--crops)"
        )


def chunks(
    model: Speaker | Later,
    source: Collection | Mapping[str, str],
    known: Held | None = None,
    recipe: Recipe = Recipe(),
    *,
    size: int = CHUNK,
    batch_size: int = 32,
) -> Iterator[Chunk]:
    """Encode a source, `size` documents at a time.

    Parameters
    ----------
    model : Speaker or Later
    source : Collection or mapping of str to str
        Pictures, or texts by id.
    known : Held, optional
        What the index holds: unchanged pictures are passed over, and of pictures with the bytes of
        one that is held the vectors are taken. Texts are always encoded.
    recipe : Recipe
        How documents are encoded; the term budget is applied by what stores the chunks.
    size, batch_size : int
        Documents per chunk at most, and pictures that go through the model together.
    """
    ids = source.ids if isinstance(source, Collection) else list(source)
    told = current()
    told.begin(len(ids), "picture" if isinstance(source, Collection) else "document")
    try:
        start, step = 0, min(size, told.first if known is None else told.chunk)
        while start < len(ids):
            numbers = range(start, min(start + step, len(ids)))
            if isinstance(source, Collection):
                chunk = encode_pictures(model, source, numbers, known, recipe, batch_size, told)
            else:
                chunk = _encode_texts(loaded(model), source, ids, numbers, recipe)
                told.advance(len(numbers))
            yield chunk
            # What is unchanged is gone through in large steps.
            start, step = numbers.stop, min(size, told.chunk if chunk.ids else 2 * step)
    finally:
        told.end()


def _encode_texts(
    model: Speaker,
    source: Mapping[str, str],
    ids: list[str],
    numbers: Sequence[int],
    recipe: Recipe,
) -> Chunk:
    names = [ids[i] for i in numbers]
    encoded = _encode(model, [source[name] for name in names], recipe)
    told: Mapping[str, Sequence[Any]] = getattr(source, "columns", {})
    columns = {name: [values[i] for i in numbers] for name, values in told.items()}
    return Chunk(list(map(nfc, names)), columns=columns, unchanged=0, skipped=[], **encoded)


def columns_of(source: Collection, numbers: Sequence[int]) -> dict[str, list[Any]]:
    """Return metadata of some pictures: the collection's columns, and those of their files."""
    names = [source.ids[i] for i in numbers]
    facts = file_metadata(names, [source.picture(i) for i in numbers])
    facts = {name: values for name, values in facts.items() if any(v is not None for v in values)}
    return {name: [values[i] for i in numbers] for name, values in source.columns.items()} | facts


def _nameable(
    source: Collection, numbers: Sequence[int], skipped: list[tuple[str, str]]
) -> list[int]:
    """Return the numbers of the pictures that can have their ids; the others are skipped."""
    kept = []
    for number in numbers:
        try:
            check_ids([source.ids[number]])
            kept.append(number)
        except LexLIPError as error:
            skipped.append((str(source.ids[number]), str(error)))
    return kept


def photo_columns(told: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return what photographs say of themselves as columns, without those that none says."""
    columns = {name: [facts.get(name) for facts in told] for name in PHOTO_METADATA}
    return {n: values for n, values in columns.items() if any(v is not None for v in values)}


def encode_pictures(
    model: Speaker | Later,
    source: Collection,
    numbers: Sequence[int],
    known: Held | None = None,
    recipe: Recipe = Recipe(),
    batch_size: int = 32,
    told: Progress | None = None,
) -> Chunk:
    """Encode the pictures with these row numbers; see `chunks`.

    Pictures that cannot have their id, or cannot be read, are skipped.
    """
    skipped: list[tuple[str, str]] = []
    placed = source.place is not None
    asked, numbers = len(numbers), _nameable(source, numbers, skipped)
    names = [source.ids[i] for i in numbers]
    columns = columns_of(source, numbers)
    pictures = [source.picture(i) for i in numbers]
    if known is None:
        fresh, hashed = list(range(len(names))), [FileFacts.of(it, placed) for it in pictures]
        found = Sorted([], [], fresh, hashed)
    else:
        found = known.sort(names, pictures, columns, placed)
    chosen = source.select(numbers[i] for i in found.fresh)
    read: list[int] = []
    parts: list[dict[str, Any]] = []
    said_of: list[dict[str, Any]] = []
    if not isinstance(model, Later):
        require_images(model)
    if found.fresh:
        for rows, seen in _prepared(loaded(model), chosen, recipe, batch_size, skipped):
            whole, *corners = zip(*(images for _, images in seen), strict=True)
            parts.append(_encode(loaded(model), whole, recipe, corners))
            read += [found.fresh[row] for row in rows]
            said_of += [of_photo for of_photo, _ in seen]
            if told is not None:
                told.advance(len(rows))
    if told is not None:
        told.advance(asked - len(read))
    alike = [row for row, _ in found.alike]
    renewed = [row for row in found.unchanged if found.facts[row] is not None]

    def chosen_of(rows: list[int]) -> tuple[dict[str, list[Any]], list[FileFacts | None]]:
        taken = {name: [values[i] for i in rows] for name, values in columns.items()}
        return taken, [found.facts[i] for i in rows]

    metadata, facts = chosen_of(read)
    of = [name for _, name in found.alike]
    moved, moved_facts = chosen_of(alike)
    if known is not None:
        moved = photo_columns(known.metadata(of)) | moved
    return Chunk(
        [names[i] for i in read],
        columns=photo_columns(said_of) | metadata,
        unchanged=len(found.unchanged),
        skipped=skipped,
        facts=facts,
        alike=Alike([names[i] for i in alike], of, moved, moved_facts) if alike else None,
        seen=([names[i] for i in renewed], chosen_of(renewed)[1]),
        **(_joined(parts) if parts else _nothing(model, recipe)),
    )


def _prepared(
    model: Speaker,
    source: Collection,
    recipe: Recipe,
    size: int,
    skipped: list[tuple[str, str]],
) -> Iterator[tuple[list[int], list[tuple[dict[str, Any], list[Any]]]]]:
    """Yield batches of pictures as the model sees them, whole and in corners, with their facts.

    Threads decode them, one at a time each, and keep only what is small.
    """
    encoder = require_images(model)
    crops = 0 if isinstance(model, HasVectors) else recipe.crops

    def prepare(photo: Photo) -> tuple[dict[str, Any], list[Any]]:
        return photo.facts, [encoder.prepare_image(one) for one in looks(photo.image, crops)]

    yield from source.batches(size, skipped, prepare, encoder.image_side)


def _encode(
    model: Speaker, items: Sequence[Any], recipe: Recipe, corners: Sequence[Sequence[Any]] = ()
) -> dict[str, Any]:
    """Encode texts or pictures: the weights of a `Chunk`, and whatever else is kept of each.

    Parameters
    ----------
    model, items, recipe
    corners : sequence of sequences of pictures
        One corner of all pictures each.
    """
    texts = isinstance(items[0], str)
    found: dict[str, Any] = {}
    if recipe.keep_views:
        sees = require_views(model)
        look = sees.represent_text if texts else sees.represent_image
        found["weights"], found["views"] = look(items)
    if isinstance(model, HasVectors):
        whole = model.represent(items, max_terms=recipe.max_terms)
        vectors = {} if recipe.vectors == "no" else {"vectors": whole.vectors}
        said = _with_constant(whole.said, whole.vectors.constant)
        return found | {"weights": whole.weights, "said": said, **vectors}
    encode: Callable[..., Any] = model.encode_text
    if not texts:
        encode = require_images(model).encode_image
    if not found:
        found["weights"] = encode(items)
    whole = mean_of_looks(encode, *corners, whole=found["weights"])
    return found | {"weights": levelled(model, whole, texts)}


def _joined(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Join what `_encode` made of some batches."""
    joined: dict[str, Any] = {}
    for name, first in parts[0].items():
        several = [part[name] for part in parts]
        if isinstance(first, Views | Vectors):
            joined[name] = type(first).concatenate(several)
        else:
            joined[name] = csr_array(vstack(several, format="csr"))
    return joined


def _nothing(model: Speaker | Later, recipe: Recipe) -> dict[str, Any]:
    """Return what there is of no document."""
    if isinstance(model, Later):
        return {"weights": csr_array((0, 0), dtype=np.float32)}
    if not isinstance(model, HasVectors):
        return {"weights": csr_array(require_images(model).encode_image([]))}
    none = csr_array((0, len(model.lexicon.tokens)), dtype=np.float32)
    vectors = Vectors.empty(model.vector_size)
    said = _with_constant(none, vectors.constant)
    return {"weights": none, "said": said, "vectors": vectors}


def _with_constant(said: csr_array, constant: NDArray[np.float32]) -> csr_array:
    """Append the documents' constants, in a column behind the words (`constant_term`)."""
    column = csr_array((CONSTANT_UNIT * np.clip(constant, 0, 1 / CONSTANT_UNIT))[:, None])
    return csr_array(hstack([said, column], format="csr", dtype=np.float32))

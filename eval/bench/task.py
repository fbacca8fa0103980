"""Tasks of the benchmark: settings (config, run folder, keys), pictures, texts and judgements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from eval.bench.systems import Gallery
from lexlip import settings as toml
from lexlip.build.recipe import Recipe
from lexlip.errors import LexLIPError
from lexlip.settings import option, option_of
from lexlip.storage.files import read_json

if TYPE_CHECKING:
    from PIL.Image import Image

M = TypeVar("M", bound="Measured")


@dataclass(frozen=True)
class Measured:
    """A checkpoint and the pictures that it is measured on: keys of every job that takes both."""

    data: str = option("scenes", "collection: scenes, flickr8k, or a folder")
    split: str = option("dev", "split of it; several joined by +")
    limit: int | None = option(None, "number of pictures, the first of each split")
    model: str | None = option(None, "checkpoint folder")
    out: str = option("runs/bench", "folder for the numbers")
    seed: int = option(0, "seed that the checkpoint had; RUN's by default")
    collection: toml.Data = field(default_factory=toml.Data)  # how `data` is cached or drawn


@dataclass(frozen=True)
class Pooled(Measured):
    """The same, with a pool that restricts pictures and queries."""

    pool: str | None = option(None, "JSON list of picture ids to keep; $LEXLIP_PEERS is expanded")


@dataclass(frozen=True)
class Settings(Pooled):
    """Settings of the benchmark; each field is a key, and one of ``[bench]``."""

    dense: str | None = option(None, "checkpoint folder of a dense dual encoder")
    clip: str | None = option(None, "CLIP checkpoint, name or folder")
    clip_embeddings: str | None = option(None, "folder of CLIP vectors")
    bm25: bool = option(False, "BM25 over captions")
    max_terms: int = option_of(Recipe, "max_terms")
    crops: int = option_of(Recipe, "crops")
    levels: bool = option(True, "lengths from the checkpoint's bank; false: all of one")
    engine: str = option("auto", "auto, lucene or postings")
    vectors: str | None = option(None, "file (.npz) for the vectors, to race engines over")


@dataclass(frozen=True)
class Task:
    """A task: the gallery, the queries by id, and the relevant pictures of each."""

    gallery: Gallery
    queries: dict[str, str]
    qrels: dict[str, set[str]]


class Part:
    """Some pictures of one or several collections, read on demand.

    Parameters
    ----------
    collections : Sequence[Gallery]
        Concatenated galleries.
    keep : set[str] or None
        Ids of the pictures to keep; None keeps all.
    """

    def __init__(self, collections: Sequence[Gallery], keep: set[str] | None = None) -> None:
        self._places = [
            (collection, i)
            for collection in collections
            for i, name in enumerate(collection.ids)
            if keep is None or name in keep
        ]
        self.ids = [collection.ids[i] for collection, i in self._places]
        self.captions = [list(collection.captions[i]) for collection, i in self._places]

    def image(self, i: int) -> Image:
        """Picture number i."""
        collection, place = self._places[i]
        return collection.image(place)

    def __len__(self) -> int:
        return len(self._places)


def load_task(settings: Pooled) -> Task:
    """Read the collection (several splits joined by ``+``), restricted to the pool if there is one.

    Raises
    ------
    LexLIPError
        Unknown data or split, or a pool that shares no picture or query with the data.
    """
    source = replace(settings.collection, source=settings.data)
    collections = [source.open(split) for split in settings.split.split("+")]
    if settings.limit is not None:
        collections = [c.select(range(min(settings.limit, len(c)))) for c in collections]
    qrels = {query: items for c in collections for query, items in c.qrels.items()}
    pool: set[str] | None = None
    asked: dict[str, str] | None = None
    if settings.pool is not None:
        pool, asked = read_pool(toml.resolve(settings.pool))
    gallery = Part(collections, pool)
    inside = set(gallery.ids)
    texts = {
        f"{name}#{i}": text
        for name, captions in zip(gallery.ids, gallery.captions, strict=True)
        for i, text in enumerate(captions)
    }
    if asked is not None:
        texts = {q: t for q, t in asked.items() if q.rpartition("#")[0] in inside}
    if not texts:
        raise LexLIPError(
            f"no queries for {settings.data}, split {settings.split}: choose data whose pictures "
            "have captions and are in the pool"
        )
    if pool is not None and asked is not None:
        typer.echo(
            f"pool: {len(gallery)} of {len(pool)} pictures, {len(texts)} of {len(asked)} queries"
        )
    judged = {q: qrels.get(q, {q.rpartition("#")[0]}) & inside for q in texts}
    return Task(gallery, texts, judged)


def read_pool(path: str | Path) -> tuple[set[str], dict[str, str] | None]:
    """Read a pool: a JSON list of picture ids and, if it is in the same folder, ``queries.tsv``.

    Raises
    ------
    LexLIPError
        The file is missing or not a list of ids.
    """
    from eval.bench.baselines.clip import read_queries

    ids = read_json(path)
    if not isinstance(ids, list) or not all(isinstance(name, str) for name in ids):
        raise LexLIPError(f"the pool {path} is not a JSON list of picture ids")
    queries = Path(path).with_name("queries.tsv")
    return set(ids), read_queries(queries) if queries.exists() else None


def read_settings(
    kind: type[M],
    config: str | Path | None = None,
    overrides: Sequence[str] | None = None,
    run: str | None = None,
    trained: str = "stage2",
    into_run: bool = True,
) -> M:
    """Settings: ``key=value`` before a run's folder before ``[bench]`` and ``[data]`` of a config.

    Parameters
    ----------
    kind : dataclass
        The settings of a job; keys of ``[bench]`` that it lacks are left out.
    config : str or Path, optional
        TOML file, or the name of a shipped one.
    overrides : sequence of str, optional
        Each for a field of `kind`.
    run : str, optional
        Folder that training wrote: its `trained` and, if there is one, its ``dense`` are measured.
    trained : str
        Checkpoint of the run that is measured.
    into_run : bool
        Write the results into the folder of the run.

    Raises
    ------
    LexLIPError
        Unreadable file, or an unknown key (the nearest one is named).
    """
    table: dict[str, Any] = {}
    if config is not None:
        file = toml.read(config)
        shared = toml.build(toml.Data, file.get("data", {}), "data.")
        bench = file.get("bench", {})
        toml.build(Settings, bench, "bench.")  # so that errors name the table
        table = {"data": shared.source, "split": shared.dev, **bench}
        table["collection"] = file.get("data", {})
    if run is not None:
        table |= {"model": f"{run}/{trained}"} | ({"out": run} if into_run else {})
        if Path(run, "dense", "config.json").is_file():
            table["dense"] = f"{run}/dense"
        manifest = Path(run, trained, "manifest.json")
        if manifest.is_file():
            table["seed"] = read_json(manifest)["settings"]["seed"]
    known = {one.name for one in fields(kind)}
    table = {name: value for name, value in table.items() if name in known}
    return toml.build(kind, toml.override(table, overrides or (), kind), "")

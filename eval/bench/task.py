"""What to measure: settings (config, run folder, options), pictures, texts and judgements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from eval.bench.systems import Gallery
from lexlip import settings as toml
from lexlip.errors import LexLIPError
from lexlip.storage.files import read_json

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Settings:
    """What to measure; each field is an option of the command and a key of ``[bench]``."""

    data: str = "scenes"
    split: str = "dev"
    limit: int | None = None
    model: str | None = None
    dense: str | None = None
    clip: str | None = None
    clip_embeddings: str | None = None
    bm25: bool = False
    max_terms: int = 64
    crops: int = 0  # corners of each picture that are looked at beside the whole
    engine: str = "auto"
    pool: str | None = None  # $LEXLIP_PEERS and the like are expanded
    vectors: str | None = None  # .npz file for `eval.race.engines`
    out: str = "runs/bench"
    seed: int = 0
    collection: toml.Data = field(default_factory=toml.Data)  # how `data` is cached or drawn


@dataclass(frozen=True)
class Task:
    """One set of questions: the gallery, the texts that ask, and what is relevant to each."""

    gallery: Gallery
    queries: dict[str, str]
    qrels: dict[str, set[str]]


class Part:
    """Some pictures of one or several collections, read when asked for.

    Parameters
    ----------
    collections : Sequence[Gallery]
        Galleries laid end to end.
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


def load_task(settings: Settings) -> Task:
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
            "have captions and lie in the pool"
        )
    if pool is not None and asked is not None:
        typer.echo(
            f"pool: {len(gallery)} of {len(pool)} pictures, {len(texts)} of {len(asked)} queries"
        )
    judged = {q: qrels.get(q, {q.rpartition("#")[0]}) & inside for q in texts}
    return Task(gallery, texts, judged)


def read_pool(path: str | Path) -> tuple[set[str], dict[str, str] | None]:
    """Read a pool: a JSON list of picture ids and, if it stands beside it, ``queries.tsv``.

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
    config: str | Path | None, options: Mapping[str, Any], run: str | None = None
) -> Settings:
    """Settings from the tables ``[bench]`` and ``[data]`` of a config, then of a run's folder,
    then options that are given.

    Parameters
    ----------
    config : str or Path, optional
        TOML file, or the name of a shipped one.
    options : Mapping[str, Any]
        Those that are None were not given.
    run : str, optional
        Folder that training wrote: its ``stage2`` and, if it is there, its ``dense`` are
        measured, and results go into the folder itself.

    Raises
    ------
    LexLIPError
        Unreadable file, or a key that is no setting (the nearest one is named).
    """
    table: dict[str, Any] = {}
    if config is not None:
        file = toml.read(config)
        shared = toml.build(toml.Data, file.get("data", {}), "data.")
        table = {"data": shared.source, "split": shared.dev, **file.get("bench", {})}
        table["collection"] = shared
    if run is not None:
        table = {"model": f"{run}/stage2", **table, "out": run}
        if Path(run, "dense", "config.json").is_file():
            table["dense"] = f"{run}/dense"
        manifest = Path(run, "stage2", "manifest.json")
        if manifest.is_file():
            table["seed"] = read_json(manifest)["settings"]["seed"]
    given = {key: value for key, value in options.items() if value is not None}
    return toml.build(Settings, {**table, **given}, "bench.")

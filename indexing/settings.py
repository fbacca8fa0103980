"""Settings of the indexing jobs: ``key=value`` before a run's folder before a config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lexlip import settings as toml
from lexlip.build.encode import CHUNK
from lexlip.build.recipe import Recipe
from lexlip.build.write import check_skipped
from lexlip.errors import LexLIPError
from lexlip.settings import Data, option
from lexlip.storage.remote import check_local


@dataclass(frozen=True)
class Settings(Recipe):
    """Settings of the jobs; each field is a key, and one of ``[index]``."""

    data: str = option("scenes", "data set name, folder, CSV, parquet or JSON")
    split: str | None = option(None, "split of the data set")
    exclude: tuple[str, ...] = option((), "files and folders to leave out: *.tmp.jpg,2024/raw")
    model: str = option("", "checkpoint folder")
    out: str = option("", "folder to write")
    device: str = option("auto", "where networks run: auto (a GPU if one is there), cpu, cuda ...")
    workers: int = option(1, "processes that encode, each with its own model")
    shards: int = option(1, "processes that write Lucene")
    part_size: int = option(CHUNK, "documents a kill may cost; the first part fixes the scale")
    max_skipped: float = option(1.0, "share of pictures that may be skipped; more is an error")
    runner: str = option("local", "who encodes: local (processes), or ray (machines of a cluster)")
    address: str = option("", "HOST:PORT of a Ray cluster, or auto; by default this machine alone")
    through: str = option("", "folder or URL that all machines see; by default that of the parts")
    cpus: float = option(1.0, "on Ray, CPUs of a worker")
    gpus: float = option(0.0, "on Ray, GPUs of a worker")
    tries: int = option(4, "on Ray, how often a part may fail")
    part_timeout: float = option(1800.0, "on Ray, seconds that a part may take")
    start_timeout: float = option(120.0, "on Ray, seconds until a worker has started")
    job_timeout: float = option(0.0, "on Ray, seconds that all may take; 0 is no limit")
    keep_parts: bool = option(False, "keep the encoded parts in OUT.parts")

    @property
    def recipe(self) -> Recipe:
        """Return the recipe without the other settings."""
        return Recipe.of(self.facts())

    def check(self) -> None:
        """Fail now, not after an hour of encoding.

        Raises
        ------
        LexLIPError
            No checkpoint, nowhere to write, or a number below one.
        """
        named = (Path(self.model) / name for name in ("config.json", "lexlip_config.json"))
        if not self.model or not any(path.is_file() for path in named):
            raise LexLIPError(
                f"no checkpoint in {self.model!r}: give the folder of a trained model"
            )
        if not self.out:
            raise LexLIPError("nowhere to write: give out=FOLDER or --run")
        check_local(self.out)
        check_skipped(self.out, 0, 0, self.max_skipped)
        if self.runner not in ("local", "ray"):
            raise LexLIPError(f"runner is {self.runner!r}: give local or ray")
        if self.runner == "local" and (self.address or self.through):
            raise LexLIPError("address and through go with runner=ray: leave them out, or give it")
        if min(self.cpus, self.gpus, self.job_timeout) < 0 or self.cpus + self.gpus == 0:
            raise LexLIPError("cpus, gpus and job_timeout are 0 or more, one of the first two more")
        for name in ("workers", "shards", "part_size", "tries"):
            if getattr(self, name) < 1:
                raise LexLIPError(f"{name} is {getattr(self, name)}: give 1 or more")


def read(
    config: str | None, run: str | None, overrides: Sequence[str] | None, out: str
) -> tuple[Settings, Data]:
    """Put settings together.

    Parameters
    ----------
    config : str, optional
        TOML file, or the name of a shipped one.
    run : str, optional
        Folder that training wrote: its second stage is the model; with `keep_views`, its heads.
    overrides : sequence of str, optional
        ``key=value``, each for a field of `Settings`.
    out : str
        What is written in the folder of a run.
    """
    shared, table = Data(), dict[str, Any]()
    if config is not None:
        file = toml.read(config)
        shared = toml.build(Data, file.get("data", {}), "data.")
        table = {"data": shared.source, "split": shared.dev, **file.get("index", {})}
        toml.build(Settings, table, "index.")  # so that errors name the table
    given = toml.override({}, overrides or (), Settings)
    if run is not None:
        views = given.get("keep_views", table.get("keep_views"))
        table |= {"model": f"{run}/{'heads' if views else 'stage2'}", "out": f"{run}/{out}"}
    return toml.build(Settings, {**table, **given}, ""), shared

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
        if not (Path(self.model) / "config.json").is_file():
            raise LexLIPError(
                f"no checkpoint in {self.model!r}: give the folder of a trained model"
            )
        if not self.out:
            raise LexLIPError("nowhere to write: give out=FOLDER or --run")
        check_skipped(self.out, 0, 0, self.max_skipped)
        for name in ("workers", "shards", "part_size"):
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

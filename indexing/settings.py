"""Settings of the jobs that encode and index: options first, then a run's folder, then a config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lexlip import settings as toml
from lexlip.build.encode import CHUNK
from lexlip.data.crops import check_crops
from lexlip.errors import LexLIPError
from lexlip.settings import Data


@dataclass(frozen=True)
class Settings:
    """What to index; each field is an option of a command and a key of ``[index]``."""

    data: str = "scenes"
    split: str | None = None
    model: str = ""
    out: str = ""
    max_terms: int = 64
    engine: str = "lucene"
    workers: int = 1  # processes that encode, each with a model of its own
    shards: int = 1  # processes that write Lucene
    part_size: int = CHUNK  # documents that a kill may cost; the first part fixes the scale
    keep_parts: bool = False
    keep_floats: bool = False
    keep_views: bool = False  # what rerankers look at
    crops: int = 0  # corners of each picture that are looked at beside the whole

    def check(self) -> None:
        """Complain about what would fail after an hour.

        Raises
        ------
        LexLIPError
            No checkpoint, nowhere to write, or a number below one.
        """
        if not (Path(self.model) / "config.json").is_file():
            raise LexLIPError(f"no checkpoint in {self.model!r}: give the folder training wrote")
        if not self.out:
            raise LexLIPError("nowhere to write: give --out or --run")
        for name in ("workers", "shards", "part_size"):
            if getattr(self, name) < 1:
                raise LexLIPError(f"{name} is {getattr(self, name)}: give 1 or more")
        check_crops(self.crops)


def read(
    config: str | None, run: str | None, options: Mapping[str, Any], out: str
) -> tuple[Settings, Data]:
    """Put settings together.

    Parameters
    ----------
    config : str, optional
        TOML file, or the name of a shipped one.
    run : str, optional
        Folder that training wrote: its second stage is the model.
    options : mapping
        What the command line says; None is left out. With `keep_views` the model of a run is the
        one with heads.
    out : str
        What is written in the folder of a run.
    """
    shared, table = Data(), dict[str, Any]()
    if config is not None:
        file = toml.read(config)
        shared = toml.build(Data, file.get("data", {}), "data.")
        table = {"data": shared.source, "split": shared.dev, **file.get("index", {})}
    given = {name: value for name, value in options.items() if value is not None}
    if run is not None:
        views = given.get("keep_views", table.get("keep_views"))
        table |= {"model": f"{run}/{'heads' if views else 'stage2'}", "out": f"{run}/{out}"}
    return toml.build(Settings, {**table, **given}, "index."), shared

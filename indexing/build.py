"""Build the index of a data set.

python -m indexing.build --config flickr8k-tiny --run runs/flickr8k-tiny
python -m indexing.build --model runs/demo/stage2 --data photos/ --out photos.lex
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from lexlip import settings as toml
from lexlip.errors import LexLIPError
from lexlip.index import Index
from lexlip.model import LexLIP


@dataclass(frozen=True)
class Settings:
    """What to index; each field is an option of the command and a key of ``[index]``."""

    data: str = "scenes"
    split: str | None = None
    model: str = ""
    out: str = ""
    max_terms: int = 64
    engine: str = "lucene"


def build(settings: Settings, data: toml.Data) -> Index:
    """Encode a split of a data set and write its index; see `lexlip.Index.create`."""
    if not (Path(settings.model) / "config.json").is_file():
        raise LexLIPError(f"no checkpoint in {settings.model!r}: give the folder training wrote")
    if not settings.out:
        raise LexLIPError("nowhere to write: give --out or --run")
    collection = replace(data, source=settings.data).open(settings.split)
    return Index.create(
        settings.out,
        LexLIP.from_pretrained(settings.model),
        collection,
        max_terms=settings.max_terms,
        engine=settings.engine,
        checkpoint=settings.model,
        replace=(Path(settings.out) / "manifest.json").is_file(),
    )


def main(
    config: Annotated[str | None, typer.Option(help="TOML file or a shipped one's name")] = None,
    run: Annotated[str | None, typer.Option(help="folder that training wrote")] = None,
    data: Annotated[str | None, typer.Option(help="data set name, folder, CSV or JSON")] = None,
    split: Annotated[str | None, typer.Option(help="split of the data set")] = None,
    model: Annotated[str | None, typer.Option(help="checkpoint folder")] = None,
    out: Annotated[str | None, typer.Option(help="folder of the new index")] = None,
    max_terms: Annotated[int | None, typer.Option(help="terms kept of a picture")] = None,
    engine: Annotated[str | None, typer.Option(help="lucene, or postings (no Java)")] = None,
) -> None:
    """Build an index and say what it cost."""
    options = {k: v for k, v in locals().items() if k not in ("config", "run") and v is not None}
    began = time.perf_counter()
    try:
        shared, table = toml.Data(), dict[str, Any]()
        if config is not None:
            file = toml.read(config)
            shared = toml.build(toml.Data, file.get("data", {}), "data.")
            table = {"data": shared.source, "split": shared.dev, **file.get("index", {})}
        if run is not None:
            table |= {"model": f"{run}/stage2", "out": f"{run}/index"}
        index = build(toml.build(Settings, {**table, **options}, "index."), shared)
    except LexLIPError as error:
        typer.echo(f"lexlip: {error}", err=True)
        raise typer.Exit(2) from None
    with index:
        facts = index.stats()
    for _, reason in index.skipped:
        typer.echo(f"skipped: {reason}", err=True)
    typer.echo(
        f"{index.path}: {facts['documents']} pictures ({len(index.skipped)} skipped) in "
        f"{time.perf_counter() - began:.1f} s, {facts['terms_per_image']:.1f} terms and "
        f"{facts['bytes_per_image']:.0f} bytes each; quantised with scale {facts['scale']:.0f}, "
        f"cosine to the float vectors {facts['quantisation']['cosine']:.5f}"
    )


if __name__ == "__main__":
    typer.run(main)

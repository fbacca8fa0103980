"""Build the index of a data set: encode it in parts, then write them all into an index at once.

python -m indexing.build --config flickr8k-tiny --run runs/flickr8k-tiny
python -m indexing.build --model runs/demo/stage2 --data photos/ --out photos.lex --workers 4

A build that was killed goes on from the parts beside the index, in photos.lex.parts.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Annotated

import typer

from indexing.encode import PARTS, encode
from indexing.settings import Settings, read
from lexlip.build.manifest import is_index
from lexlip.build.write import check_new
from lexlip.errors import LexLIPError
from lexlip.index import Index
from lexlip.settings import Data


def build(settings: Settings, data: Data) -> Index:
    """Encode a split of a data set and write its index, in place of one that is there.

    Whatever the numbers of workers and shards, searches find what they find in an index that
    `lexlip.Index.create` wrote.

    Parameters
    ----------
    settings : Settings
    data : Data
        How to read the pictures that `settings.data` names.

    Raises
    ------
    LexLIPError
        What `indexing.encode.encode` and `lexlip.Index.from_encoded` raise. An index that was
        there stays, and so do finished parts.
    """
    settings.check()
    replace = is_index(Path(settings.out))
    check_new(settings.out, settings.recipe, replace)
    encoded = encode(settings, data, os.path.realpath(settings.out) + PARTS)
    index = Index.from_encoded(
        settings.out,
        encoded,
        recipe=settings.recipe,
        shards=settings.shards,
        replace=replace,
    )
    if not settings.keep_parts:
        shutil.rmtree(encoded.folder)
    return index


def main(
    config: Annotated[str | None, typer.Option(help="TOML file or a shipped one's name")] = None,
    run: Annotated[str | None, typer.Option(help="folder that training wrote")] = None,
    data: Annotated[str | None, typer.Option(help="data set name, folder, CSV or JSON")] = None,
    split: Annotated[str | None, typer.Option(help="split of the data set")] = None,
    model: Annotated[str | None, typer.Option(help="checkpoint folder")] = None,
    out: Annotated[str | None, typer.Option(help="folder of the new index")] = None,
    max_terms: Annotated[int | None, typer.Option(help="terms kept of a picture")] = None,
    engine: Annotated[str | None, typer.Option(help="lucene, or postings (no Java)")] = None,
    workers: Annotated[int | None, typer.Option(help="processes that encode")] = None,
    shards: Annotated[int | None, typer.Option(help="processes that write Lucene")] = None,
    part_size: Annotated[int | None, typer.Option(help="pictures a part")] = None,
    keep_parts: Annotated[
        bool | None, typer.Option("--keep-parts", help="leave OUT.parts there")
    ] = None,
    keep_floats: Annotated[
        bool | None, typer.Option("--keep-floats", help="keep vectors, for rescoring")
    ] = None,
    keep_views: Annotated[
        bool | None, typer.Option("--keep-views", help="keep what rerankers look at (heads)")
    ] = None,
    crops: Annotated[
        int | None, typer.Option(help="corners to look at beside the whole, 0 to 4")
    ] = None,
) -> None:
    """Build an index and say what it cost."""
    options = {k: v for k, v in locals().items() if k not in ("config", "run")}
    began = time.perf_counter()
    try:
        index = build(*read(config, run, options, "index"))
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

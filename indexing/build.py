"""Bulk build of an index: encode a data set in parts, then write them into an index at once.

python -m indexing.build --config flickr8k-tiny --run runs/flickr8k-tiny
python -m indexing.build model=runs/demo/stage2 data=photos/ out=photos.lex workers=4

A killed build goes on from the parts in photos.lex.parts.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import typer

from indexing.encode import PARTS, encode
from indexing.settings import Settings, read
from lexlip.build.manifest import is_index
from lexlip.build.write import check_new
from lexlip.cli.console import Config, Job, Overrides, Run, one_line, said_once
from lexlip.index import Index
from lexlip.settings import Data


def build(settings: Settings, data: Data) -> Index:
    """Encode a split of a data set and write its index, replacing an existing one.

    For any numbers of workers and shards, hits are those of an index that `lexlip.Index.create`
    wrote.

    Parameters
    ----------
    settings : Settings
    data : Data
        How to read the pictures that `settings.data` names.

    Raises
    ------
    LexLIPError
        As `indexing.encode.encode` and `lexlip.Index.from_encoded`. An existing index and
        finished parts stay.
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
        max_skipped=settings.max_skipped,
    )
    if not settings.keep_parts:
        shutil.rmtree(encoded.folder)
    return index


def main(overrides: Overrides = None, config: Config = None, run: Run = None) -> None:
    """Build an index and print its cost."""
    began = time.perf_counter()
    index = build(*read(config, run, overrides, "index"))
    with index:
        facts = index.stats()
    skipped = said_once(reason for _, reason in index.skipped)
    for line in (*index.said, *(f"skipped: {reason}" for reason in skipped)):
        typer.echo(one_line(line), err=True)
    typer.echo(
        f"{index.path}: {facts['documents']} pictures ({len(index.skipped)} skipped) in "
        f"{time.perf_counter() - began:.1f} s, {facts['terms_per_image']:.1f} terms and "
        f"{facts['bytes_per_image']:.0f} bytes each; quantised with scale {facts['scale']:.0f}, "
        f"cosine to the float vectors {facts['quantisation']['cosine']:.5f}"
    )


app = Job(main, Settings)

if __name__ == "__main__":
    app()

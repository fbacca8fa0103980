"""Encoding of a data set into a folder of parts, in several processes; a killed run goes on.

python -m indexing.encode --config flickr8k-tiny --run runs/flickr8k-tiny workers=4
python -m indexing.encode model=runs/demo/stage2 data=photos/ out=photos.lex.parts

python -m indexing.encode ... runner=ray address=HEAD:6379 workers=16

`indexing.build` with out=photos.lex does the same first, and reuses the parts in photos.lex.parts.
"""

from __future__ import annotations

import functools
import os
import shutil
import time
from concurrent.futures import as_completed
from dataclasses import replace
from typing import Any

import typer
from tqdm import tqdm

from indexing.on_ray import encode_on_ray
from indexing.settings import Settings, read
from lexlip.build.encode import Chunk, check_heads, encode_pictures
from lexlip.build.encoded_parts import Encoded
from lexlip.build.processes import worker_processes
from lexlip.cli.console import Config, Job, Overrides, Run, one_line, said_once
from lexlip.data.collection import Collection
from lexlip.errors import LexLIPError
from lexlip.models import load, runtime
from lexlip.models.speaker import Speaker
from lexlip.settings import Data

PARTS = ".parts"
"""Suffix of the folder of an index's encoded parts."""


def encode(settings: Settings, data: Data, folder: str | os.PathLike[str]) -> Encoded:
    """Encode a split of a data set into `folder`.

    Sound parts of the same model, recipe, pictures and metadata are reused: a kill costs the parts
    that were being encoded.

    Parameters
    ----------
    settings : Settings
        `out`, `engine` and `shards` are ignored.
    data : Data
        How to read the pictures that `settings.data` names.
    folder : path

    Raises
    ------
    LexLIPError
        No readable picture (nothing is left behind), another process encodes into the folder, the
        disk is full, or a worker process died.
    """
    settings.check()
    runtime.share_cores()
    runtime.use_device(settings.device)
    model = load(settings.model)
    check_heads(model, settings.recipe)
    source = _pictures(settings, data)
    with Encoded.plan(
        folder,
        model,
        source,
        settings.recipe,
        settings.model,
        settings.part_size,
    ) as encoded:
        todo = encoded.missing()
        with tqdm(total=len(source), desc="encoding", unit="picture", disable=None) as bar:
            bar.update(len(source) - sum(len(encoded.rows(number)) for number in todo))
            if settings.runner == "ray" and todo:
                del model  # each worker loads its own
                encode_on_ray(
                    settings, source, encoded, todo, lambda n: bar.update(len(encoded.rows(n)))
                )
            elif min(settings.workers, len(todo)) > 1:
                del model  # each worker loads its own
                _encode_apart(settings, data, encoded, todo, bar)
            else:
                for number in todo:
                    encoded.write(number, _encode(model, source, encoded, number))
                    bar.update(len(encoded.rows(number)))
        if not any(chunk.ids for chunk in encoded):
            reason = encoded.read(0).skipped[0][1]
            shutil.rmtree(encoded.folder)
            raise LexLIPError(f"no readable picture in {source.source} ({reason})")
    return encoded


def _encode(model: Speaker, source: Collection, encoded: Encoded, number: int) -> Chunk:
    return encode_pictures(model, source, encoded.rows(number), recipe=encoded.recipe)


def _pictures(settings: Settings, data: Data) -> Collection:
    return replace(data, source=settings.data).open(settings.split, settings.exclude)


def _encode_apart(
    settings: Settings, data: Data, encoded: Encoded, todo: list[int], bar: Any
) -> None:
    """Encode parts in worker processes; each takes the next part when it is done."""
    workers = min(settings.workers, len(todo))
    threads = max(1, runtime.threads() // workers)
    advice = "run it again, with fewer workers if memory is short; finished parts stay"
    with worker_processes(workers, advice, _begin, settings, data, encoded, threads) as pool:
        futures = [pool.submit(_encode_part, number) for number in todo]
        for future in as_completed(futures):
            bar.update(len(encoded.rows(future.result())))


_job: tuple[Settings, Data, Encoded]


def _begin(settings: Settings, data: Data, encoded: Encoded, threads: int) -> None:
    """Give a worker its job."""
    global _job
    _job = (settings, data, encoded)
    runtime.set_threads(threads)


@functools.cache
def _tools() -> tuple[Speaker, Collection]:
    """Open the model and the pictures of a worker, once."""
    settings, data, encoded = _job
    runtime.use_device(settings.device)
    model, source = load(settings.model), _pictures(settings, data)
    if not encoded.is_of(model, source):
        raise LexLIPError("the model or the pictures changed while encoding: run it again")
    return model, source


def _encode_part(number: int) -> int:
    (model, source), (_, _, encoded) = _tools(), _job
    encoded.write(number, _encode(model, source, encoded, number))
    return number


def main(overrides: Overrides = None, config: Config = None, run: Run = None) -> None:
    """Encode pictures into parts; existing parts stay.

    How an index is written does not matter here: engine, keep_floats, keep_parts and shards.
    """
    began = time.perf_counter()
    settings, shared = read(config, run, overrides, "index" + PARTS)
    encoded = encode(settings, shared, settings.out)
    skipped = [reason for chunk in encoded for _, reason in chunk.skipped]
    said = [*encoded.left_out, *(f"skipped: {why}" for _, why in encoded.skipped)]
    for line in (*said, *(f"skipped: {reason}" for reason in said_once(skipped))):
        typer.echo(one_line(line), err=True)
    typer.echo(
        f"{encoded.folder}: {encoded.manifest['documents'] - len(skipped)} pictures "
        f"({len(skipped)} skipped) in {len(encoded)} parts, {time.perf_counter() - began:.1f} s"
    )


app = Job(main, Settings)

if __name__ == "__main__":
    app()

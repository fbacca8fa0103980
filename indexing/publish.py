"""Publication: encoded parts, or an index that is there already, to a cluster; a kill costs little.

python -m indexing.publish source=photos.parts out=photos.lex engine=opensearch:http://HOST:9200/photos
python -m indexing.publish source=local.lex out=photos.lex engine=opensearch:http://HOST:9200/photos

Documents go to a build of their own, which is compared with the source. Then it takes the place of
the index at `out`, and the name in the cluster. Killed? Run the same line again.
"""

from __future__ import annotations

import dataclasses
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import typer
from tqdm import tqdm

from indexing.publishing import Parts, Source, Whole
from indexing.staging import Staging
from lexlip.build.encoded_parts import Encoded
from lexlip.build.manifest import is_index
from lexlip.build.recipe import Recipe
from lexlip.build.side_stores import SideStores
from lexlip.build.write import check_new, check_skipped
from lexlip.cli.console import Job, Overrides
from lexlip.engines import ENGINES, Engine
from lexlip.errors import LexLIPError
from lexlip.index import Index
from lexlip.settings import from_overrides, option
from lexlip.storage.remote import check_local

_NAMED = 3


@dataclass(frozen=True)
class Settings:
    """Settings of the job; each field is a key."""

    source: str = option("", "folder of encoded parts, or an index")
    out: str = option("", "folder of the index to write, replacing one that is there")
    engine: str = option("", "where its postings go: opensearch:PLACE or milvus:PLACE")
    keep_floats: bool = option(False, "of parts: store unquantised vectors too, to rescore")
    commit: int = option(10_000, "documents a commit, about: the most that a kill costs")
    sample: int = option(1_000, "documents that are compared before the swap")
    seed: int | None = option(None, "of the sample; drawn by default, and printed")
    max_skipped: float = option(1.0, "of parts: share of pictures that may be skipped")
    fresh: bool = option(False, "publish anew, also what is published or was begun")

    def check(self) -> None:
        """Fail now, not after an hour.

        Raises
        ------
        LexLIPError
            Nothing to read or to write, no distant engine, or a number below one.
        """
        if not self.source or not self.out:
            raise LexLIPError("give source=PARTS or source=INDEX, and out=FOLDER")
        check_local(self.out)
        if os.path.realpath(self.source) == os.path.realpath(self.out):
            raise LexLIPError(f"{self.out} is the source too: give another folder as out")
        Recipe(engine=self.engine or "none")
        if self.engine in ENGINES:
            raise LexLIPError(
                f"{self.engine} is an engine of this machine: give one as "
                "engine=opensearch:http://HOST:9200/NAME, or make the index with indexing.build"
            )
        for name in ("commit", "sample"):
            if getattr(self, name) < 1:
                raise LexLIPError(f"{name} is {getattr(self, name)}: give 1 or more")


@dataclass(frozen=True)
class Published:
    """What was done.

    Attributes
    ----------
    documents, sent : int
        Of the index, and how many of them this run sent.
    seconds : float
        That sending took.
    compared, seed : int
        Documents of the sample.
    """

    documents: int
    sent: int = 0
    seconds: float = 0.0
    compared: int = 0
    seed: int = 0


def publish(settings: Settings) -> Published:
    """Publish documents to a distant engine, each exactly once, and swap when they are right.

    What a killed run committed is not sent again. The index at `out`, and what the name in the
    cluster leads to, stay as they are until the new one was compared with the source.

    Parameters
    ----------
    settings : Settings

    Raises
    ------
    LexLIPError
        For a source that cannot be read, a cluster that cannot be reached or refuses a document,
        and where the engine gives other documents than the source.
    """
    settings.check()
    with _source(settings) as source:
        if not len(source):
            raise LexLIPError(f"{settings.source} holds no documents: nothing is published")
        check_new(settings.out, Recipe(engine=settings.engine), replace=True)
        staging = Staging(settings.out, source, settings.engine)
        with staging.held():
            if not settings.fresh and staging.done():
                return Published(len(source))
            if settings.fresh:
                staging.discard()
            staging.begin()
            return _publish(settings, source, staging)


def _publish(settings: Settings, source: Source, staging: Staging) -> Published:
    """Send what is missing, compare, and swap."""
    seed = secrets.randbelow(2**32) if settings.seed is None else settings.seed
    with staging.opened() as (engine, stores):
        began = time.perf_counter()
        there = resumable(engine, source)
        _send(settings, source, there, engine, stores)
        seconds = time.perf_counter() - began
        wrong = differences(engine, source, settings.sample, seed)
        noted = {"documents": len(engine), "generation": engine.generation, "seed": seed}
    if wrong:
        staging.discard()
        raise LexLIPError(
            f"what was published is not what {settings.source} holds ({wrong}; seed={seed}): the "
            "old index stays, look at the cluster and publish again"
        )
    staging.publish(noted)
    count = len(source)
    return Published(count, count - there, seconds, min(settings.sample, count), seed)


def _send(
    settings: Settings, source: Source, there: int, engine: Engine, stores: SideStores
) -> None:
    """Send the documents after the first ones, with a commit after some thousand."""
    waiting = 0
    with tqdm(total=len(source), desc="publishing", unit="document", disable=None) as bar:
        bar.update(there)
        for batch in source.batches(there):
            batch.keep(stores)  # first: a killed writer must not lose any
            engine.add(batch.ids, batch.impacts, batch.columns)
            bar.update(len(batch.ids))
            waiting += len(batch.ids)
            if waiting >= settings.commit:
                engine.commit()
                waiting = 0
        engine.commit()


@contextmanager
def _source(settings: Settings) -> Iterator[Source]:
    path = Path(settings.source)
    if is_index(path) and _is_parts(path) is None:
        with Index.open(path) as index:
            yield Whole(index, settings.engine)
        return
    encoded = Encoded.open(path)
    recipe = dataclasses.replace(
        encoded.recipe, engine=settings.engine, keep_floats=settings.keep_floats
    )
    parts, most = Parts(encoded, recipe), encoded.manifest["documents"] + len(encoded.skipped)
    check_skipped(path, most - len(parts), most, settings.max_skipped)
    yield parts


def _is_parts(path: Path) -> Encoded | None:
    try:
        return Encoded.open(path)
    except LexLIPError:
        return None


def resumable(engine: Engine, source: Source) -> int:
    """Return how many documents an earlier run committed: the first ones of the source.

    Raises
    ------
    LexLIPError
        When the engine holds others.
    """
    count = len(engine)
    there = [source.name(number) for number in range(max(0, count - _NAMED), count)]
    coming = [source.name(number) for number in range(count, min(count + _NAMED, len(source)))]
    known = [row is not None for row in engine.fetch([*there, *coming])] if count else []
    if count > len(source) or known != [True] * len(there) + [False] * len(coming) and count:
        raise LexLIPError(
            f"the build that was begun holds {count} other documents: publish with fresh=true"
        )
    return count


def differences(engine: Engine, source: Source, most: int, seed: int) -> str:
    """Compare an engine with its source: its number of documents, and a random sample of them.

    Returns
    -------
    str
        What differs, empty where nothing does.
    """
    if len(engine) != len(source):
        return f"{len(engine)} documents, not {len(source)}"
    if damage := engine.verify():
        return "; ".join(damage[:_NAMED])
    count = min(most, len(source))
    numbers = np.sort(np.random.default_rng(seed).choice(len(source), count, replace=False))
    truth = source.sample(numbers.tolist())
    metadata = engine.fetch(truth.ids)
    gone = [name for name, row in zip(truth.ids, metadata, strict=True) if row is None]
    if gone:
        return f"{len(gone)} of {count} documents are missing, as {gone[0]!r:.80}"
    found = engine.impacts(truth.ids)
    width = max(found.shape[1], truth.impacts.shape[1])
    ours, theirs = (it.copy() for it in (truth.impacts, found))
    ours.resize(count, width), theirs.resize(count, width)
    unlike = np.flatnonzero(np.diff((ours != theirs).tocsr().indptr))
    if unlike.size:
        return f"{unlike.size} of {count} have other impacts, as {truth.ids[unlike[0]]!r:.80}"
    pairs = zip(truth.ids, truth.metadata, metadata, strict=True)
    others = [name for name, wanted, got in pairs if wanted != got]
    if others:
        return f"{len(others)} of {count} have other metadata, as {others[0]!r:.80}"
    return ""


def main(overrides: Overrides = None) -> None:
    """Publish documents to a cluster; print how many a second."""
    settings = from_overrides(Settings, list(overrides or ()))
    done = publish(settings)
    if not done.compared:
        typer.echo(f"{settings.out}: {done.documents} documents are published already")
        return
    rate = done.sent / max(done.seconds, 1e-9)
    typer.echo(
        f"{settings.out}: {done.documents} documents, {done.sent} sent in {done.seconds:.1f} s "
        f"({rate:.0f} a second), {done.documents - done.sent} were there; {done.compared} compared "
        f"(seed={done.seed})"
    )


app = Job(main, Settings)

if __name__ == "__main__":
    app()

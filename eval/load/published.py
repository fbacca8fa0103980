"""Publication to a cluster: documents a second, a kill in the middle, and a swap under load.

    python -m eval.load.published node=http://127.0.0.1:9200
    python -m eval.load.published node=http://127.0.0.1:9200 documents=20000 swapped=2000

Documents are synthetic. First all of them are published by a job that is killed in the middle and
run again; ids and impacts of both sides are compared whole, by checksums. Then `lexlip serve`
answers searches steadily while an index takes the place of the served one. Each answer must be the
one of the old index, or that of the new one. Ends with 1 where something is lost, twice, mixed or
refused. Last, one sender of bodies is measured beside two, taking turns.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import quote

import typer

from eval.load.clients import Client, together
from eval.load.served import ROOT, Served
from eval.race.synthetic import VOCABULARY, learned_sparse
from lexlip import Index
from lexlip.cli.console import Job, Overrides
from lexlip.engines import open_engine
from lexlip.errors import LexLIPError
from lexlip.exchange import import_vectors, npz
from lexlip.exchange.documents import Documents
from lexlip.filters.columns import Value
from lexlip.models.word_list import WordList
from lexlip.settings import from_overrides, option
from lexlip.storage.files import write_json

WORDS = [f"w{term:05}" for term in range(VOCABULARY)]


@dataclass(frozen=True)
class Settings:
    """Settings of the study; each field is a key."""

    node: str = option("", "a node of OpenSearch, as http://127.0.0.1:9200")
    documents: int = option(100_000, "that are published by a job that is killed")
    swapped: int = option(10_000, "of each of the two indexes of the swap")
    clients: int = option(2, "that search meanwhile")
    pause: float = option(0.02, "seconds between two requests of a client")
    rounds: int = option(5, "turns of one sender and two")
    sent: int = option(10_000, "documents of a turn")
    seed: int = option(0, "of documents and queries")
    out: str = option("", "file for the figures, JSON")


def local(folder: Path, name: str, count: int, seed: int) -> tuple[Path, list[dict[str, int]]]:
    """Make an index of synthetic documents on this machine; return it and queries for it."""
    rows, asked = learned_sparse(count, "light", seed, queries=32)
    ids = [f"{name}-{number:07}.jpg" for number in range(count)]
    metadata: list[dict[str, Value]] = [
        {"year": 2000 + number % 20, "folder": f"f{number % 50}"} for number in range(count)
    ]
    archive = folder / f"{name}.npz"
    npz.write(archive, [Documents(ids, rows, metadata)], WORDS, {})
    words = WordList(WORDS)
    words.save_pretrained(folder / "words")
    index, _ = import_vectors(folder / f"{name}.lex", archive, words, checkpoint=folder / "words")
    index.close()
    queries = [
        dict(zip((WORDS[t] for t in row.indices.tolist()), row.data.tolist(), strict=True))
        for row in (asked[[number]] for number in range(asked.shape[0]))
    ]
    return folder / f"{name}.lex", queries


def command(source: Path, out: Path, engine: str, seed: int) -> list[str]:
    """Return the command line of the publishing job."""
    given = (f"source={source}", f"out={out}", f"engine={engine}", f"seed={seed}")
    return [sys.executable, "-m", "indexing.publish", *given]


def run(line: list[str]) -> str:
    """Run a job and return what it prints.

    Raises
    ------
    LexLIPError
        When it fails.
    """
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise LexLIPError(done.stderr.strip().splitlines()[-1])
    return done.stdout.strip()


def checksum(path: Path) -> tuple[int, str]:
    """Return how many documents an index has, and a checksum of all ids and impacts by id."""
    digest, count = hashlib.sha256(), 0
    with Index.open(path) as index:
        for ids, impacts in index.engine.walk():
            impacts.sort_indices()
            ends, terms = impacts.indptr.tolist(), impacts.indices.astype("<i4")
            for row, name in enumerate(ids):
                span = slice(ends[row], ends[row + 1])
                digest.update(name.encode() + b"\0" + terms[span].tobytes())
                digest.update(impacts.data[span].astype("<i4").tobytes())
            count += len(ids)
    return count, digest.hexdigest()


def killed(settings: Settings, folder: Path, client: Any, name: str) -> dict[str, Any]:
    """Publish with a kill in the middle, and run the job again."""
    source, _ = local(folder, "all", settings.documents, settings.seed)
    line = command(source, folder / "all-out.lex", f"opensearch:{settings.node}/{name}", 1)
    begun = time.perf_counter()
    job = subprocess.Popen(line, cwd=ROOT, stderr=subprocess.DEVNULL)
    while _there(client, name) < settings.documents // 2 and job.poll() is None:
        time.sleep(0.1)
    job.send_signal(signal.SIGKILL)
    job.wait()
    first = time.perf_counter() - begun
    said = run(line)
    raw = client.count(index=f"{name}-*")["count"] - 1  # the state is a document, too
    want, got = checksum(source), checksum(folder / "all-out.lex")
    whole = command(source, folder / "whole.lex", f"opensearch:{settings.node}/{name}-whole", 1)
    return {
        "documents": settings.documents, "killed_after_s": round(first, 1), "resumed": said,
        "stored": raw, "equal": want == got and raw == settings.documents, "whole": run(whole),
    }  # fmt: skip


def _there(client: Any, name: str) -> int:
    """Return how many documents were sent, the one of the state aside."""
    with suppress(Exception):
        client.indices.refresh(index=f"{name}-*")
        return int(client.count(index=f"{name}-*")["count"]) - 1
    return 0


class Watched:
    """Clients that search until they are stopped, and judge each answer."""

    def __init__(self, port: int, paths: list[str], right: list[dict[str, Any]]) -> None:
        self._port, self._paths, self._right = port, paths, right
        self.counts: Counter[str] = Counter()
        self.errors: list[str] = []
        self.seconds: list[float] = []
        self.pause = 0.0
        self._lock, self.end = threading.Lock(), threading.Event()

    def search(self, pause: float, first: int) -> None:
        """Search, until the end."""
        client, number, last = Client(self._port), first, time.perf_counter()
        while not self.end.wait(pause):
            number += 1
            at = number % len(self._paths)
            try:
                status, body, seconds = client.ask(self._paths[at])
                found = json.loads(body)
                hits = (
                    [(hit["image"], hit["score"]) for hit in found["hits"]] if status == 200 else []
                )
                kind = next((k for k, it in self._right[at].items() if it == hits), "mixed")
                if status != 200:
                    raise OSError(f"{status}: {body[:200]!r}")
            except Exception as error:
                with self._lock:
                    self.errors.append(repr(error)[:300])
                continue
            now = time.perf_counter()
            with self._lock:
                self.counts[kind] += 1
                self.seconds.append(seconds)
                self.pause = max(self.pause, now - last)
            last = now
        client.close()


def swap(settings: Settings, folder: Path, name: str) -> dict[str, Any]:
    """Publish an index in the place of another one that is served."""
    (old, queries), (new, _) = (
        local(folder, kind, settings.swapped, settings.seed + number)
        for number, kind in enumerate(("old", "new"))
    )
    texts = [" ".join(f"{word}^{weight}" for word, weight in query.items()) for query in queries]
    right: list[dict[str, Any]] = [{} for _ in texts]
    engine, out = f"opensearch:{settings.node}/{name}-swap", folder / "served.lex"
    paths = [f"/search?k=10&q={quote(text)}" for text in texts]
    for kind, path in (("old", old), ("new", new)):
        with Served(path, log=os.devnull) as server:
            client = Client(server.port)
            for answer, where in zip(right, paths, strict=True):
                found = json.loads(client.ask(where)[1])
                answer[kind] = [(hit["image"], hit["score"]) for hit in found["hits"]]
            client.close()
    run(command(old, out, engine, 1))
    with Served(out, log=os.devnull) as server:
        watched = Watched(server.port, paths, right)
        jobs = [
            lambda number=number: watched.search(settings.pause, 7 * number)
            for number in range(settings.clients)
        ]
        said: list[str] = []

        def publish() -> None:
            try:
                time.sleep(2)
                said.append(run(command(new, out, engine, 1)))
                time.sleep(5)
            except LexLIPError as error:
                watched.errors.append(str(error))
            finally:
                watched.end.set()

        together([*jobs, publish])
    ordered = sorted(watched.seconds)
    return {
        "answers": len(ordered), **watched.counts, "mixed": watched.counts["mixed"],
        "errors": watched.errors[:5], "failed": len(watched.errors),
        "p50_ms": round(1000 * statistics.median(ordered), 1),
        "p99_ms": round(1000 * ordered[int(0.99 * len(ordered))], 1),
        "longest_pause_ms": round(1000 * watched.pause), "published": said,
    }  # fmt: skip


def senders(settings: Settings, folder: Path, name: str) -> dict[str, Any]:
    """Send documents with one sender and with two, in turn; return documents a second."""
    from lexlip.engines.opensearch import bulk

    rows, _ = learned_sparse(settings.sent, "light", settings.seed, queries=1)
    ids = [f"{number:07}.jpg" for number in range(settings.sent)]
    rates: dict[int, list[float]] = {1: [], 2: []}
    usual = bulk.SENDERS
    try:
        for turn in range(2 * settings.rounds):
            bulk.SENDERS = 1 + turn % 2
            kind = f"opensearch:{settings.node}/{name}-turn-{turn}"
            with closing(open_engine(kind, folder / f"turn-{turn}", "w")) as engine:
                begun = time.perf_counter()
                engine.add(ids, rows)
                engine.commit()
                rates[bulk.SENDERS].append(settings.sent / (time.perf_counter() - begun))
    finally:
        bulk.SENDERS = usual
    ratio = statistics.median(two / one for one, two in zip(rates[1], rates[2], strict=True))
    medians = {f"senders_{n}": round(statistics.median(found)) for n, found in rates.items()}
    return {**medians, "ratio": round(ratio, 2)}


@contextmanager
def cluster(node: str, name: str) -> Iterator[Any]:
    """Yield a client; what was made in the block is deleted."""
    from opensearchpy import OpenSearch

    with OpenSearch(node, timeout=60) as client:
        try:
            yield client
        finally:
            for index in client.indices.get(index=f"{name}*"):
                client.indices.delete(index=index)


def main(overrides: Overrides = None) -> None:
    """Measure, and print the figures."""
    settings = from_overrides(Settings, list(overrides or ()))
    if not settings.node:
        raise LexLIPError("give node=http://HOST:9200, a node of OpenSearch")
    name = f"lexlip-study-{token_hex(4)}"
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as made, cluster(settings.node, name) as client:
        folder = Path(made)
        found["killed"] = killed(settings, folder, client, name)
        typer.echo(json.dumps(found["killed"], indent=1))
        found["swap"] = swap(settings, folder, name)
        typer.echo(json.dumps(found["swap"], indent=1))
        found["senders"] = senders(settings, folder, name)
        typer.echo(json.dumps(found["senders"], indent=1))
    if settings.out:
        write_json(settings.out, found)
    swapped = found["swap"]
    reached = swapped.get("old") and swapped.get("new")
    if not found["killed"]["equal"] or swapped["mixed"] or swapped["failed"] or not reached:
        raise typer.Exit(1)


app = Job(main, Settings)

if __name__ == "__main__":
    app()

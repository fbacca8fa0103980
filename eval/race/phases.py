"""The race of two phases: words that find and vectors that order, beside graphs and exact search.

All contenders have the same dense vectors and answer the same queries in turns, in one process and
one thread. What counts is the agreement with exact search in float32 (R10: the share of its first
ten that are found), milliseconds, bytes a document, and seconds to build; without a filter, and
with filters that let a share of the documents through.

    python -m eval.race.phases documents=160000 data=captions
    python -m eval.race.phases documents=1000000 data=made-up
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray

from eval.race.texts import Texts, coded, encode_captions, make_up
from lexlip import settings as toml
from lexlip.cli.console import Job, Overrides
from lexlip.engines import PostingsEngine
from lexlip.errors import LexLIPError
from lexlip.filters.where import Where
from lexlip.impacts import document_impacts, with_said
from lexlip.query.prepared import PreparedQuery
from lexlip.rerank.phases import order_by_vectors
from lexlip.settings import option
from lexlip.storage.files import write_json
from lexlip.storage.views import Vectors

K = 10
SHARES = (1.0, 0.1, 0.01, 0.001)
"""Of the documents that a filter lets through."""

Answer = Callable[[int], Sequence[int]]
"""Number of a query -> numbers of its documents, best first."""


@dataclass(frozen=True)
class Settings:
    """Settings of the race; each field is a key."""

    data: str = option("captions", "captions (LEXLIP_DATA, through MiniLM) or made-up")
    documents: int = option(160_000, "documents, at most")
    queries: int = option(300, "queries")
    rounds: int = option(3, "turns of every contender; the median over them is reported")
    terms: tuple[int, ...] = option((64, 128, 256), "words of a query that find")
    depth: tuple[int, ...] = option((100, 400, 1000), "documents that vectors order")
    ef: tuple[int, ...] = option((16, 32, 64, 128, 256, 1024), "what the graph looks at")
    probes: tuple[int, ...] = option((32, 64, 128), "cells that IVF looks at")
    out: str = option("runs/race-phases", "folder of vectors, codes and numbers")


@dataclass(frozen=True)
class Entry:
    """A contender with its settings: its answers, and what its index costs."""

    name: str
    answer: Answer
    bytes: float
    build_s: float


def filters(count: int) -> dict[float, NDArray[np.int64]]:
    """Return the documents that each filter lets through, by its share."""
    bucket = _buckets(count)
    return {share: np.flatnonzero(bucket < round(1000 * share)) for share in SHARES}


def _buckets(count: int) -> NDArray[np.int64]:
    """Return a number 0..999 for each document, each as often."""
    return np.random.default_rng(1).permutation(count) * 1000 // count


class Ours:
    """The postings engine with vectors beside it, as an index asks it."""

    def __init__(self, texts: Texts, folder: Path) -> None:
        count, zero = len(texts.documents), np.zeros(len(texts.documents), np.float32)
        began = time.perf_counter()
        impacts, _ = document_impacts(texts.weights, 64, normalise=False)
        vectors = Vectors(texts.documents, zero, zero, zero)
        with_words = with_said(impacts, texts.said)
        columns = {"bucket": _buckets(count).tolist()}
        self.engine = PostingsEngine(folder / "engine")
        self.engine.add([f"{n:07}" for n in range(count)], with_words, columns, vectors)
        self.engine.commit()
        self.build_s = time.perf_counter() - began
        self.bytes = self.engine.stats()["bytes"] / count
        self.texts = texts

    def prepared(self, terms: int) -> list[PreparedQuery]:
        """Return the queries with `terms` words that find."""
        found, code = [], self.texts.code
        for vector in self.texts.queries:
            projections = code.project(vector)
            chosen = code.choose(projections, terms)
            whole = np.rint(projections[chosen] / projections[chosen].max() * 64).astype(int)
            asked = dict(zip(chosen.tolist(), whole.tolist(), strict=True))
            found.append(PreparedQuery({t: w for t, w in asked.items() if w}, vector=vector))
        return found

    def entries(self, settings: Settings, share: float) -> list[Entry]:
        """Return all settings to race, behind the filter of a share."""
        where = None if share == 1 else Where.parse(f"bucket < {round(1000 * share)}")
        found = []
        for terms in settings.terms:
            queries = self.prepared(terms)
            for depth in settings.depth:

                def answer(number: int, queries: Any = queries, depth: int = depth) -> list[int]:
                    query = queries[number]
                    candidates = query.candidates(self.engine, depth, where)
                    return [int(hit.id) for hit in order_by_vectors(candidates, query, K)]

                name = f"words {terms}, best {depth}"
                found.append(Entry(name, answer, self.bytes, self.build_s))
        return found


class Faiss:
    """A graph, cells of one byte a number, and exact search."""

    def __init__(self, texts: Texts, folder: Path) -> None:
        try:
            faiss: Any = import_module("faiss")
        except ImportError:
            raise LexLIPError("faiss is missing: pip install 'lexlip[contenders]'") from None
        faiss.omp_set_num_threads(1)
        self.faiss, self.texts = faiss, texts
        documents = texts.documents
        count, width = documents.shape
        cells = 4 * int(count**0.5)
        product = faiss.METRIC_INNER_PRODUCT
        quantiser = faiss.IndexFlatIP(width)
        self.indexes = {
            "exact": faiss.IndexFlatIP(width),
            "HNSW": faiss.IndexHNSWFlat(width, 32, product),
            "IVF": faiss.IndexIVFScalarQuantizer(
                quantiser, width, cells, faiss.ScalarQuantizer.QT_8bit, product
            ),
        }
        self.indexes["HNSW"].hnsw.efConstruction = 100
        self.facts = {}
        for name, index in self.indexes.items():
            began = time.perf_counter()
            if not index.is_trained:
                index.train(documents[: 50 * cells])
            index.add(documents)
            path = folder / f"{name}.faiss"
            faiss.write_index(index, str(path))
            self.facts[name] = path.stat().st_size / count, time.perf_counter() - began
            path.unlink()

    def entries(self, settings: Settings, share: float, kept: NDArray[np.int64]) -> list[Entry]:
        """Return all settings to race, behind a filter."""
        selector = self.faiss.IDSelectorBatch(kept) if share < 1 else None
        graphs = [(f"HNSW ef {ef}", "HNSW", {"efSearch": ef}) for ef in settings.ef]
        cells = [(f"IVF nprobe {probes}", "IVF", {"nprobe": probes}) for probes in settings.probes]
        found = []
        for name, kind, options in [("exact", "exact", {}), *graphs, *cells]:
            make = {
                "exact": self.faiss.SearchParameters,
                "HNSW": self.faiss.SearchParametersHNSW,
                "IVF": self.faiss.SearchParametersIVF,
            }[kind]
            parameters = make(**options, **({"sel": selector} if selector else {}))
            index = self.indexes[kind]

            def answer(number: int, index: Any = index, parameters: Any = parameters) -> list[int]:
                query = self.texts.queries[number : number + 1]
                return index.search(query, K, params=parameters)[1][0].tolist()

            found.append(Entry(name, answer, *self.facts[kind]))
        return found


def truth(texts: Texts, kept: NDArray[np.int64]) -> list[set[int]]:
    """Return the first ten of exact search in float32, among some documents."""
    few, found = texts.documents[kept], []
    for query in texts.queries:
        scores = few @ query
        best = np.argpartition(-scores, min(K, len(few) - 1))[:K]
        found.append(set(kept[best].tolist()))
    return found


def measure(
    entries: Sequence[Entry], right: Sequence[set[int]], share: float, rounds: int
) -> list[dict[str, Any]]:
    """Check contenders, and time them in turns; the first round is not counted.

    In a turn a contender answers all queries: others do not empty its caches, and other load on the
    machine is shared by all.

    Returns
    -------
    list of dict
        A row each: agreement in percent, milliseconds, bytes and seconds.
    """
    times = np.empty((rounds + 1, len(entries), len(right)))
    agreed = np.zeros((len(entries), len(right)))
    for turn in range(rounds + 1):
        for step in range(len(entries)):
            place = (step + turn) % len(entries)
            for number, wanted in enumerate(right):
                began = time.perf_counter()
                found = entries[place].answer(number)
                times[turn, place, number] = time.perf_counter() - began
                agreed[place, number] = len(wanted.intersection(found)) / len(wanted)
    ms = 1000 * np.median(times[1:], axis=0)
    return [
        {
            "share": share,
            "name": entry.name,
            "R10": 100 * float(agreed[place].mean()),
            "p50_ms": float(np.median(ms[place])),
            "p95_ms": float(np.quantile(ms[place], 0.95)),
            "bytes": entry.bytes,
            "build_s": entry.build_s,
        }
        for place, entry in enumerate(entries)
    ]


def run(settings: Settings) -> list[dict[str, Any]]:
    """Run the race, and write ``metrics.json`` after each filter."""
    if settings.data not in ("captions", "made-up"):
        raise LexLIPError(f"no data {settings.data!r}: choose captions or made-up")
    folder = Path(settings.out) / settings.data
    if settings.data == "captions":
        from lexlip.models.lexical.words import everyday_words

        data = Path(os.environ.get("LEXLIP_DATA", "../shared/data"))
        encode_captions(folder, data, everyday_words())
    else:
        make_up(folder, settings.documents)
    texts = coded(folder, settings.documents, settings.queries)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="lexlip-race-") as scratch:
        ours, faiss = Ours(texts, Path(scratch)), Faiss(texts, Path(scratch))
        for share, kept in filters(len(texts.documents)).items():
            entries = [*ours.entries(settings, share), *faiss.entries(settings, share, kept)]
            rows += measure(entries, truth(texts, kept), share, settings.rounds)
            facts = {"settings": asdict(settings), "documents": len(texts.documents), "rows": rows}
            write_json(folder / "metrics.json", facts)
        ours.engine.close()
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as text."""
    lines = [f"{'lets through':>12} {'':22} {'R10':>6} {'p50 ms':>7} {'p95 ms':>7} bytes  build s"]
    lines += [
        f"{100 * row['share']:>10.1f} % {row['name']:22} {row['R10']:>6.1f} {row['p50_ms']:>7.2f} "
        f"{row['p95_ms']:>7.2f} {row['bytes']:>5.0f} {row['build_s']:>8.1f}"
        for row in rows
    ]
    return "\n".join(lines)


def main(overrides: Overrides = None) -> None:
    """Race words and vectors with graphs, cells and exact search."""
    given = toml.override({}, overrides or (), Settings)
    typer.echo(table(run(toml.build(Settings, given, ""))))


app = Job(main, Settings)

if __name__ == "__main__":
    app()

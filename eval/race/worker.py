"""The process of one contender: commands in, answers out, a line of JSON each.

One process per engine isolates the engines: peak memory is that of one engine, a crash stops one
engine, no library sets the threads of another, and an engine may run in another interpreter.

    python -m eval.race.worker NAME VECTORS INDEX
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from eval.race import contender
from eval.race.base import Vectors


def peak_mb() -> float | None:
    """Peak resident memory of this process and its children in MB, None where it is unknown."""
    total, waiting = 0, [os.getpid()]
    try:
        while waiting:
            process = Path(f"/proc/{waiting.pop()}")
            for line in (process / "status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    total += int(line.split()[1])
            for task in (process / "task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
    except OSError:
        return None
    return total * 1024 / 1e6


def size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


class Worker:
    """The commands, one method each; what they return goes back as JSON."""

    def __init__(self, name: str, vectors: str, index: str) -> None:
        self.engine = contender(name)()
        self.vectors, self.index = Vectors(vectors), Path(index)
        self.engine.load()
        self.opened = False

    def do_build(self) -> dict[str, Any]:
        """Build the index."""
        self.index.mkdir(parents=True)
        start = time.perf_counter()
        self.engine.build(self.vectors, self.index)
        seconds = time.perf_counter() - start if self.engine.took is None else self.engine.took
        stored = self.engine.stored
        stored = size(self.index) if stored is None else stored
        return {"build_s": seconds, "build_peak_mb": peak_mb(), "bytes": stored}

    def do_open(self) -> dict[str, Any]:
        """Open the index and convert the queries."""
        start = time.perf_counter()
        self.engine.open(self.index)
        seconds = time.perf_counter() - start
        self.opened = True
        queries = self.vectors.queries(self.engine.kind)
        self.queries = [self.engine.prepare(query) for query in queries]
        return {"open_s": seconds}

    def do_set(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Choose settings for the searches that follow."""
        self.engine.set(**settings)
        return {}

    def do_answer(self, k: int, count: int) -> dict[str, Any]:
        """Answer the first queries, for judging."""
        found = [self.engine.read(self.engine.search(q, k)) for q in self.queries[:count]]
        documents = [[int(document) for document in documents] for documents, _ in found]
        return {
            "documents": documents,
            "scores": [[float(s) for s in scores] for _, scores in found],
        }

    def do_round(self, k: int, seconds: float, threads: int) -> dict[str, Any]:
        """Time all queries, or those that fit into the seconds."""
        search, clock = self.engine.search, time.perf_counter_ns
        limit = clock() + int(seconds * 1e9)
        times: list[int] = []

        def run(queries: list[Any]) -> None:
            for query in queries:
                start = clock()
                search(query, k)
                end = clock()
                times.append(end - start)  # appending is atomic
                if end > limit:
                    return

        cpu, start = time.process_time(), clock()
        if threads == 1:
            run(self.queries)
        else:
            _spread(run, self.queries, threads)
        wall, cpu = (clock() - start) / 1e9, time.process_time() - cpu
        cut = np.percentile(times, [50, 95, 99]) / 1e6
        return {
            "p50_ms": float(cut[0]),
            "p95_ms": float(cut[1]),
            "p99_ms": float(cut[2]),
            "qps": len(times) / wall,
            "cpu_ms": 1000 * cpu / len(times),
            "queries": len(times),
        }

    def do_close(self) -> dict[str, Any]:
        """Return the peak memory and stop."""
        peak = peak_mb()
        if self.opened:
            self.engine.close()
        return {"peak_mb": peak}


def _spread(run: Callable[[list[Any]], None], queries: list[Any], threads: int) -> None:
    """Distribute the queries to threads that start together."""
    gate = threading.Barrier(threads)

    def one(number: int) -> None:
        gate.wait()
        run(queries[number::threads])

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(one, range(threads)))


def _failed(error: Exception) -> dict[str, Any]:
    traceback.print_exc()
    lines = f"{type(error).__name__}: {error}".splitlines()
    return {"error": lines[0], "missing": isinstance(error, ImportError)}


def main() -> None:
    """Load the engine, then answer commands until `close` or the end of the input."""
    # Libraries print to stdout: send that to stderr, and keep the pipe for the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    try:
        worker = Worker(*sys.argv[1:4])
    except Exception as error:
        return say(_failed(error))
    say({"versions": worker.engine.versions()})
    for line in sys.stdin:
        options = json.loads(line)
        command = options.pop("do")
        try:
            say(getattr(worker, f"do_{command}")(**options))
        except Exception as error:
            say(_failed(error))
        if command == "close":
            return None
    return None


if __name__ == "__main__":
    main()
    sys.stderr.flush()
    os._exit(0)  # threads of a JVM or of a server's client must not keep the process

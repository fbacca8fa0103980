"""A server on three nodes of OpenSearch, while the node that manages them is killed.

    LEXLIP_OPENSEARCH_HOME=... python -m eval.load.nodes
    python -m eval.load.nodes seconds=300 kill=random

The index is that of ``lexlip demo``, in three shards with one replica each (``replicas=0`` shows
what a server says without). All answers are
compared with those of the engine postings, which are taken before. Then clients search in turn
through two servers, one on postings and one on OpenSearch. Ends with 1 where an answer was wrong,
a part passed off as whole, or a request was without an answer.
"""

from __future__ import annotations

import http.client
import json
import random
import shutil
import tempfile
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import typer

from eval.load.clients import SEARCHES, Client
from eval.load.cluster import Cluster
from eval.load.served import Served, pictures_of
from lexlip.cli.console import Job, Overrides
from lexlip.errors import LexLIPError
from lexlip.models.shipped import SHIPPED, load_shipped
from lexlip.settings import from_overrides, option
from lexlip.storage.files import write_json

PATHS = (*SEARCHES, *(path.replace("k=10", "k=200") for path in SEARCHES))


@dataclass(frozen=True)
class Settings:
    """Settings of the run; each field is a key."""

    seconds: float = option(90.0, "of the steady search; the kill comes after a third")
    dead: float = option(15.0, "seconds until the killed node is started again")
    kill: str = option("manager", "the node that is killed: manager or random")
    replicas: int = option(1, "of each shard; without any, searches fail while the node is away")
    clients: int = option(4, "clients that search")
    pause: float = option(0.02, "seconds between two searches of a client")
    compared: int = option(400, "searches of each engine, one after the other")
    pictures: str = option("", "folder of pictures; those of lexlip demo by default")
    seed: int = option(0, "of the order of queries")
    out: str = option("runs/nodes", "folder for nodes.json")


def answer_of(read: bytes) -> list[Any]:
    """Return what must be equal of an answer: pictures, scores and the words that found them."""
    return [(hit["id"], hit["score"], hit["words"]) for hit in json.loads(read)["hits"]]


def judged(found: list[Any], wanted: list[Any]) -> str:
    """Return whether an answer is right, partial (right hits, some are missing) or wrong."""
    if found == wanted:
        return "right"
    return "partial" if all(hit in wanted for hit in found) else "wrong"


def rights(port: int) -> dict[str, list[Any]]:
    """Return the right answer of each search."""
    client, found = Client(port), {}
    for path in PATHS:
        status, read, _ = client.ask(path)
        if status != 200:
            raise LexLIPError(f"{path} is answered with {status} before anything is killed")
        found[path] = answer_of(read)
    client.close()
    return found


class Searching:
    """Clients that search until they are stopped, and count what they get."""

    def __init__(self, port: int, right: dict[str, list[Any]], settings: Settings) -> None:
        self._port, self._right, self._settings = port, right, settings
        self.counts: Counter[str] = Counter()
        self.times: list[tuple[float, float]] = []  # when it came, and seconds that it took
        self.health: list[tuple[float, int, str]] = []
        self._lock, self._end = threading.Lock(), threading.Event()
        self.begun = time.monotonic()
        jobs = [(self._search, n) for n in range(settings.clients)] + [(self._look, -1)]
        self._threads = [threading.Thread(target=job, args=(n,)) for job, n in jobs]
        for thread in self._threads:
            thread.start()

    def now(self) -> float:
        """Return the seconds since the beginning."""
        return time.monotonic() - self.begun

    def _search(self, number: int) -> None:
        client, dice = Client(self._port), random.Random(self._settings.seed + number)
        while not self._end.wait(self._settings.pause):
            path = dice.choice(PATHS)
            try:
                status, read, seconds = client.ask(path)
            except (OSError, http.client.HTTPException) as error:
                kind, seconds = f"no answer: {type(error).__name__}", 0.0
            else:
                kind = str(status)
                if status == 200:
                    kind = judged(answer_of(read), self._right[path])
            with self._lock:
                self.counts[kind] += 1
                self.times.append((self.now(), seconds))
        client.close()

    def _look(self, number: int) -> None:
        client = Client(self._port)
        while not self._end.wait(0.25):
            status, read, _ = client.ask("/healthz")
            self.health.append((self.now(), status, json.loads(read)["status"]))
        client.close()

    def stop(self) -> None:
        """End, once each client has its last answer."""
        self._end.set()
        for thread in self._threads:
            thread.join()


def shares(seconds: list[float]) -> dict[str, float]:
    """Return p50 and p95 in milliseconds."""
    return {f"p{part}": 1000 * float(np.quantile(seconds, part / 100)) for part in (50, 95)}


def side_by_side(ports: dict[str, int], count: int) -> dict[str, dict[str, float]]:
    """Search in turn, on one kept connection to each server."""
    clients = {name: Client(port) for name, port in ports.items()}
    took: dict[str, list[float]] = {name: [] for name in ports}
    for number in range(-len(SEARCHES), count):
        for name, client in clients.items():
            status, _, seconds = client.ask(SEARCHES[number % len(SEARCHES)])
            if status == 200 and number >= 0:
                took[name].append(seconds)
    for client in clients.values():
        client.close()
    return {name: shares(seconds) for name, seconds in took.items()}


def explanations(ports: dict[str, int], right: dict[str, list[Any]]) -> int:
    """Return how many explanations differ between servers, of the best hit of each query."""
    differ = 0
    for path in SEARCHES:
        if not right[path]:
            continue
        told = []
        for port in ports.values():
            client = Client(port)
            image = json.loads(client.ask(path)[1])["hits"][0]["image"]
            told.append(client.ask(f"/explain?image={image}&q={path.partition('q=')[2]}")[:2])
            client.close()
        differ += len({(status, read) for status, read in told}) > 1 or told[0][0] != 200
    return differ


def run(settings: Settings, home: Path) -> dict[str, Any]:
    """Serve the demo on both engines, kill and start a node, and return what was found."""
    from lexlip import Index

    pictures, model = pictures_of(settings.pictures, home), load_shipped()
    with Cluster(home / "nodes") as cluster:
        place = cluster.place("photos", f"?shards=3&replicas={settings.replicas}")
        places = {"postings": "postings", "opensearch": f"opensearch:{place}"}
        for name, engine in places.items():
            made = Index.create(
                home / f"{name}.lex", model, pictures, engine=engine, checkpoint=SHIPPED
            )
            documents = len(made)
            made.close()
        cluster.wait(3)
        log = home / "log"
        with (
            Served(home / "postings.lex") as plain,
            Served(home / "opensearch.lex", ["--read-only"], log=log) as served,
        ):
            ports = {"postings": plain.port, "opensearch": served.port}
            right = rights(plain.port)
            compared = side_by_side(ports, settings.compared)
            differ = explanations(ports, right)
            work = Searching(served.port, right, settings)
            time.sleep(settings.seconds / 3)
            node = cluster.manager if settings.kill == "manager" else random.randrange(3)
            events = [(work.now(), f"node {node} killed, the manager is {cluster.manager}")]
            cluster.kill(node)
            time.sleep(settings.dead)
            events.append((work.now(), f"the manager is {cluster_manager(cluster)}"))
            cluster.start(node)
            cluster.wait(3)
            events.append((work.now(), "three nodes, green"))
            time.sleep(max(5.0, settings.seconds - work.now()))
            work.stop()
    came = sorted(at for at, _ in work.times)
    gaps = np.diff([0.0, *came])
    during = [s for at, s in work.times if events[0][0] <= at <= events[-1][0]]
    return {
        "settings": asdict(settings),
        "documents": documents,
        "searches": sum(work.counts.values()),
        "answers": dict(work.counts),
        "slowest_ms": 1000 * max(s for _, s in work.times),
        "longest_without_an_answer_ms": 1000 * float(gaps.max()),
        "all": shares([s for _, s in work.times]),
        "while_a_node_is_away": shares(during),
        "health": dict(Counter(f"{status} {said}" for _, status, said in work.health)),
        "events": events,
        "log": log.read_text(errors="replace").splitlines(),
        "side_by_side": compared,
        "explanations_that_differ": differ,
    }


def cluster_manager(cluster: Cluster) -> str:
    """Return the name of the node that manages the cluster, asked at any of them."""
    path = "/_cat/cluster_manager?format=json"
    told = next(filter(None, (cluster.ask(path, node) for node in range(3))), None)
    return str(told[0]["node"]) if told else "none"


def main(overrides: Overrides = None) -> None:
    """Search on three nodes, one of which dies and comes back, and say what came of it."""
    settings = from_overrides(Settings, overrides or [])
    home = Path(tempfile.mkdtemp(prefix="lexlip-nodes-"))
    try:
        result = run(settings, home)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    out = Path(settings.out)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "nodes.json", result)
    typer.echo(json.dumps({k: v for k, v in result.items() if k != "settings"}, indent=1))
    bad = {kind for kind in result["answers"] if kind not in ("right", "503")}
    if bad or result["explanations_that_differ"]:
        raise typer.Exit(1)


app = Job(main, Settings)

if __name__ == "__main__":
    app()

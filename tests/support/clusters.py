"""A node of OpenSearch for tests: one that runs, or one that is started and stopped here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from eval.load.cluster import SHORT_LIVED, Cluster

HOME = Path(__file__).resolve().parents[3] / "shared" / "engines" / "opensearch"


def home() -> Path:
    """The folder of the program that starts nodes, `run.py`."""
    return Path(os.environ.get("LEXLIP_OPENSEARCH_HOME") or HOME)


def why_not() -> str | None:
    """Why there is no node, None where there is one."""
    if os.environ.get("LEXLIP_OPENSEARCH_URL") or (home() / "run.py").is_file():
        return None
    return f"no OpenSearch: neither LEXLIP_OPENSEARCH_URL nor {home() / 'run.py'}"


class Node:
    """A node, and places for indexes in it.

    Attributes
    ----------
    url : str
    ours : bool
        Whether it was started here, so that it may be killed.
    """

    ours = False

    def __init__(self, url: str) -> None:
        self.url = url
        self._name = f"lexlip-test-{uuid4().hex}"
        self._made = 0

    def place(self) -> str:
        """Return a place where no index is."""
        self._made += 1
        return f"{self.url}/{self._name}-{self._made}"

    def stop(self) -> None:
        """Delete the indexes that were made here."""
        from opensearchpy import OpenSearch

        with OpenSearch(self.url) as client:
            for found in client.cat.indices(index=f"{self._name}-*", params={"format": "json"}):
                client.indices.delete(index=found["index"])


class StartedNode(Node):
    """A node of one's own, which may be killed.

    Parameters
    ----------
    folder
        Where it keeps its data: they are there after another start.
    """

    ours = True

    def __init__(self, folder: Path) -> None:
        self._cluster = Cluster(folder, 1, SHORT_LIVED, program=home())
        super().__init__(self._cluster.urls[0])

    def kill_and_start(self) -> None:
        """Kill the node as a power cut would end it, and start it again in the same folder."""
        self._cluster.kill(0)
        self._cluster.start(0)
        self._cluster.wait(1, "yellow")

    def stop(self) -> None:
        """Shut the node down, and wait for it."""
        self._cluster.stop()


@contextmanager
def a_node(folder: Path) -> Iterator[Node]:
    """Yield a node that is up: that of LEXLIP_OPENSEARCH_URL, or one that is started."""
    running = os.environ.get("LEXLIP_OPENSEARCH_URL", "").rstrip("/")
    node = Node(running) if running else StartedNode(folder)
    try:
        yield node
    finally:
        node.stop()

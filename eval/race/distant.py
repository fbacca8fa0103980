"""Our engines on servers of others: OpenSearch and Milvus, one node on this machine.

The race starts an OpenSearch of its own (`eval.load.cluster`), or asks the one at
LEXLIP_OPENSEARCH_URL. Milvus is the embedded one, or that at LEXLIP_MILVUS_URI.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from secrets import token_hex

from eval.load.cluster import Cluster, home
from eval.race.base import Vectors, names
from eval.race.ours import EngineContender, impacts

PART = 2000
"""Documents that are sent together."""


class Distant(EngineContender):
    """An engine whose postings are elsewhere; the folder names the place."""

    threads = True

    def place(self, folder: Path) -> str:
        """Return where the index is or will be, as ``--engine`` takes it."""
        raise NotImplementedError

    def build(self, vectors: Vectors, folder: Path) -> None:
        from lexlip.engines import open_engine

        count = len(vectors.array("indptr")) - 1
        ids = names(count)
        engine = open_engine(self.place(folder), folder / "index", "w")
        began = time.perf_counter()
        for start in range(0, count, PART):
            part = impacts(vectors, start, start + PART)
            engine.add(ids[start : start + PART], part)
        engine.commit()
        engine.compact()
        self.took = time.perf_counter() - began
        self.stored = engine.stats()["bytes"]
        engine.close()

    def open(self, folder: Path) -> None:
        from lexlip.engines import open_engine

        self._engine = open_engine(self.place(folder), folder / "index", "r")


class OpenSearch(Distant):
    """OpenSearch over HTTP: one node, one shard, no replica, merged into one segment."""

    name = "opensearch"
    packages = ("opensearch-py",)
    ceiling = 200_000

    def load(self) -> None:
        import opensearchpy  # noqa: F401

        if not os.environ.get("LEXLIP_OPENSEARCH_URL"):
            home()

    def place(self, folder: Path) -> str:
        url = os.environ.get("LEXLIP_OPENSEARCH_URL")
        if not url:
            self._node = Cluster(folder / "node", 1, heap="512m")
            (url,) = self._node.urls
        return f"opensearch:{url}/{_name(folder, 'race-')}"

    def build(self, vectors: Vectors, folder: Path) -> None:
        super().build(vectors, folder)
        self._stop()

    def close(self) -> None:
        super().close()
        self._stop()

    def _stop(self) -> None:
        node, self._node = self._node, None
        if node is not None:
            node.stop()

    _node: Cluster | None = None


class Milvus(Distant):
    """Milvus through our engine: the embedded server unless LEXLIP_MILVUS_URI names another."""

    name = "milvus"
    packages = ("pymilvus",)
    ceiling = 200_000

    def load(self) -> None:
        import pymilvus  # noqa: F401

    def place(self, folder: Path) -> str:
        uri = os.environ.get("LEXLIP_MILVUS_URI", str(folder / "milvus.db"))
        return f"milvus:{uri}/{_name(folder, 'race_')}"


def _name(folder: Path, prefix: str) -> str:
    """Return the name of an index: the same in the process that builds and in that which asks."""
    note = folder / "name"
    if not note.is_file():
        note.write_text(f"{prefix}{token_hex(6)}")
    return note.read_text()

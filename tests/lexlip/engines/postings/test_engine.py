"""What only the postings engine has: any order of calls, reopening, damage, threads.

`LEXLIP_STEPS` sets how many random steps the histories take:
`LEXLIP_STEPS=100000 pytest tests/lexlip/engines/postings/test_engine.py`.
"""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from scipy.sparse import csr_array

from lexlip.engines import Hit, PostingsEngine
from lexlip.engines.postings import engine as postings
from lexlip.errors import LexLIPError
from lexlip.filters.where import Where
from lexlip.storage.generations import GenerationWriter, verify
from tests.support.oracles import WIDTH, add, assert_holds

STEPS = int(os.environ.get("LEXLIP_STEPS", "600"))
pytestmark = pytest.mark.usefixtures("no_flush")


# Random histories

names = st.sampled_from([f"{a}{b}" for a in ("", "img/", "é", "\U0001f600") for b in range(12)])
documents = st.tuples(
    st.dictionaries(st.integers(0, WIDTH - 1), st.integers(1, 3), max_size=5),
    st.fixed_dictionaries(
        {}, optional={"year": st.integers(0, 5), "folder": st.sampled_from("abc")}
    ),
)


class Histories(RuleBasedStateMachine):
    """Any order of calls, against a dictionary that is copied at each commit."""

    folder: Path

    def __init__(self):
        super().__init__()
        self.path = tempfile.mkdtemp(dir=self.folder)
        self.engine = PostingsEngine(self.path)
        self.reader = PostingsEngine(self.path, "r")
        self.now, self.committed, self.read = {}, {}, {}

    @rule(added=st.dictionaries(names, documents, max_size=8))
    def add(self, added):
        add(self.engine, added)
        self.now.update(added)

    @rule(gone=st.lists(names, max_size=6))
    def delete(self, gone):
        assert self.engine.delete(gone) == len(set(gone) & self.now.keys())
        for name in gone:
            self.now.pop(name, None)

    @rule()
    def commit(self):
        self.engine.commit()
        self.committed = dict(self.now)

    @rule()
    def compact(self):
        self.engine.compact()
        self.committed = dict(self.now)
        assert self.engine.stats()["segments"] == bool(self.now)
        assert self.engine.stats()["postings"] == sum(len(t) for t, _ in self.now.values())

    @rule()
    def reopen_writer(self):
        self.engine.close()
        self.engine = PostingsEngine(self.path)
        self.now = dict(self.committed)

    @rule()
    def reopen_reader(self):
        changed = self.reader.reopen()
        assert changed or self.read == self.committed
        assert not self.reader.reopen()
        self.read = dict(self.committed)

    @rule(seed=st.integers(0, 99))
    def look(self, seed):
        assert_holds(self.engine, self.committed, seed)
        assert_holds(self.reader, self.read, seed)

    @invariant()
    def sizes(self):
        assert len(self.engine) == len(self.committed)
        assert len(self.reader) == len(self.read)

    def teardown(self):
        assert_holds(self.engine, self.committed)
        assert verify(self.path) == []
        self.reader.close()
        self.engine.close()


@pytest.mark.parametrize("small", [0, postings._SMALL])
def test_any_history_is_a_dictionarys(tmp_path, monkeypatch, small):
    monkeypatch.setattr(postings, "_SMALL", small)
    monkeypatch.setattr(Histories, "folder", tmp_path, raising=False)
    run_state_machine_as_test(
        Histories,
        settings=settings(
            max_examples=max(1, STEPS // 60),
            stateful_step_count=30,
            suppress_health_check=list(HealthCheck),
        ),
    )


# Memory, reading, damage


def test_without_a_folder_it_is_temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    engine = PostingsEngine()
    engine.add(["a"], csr_array([[3]]))
    engine.commit()
    assert engine.search({0: 2}, 1) == [Hit("a", 6)]
    folder = engine.path
    assert folder.is_dir()
    engine.close()
    assert not folder.exists()


def test_user_data_stays_with_its_commit(tmp_path):
    engine = PostingsEngine(tmp_path)
    assert engine.user_data == {}
    engine.add(["a"], csr_array([[1]]))
    engine.commit({"scale": "811.5", "wörd": "é"})
    engine.add(["b"], csr_array([[1]]))
    engine.commit()
    engine.close()
    engine = PostingsEngine(tmp_path)
    assert engine.user_data == {"scale": "811.5", "wörd": "é"}
    engine.commit({})
    engine.close()
    reader = PostingsEngine(tmp_path, "r")
    assert (reader.user_data, len(reader)) == ({}, 2)
    reader.close()


def test_errors_are_readable(tmp_path):
    with pytest.raises(LexLIPError, match="holds no index"):
        PostingsEngine(tmp_path / "none", "r")
    assert not (tmp_path / "none").exists()
    with pytest.raises(LexLIPError, match="'w' or 'r'"):
        PostingsEngine(tmp_path / "x", "a")
    (tmp_path / "file").touch()
    for mode in ("w", "r"):
        with pytest.raises(LexLIPError):
            PostingsEngine(tmp_path / "file", mode)
    PostingsEngine(tmp_path / "index").close()
    (tmp_path / "index" / "CURRENT").write_text("rubbish")
    for mode in ("w", "r", "w"):  # also a second time: the lock was let go
        with pytest.raises(LexLIPError, match="is damaged"):
            PostingsEngine(tmp_path / "index", mode)


def test_an_older_layout_is_refused(tmp_path):
    writer = GenerationWriter(tmp_path)
    writer.publish([], {"format": "lexlip-postings-1", "parts": {}, "user_data": {}})
    writer.close()
    for mode in ("w", "r"):
        with pytest.raises(LexLIPError, match="has format lexlip-postings-1.*lexlip upgrade INDEX"):
            PostingsEngine(tmp_path, mode)


def test_columns_take_the_bytes_of_what_differs(tmp_path):
    """Narrow types, and one value where all are the same; what comes back is what went in."""
    columns = {
        "same": ["trip"] * 300,
        "few": [f"{i % 3}" for i in range(300)],
        "many": [f"{i}" for i in range(300)],
        "small": [i % 200 for i in range(300)],
        "wide": [2**40 * i for i in range(300)],
        "signed": [-(i % 2) for i in range(300)],
        "seven": [7] * 300,
        "gaps": [None if i == 5 else 7 for i in range(300)],
        "half": [0.5] * 299 + [0.25],
    }
    engine = PostingsEngine(tmp_path)
    engine.add([f"{i:03}" for i in range(300)], csr_array(np.ones((300, 1), np.int32)), columns)
    engine.commit()
    rows = engine.fetch([f"{i:03}" for i in range(300)])
    for name, values in columns.items():
        assert [row.get(name) for row in rows] == values
    filters = {
        "small < 5": lambda row: row["small"] < 5,
        "small <= 2.5": lambda row: row["small"] <= 2.5,
        "small > -1": lambda row: True,
        "small < 1000": lambda row: True,
        "wide > 100": lambda row: row["wide"] > 100,
        "signed < 0": lambda row: row["signed"] < 0,
        "seven == 7 and half == 0.5": lambda row: row["half"] == 0.5,
        "gaps == 7": lambda row: "gaps" in row,
        "same == 'trip' and few in ('0', '2')": lambda row: row["few"] != "1",
        "many >= '298'": lambda row: row["many"] >= "298",
    }
    for text, holds in filters.items():
        hits = engine.search({0: 1}, 300, Where.parse(text))
        assert [hit.id for hit in hits] == [f"{i:03}" for i in range(300) if holds(rows[i])], text
    (part,) = tmp_path.glob("part-*")
    sizes = {
        name: np.load(part / f"column-{number}-data.npy").nbytes
        for number, name in enumerate(columns)
    }
    assert sizes == {
        "same": 1, "few": 300, "many": 600, "small": 300, "wide": 2400, "signed": 1200,
        "seven": 1, "gaps": 300, "half": 2400,
    }  # fmt: skip
    assert np.load(part / "column-0-present.npy").size == 1
    engine.close()


def test_truncated_files_are_refused_and_flipped_ones_named(tmp_path, many_parts):
    engine = PostingsEngine(tmp_path)
    add(engine, {f"{i}": ({i % WIDTH: 1}, {"year": i, "folder": "a"}) for i in range(30)})
    engine.commit()
    engine.delete(["3"])
    engine.commit()
    engine.close()
    assert verify(tmp_path) == []
    checked = 0
    for path in tmp_path.rglob("*"):
        if path.is_dir() or path.name in ("LOCK", "OWNER") or not path.stat().st_size:
            continue
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        with pytest.raises(LexLIPError):
            PostingsEngine(tmp_path, "r")
        at = len(whole) // 2
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert len(verify(tmp_path)) == 1
        path.write_bytes(whole)
        checked += 1
    assert checked > 10
    PostingsEngine(tmp_path, "r").close()


# Threads


def state(n):
    """Documents of commit n: all of them change with every commit."""
    own = {f"d{i}": ({0: n + 1, i + 1: 2}, {"year": n}) for i in range(6)}
    return own | {f"new{i}": ({7: 1}, {"year": -1}) for i in range(n)}


def test_searches_during_commits_see_old_or_new(tmp_path, many_parts):
    """Fifty commits that replace everything, under searches that must never see two at once."""
    writer = PostingsEngine(tmp_path)
    add(writer, state(0))
    writer.commit()
    stop, wrong, seen = threading.Event(), [], set()

    def check(engine):
        hits = engine.search({0: 1}, 100)
        n = hits[0].score - 1
        seen.add(n)
        if hits != [Hit(f"d{i}", n + 1) for i in range(6)]:
            wrong.append(hits)
        fetched = engine.fetch([f"d{i}" for i in range(6)])
        if len({row["year"] for row in fetched}) != 1:
            wrong.append(fetched)
        hits = engine.search({0: 1, 7: 64}, 100, Where.parse("year >= 0"))
        if len({hit.score for hit in hits}) != 1 or len(hits) != 6:
            wrong.append(hits)

    def search(engine, own):
        try:
            while not stop.is_set():
                check(engine)
                if own:
                    engine.reopen()
        except BaseException as error:
            wrong.append(error)
        finally:
            if own:
                engine.close()

    reader = PostingsEngine(tmp_path, "r")
    threads = [
        threading.Thread(target=search, args=(writer, False)),
        threading.Thread(target=search, args=(writer, False)),
        threading.Thread(target=search, args=(reader, True)),
    ]
    old = PostingsEngine(tmp_path, "r")
    for thread in threads:
        thread.start()
    for n in range(1, 51):
        add(writer, state(n))
        writer.compact() if n % 7 == 0 else writer.commit()
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(seen) > 1
    assert_holds(old, state(0))  # its files were removed long ago
    old.reopen()
    assert_holds(old, state(50))
    old.close()
    writer.close()

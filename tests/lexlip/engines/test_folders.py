"""What all engines keep in their folders: commits, readers, compacting, damage, one writer."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from lexlip.engines import Hit, MilvusEngine, OpenSearchEngine
from lexlip.errors import LexLIPError
from lexlip.filters.where import Where
from tests.support.oracles import as_dicts, collection, metadata, oracle, part_of, queries


def test_a_folder_keeps_its_last_commit(new_engine):
    columns, rows = metadata(60)
    ids, impacts = collection(60, seed=7)
    engine = new_engine("kept")
    engine.add(ids[:50], impacts[:50], part_of(columns, range(50)))
    engine.commit()
    reader = new_engine("kept", "r")
    engine.add(ids[50:], impacts[50:], part_of(columns, range(50, 60)))
    engine.commit()
    engine.delete(ids[:5])
    engine.close()  # the deletion was not committed
    assert len(reader) == 50  # a reader keeps its commit
    for change in (lambda: reader.add(["a"], csr_array([[1]])), reader.commit):
        with pytest.raises(LexLIPError, match="open for reading"):
            change()
    for mode in ("r", "w"):
        again = new_engine("kept", mode)
        assert len(again) == 60
        assert again.fetch(ids) == rows
        for terms in queries(8, 5):
            assert again.search(terms, 9) == oracle(as_dicts(ids, impacts), terms, 9)


def test_reopening_shows_the_newest_commit(new_engine):
    engine, reader = new_engine("shared"), new_engine("shared", "r")
    assert not reader.reopen()
    engine.add(["a"], csr_array([[1]]), {"year": [1]})
    assert not reader.reopen()
    engine.commit()
    assert (len(reader), reader.search({0: 1}, 1)) == (0, [])
    assert reader.reopen()
    assert (len(reader), reader.search({0: 1}, 1)) == (1, [Hit("a", 1)])
    assert reader.search({0: 1}, 1, Where.parse("year == 1")) == [Hit("a", 1)]
    assert not reader.reopen()
    engine.add(["b"], csr_array([[2]]))
    engine.reopen()  # a writer sees its own commits, and keeps what it did not commit
    engine.commit()
    assert engine.search({0: 1}, 5) == [Hit("b", 2), Hit("a", 1)]


def test_compacting_drops_the_dead(engine):
    ids, impacts = collection(60, seed=7)
    columns, rows = metadata(60)
    for part in np.array_split(np.arange(60), 3):
        engine.add([ids[i] for i in part], impacts[part], part_of(columns, part))
        engine.commit()
    engine.delete(ids[:10])
    engine.compact()
    assert engine.stats()["documents"] == 50
    assert engine.stats()["postings"] == impacts[10:].nnz
    assert engine.fetch(ids) == [*[None] * 10, *rows[10:]]
    documents = as_dicts(ids[10:], impacts[10:])
    for terms in queries(8, 10):
        assert engine.search(terms, 7) == oracle(documents, terms, 7)


def test_verifying_finds_a_flipped_byte(new_engine, tmp_path):
    engine = new_engine("index")
    if isinstance(engine, (MilvusEngine, OpenSearchEngine)):
        pytest.skip("its files are elsewhere: see test_opensearch.py and test_milvus.py")
    ids, impacts = collection(60)
    engine.add(ids, impacts)
    engine.commit()
    engine.compact()
    assert engine.verify() == []
    files = [path for path in (tmp_path / "index").rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    whole = largest.read_bytes()
    at = len(whole) // 2
    largest.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    assert len(engine.verify()) == 1 and "damaged" in engine.verify()[0]
    largest.write_bytes(whole)
    assert engine.verify() == []


def test_one_writer_a_folder(new_engine):
    first = new_engine("one")
    with pytest.raises(LexLIPError, match="open for writing elsewhere"):
        new_engine("one")
    assert len(new_engine("one", "r")) == 0
    first.close()
    new_engine("one").commit()

"""Lucene engines that were written apart are, merged, the engine that was written whole."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array, random_array

from lexlip.engines import LuceneEngine
from lexlip.engines.lucene.engine import lucene_jar
from lexlip.engines.lucene.java import find_java
from lexlip.engines.lucene.merge import merge_engines
from lexlip.errors import LexLIPError
from lexlip.filters.where import Where

pytestmark = pytest.mark.java


@pytest.fixture(autouse=True)
def java():
    try:
        find_java(), lucene_jar()
    except LexLIPError as error:
        pytest.skip(str(error))


def shard(folder, number, columns, size=40):
    """Write an engine of documents with few different impacts, so that scores tie."""
    generator = np.random.default_rng(number)
    impacts = random_array((size, 30), density=0.2, rng=generator, format="csr")
    impacts.data = generator.integers(1, 4, impacts.data.size)
    impacts = csr_array(impacts).astype(np.int32)
    ids = [f"{i:02}-{number}" for i in range(size)]  # ids of all shards between each other
    engine = LuceneEngine(folder)
    engine.add(ids, impacts, columns)
    engine.commit({"mine": "not taken along"})
    engine.close()
    return ids, impacts, columns


@pytest.fixture
def shards(tmp_path):
    """Three engines, whose columns differ, and one without a document."""
    whole = [*range(39), None]
    written = [
        shard(tmp_path / "0", 0, {"year": whole, "name": [f"n{i % 3}" for i in range(40)]}),
        shard(tmp_path / "1", 1, {"year": [i + 0.5 for i in range(40)], "seen": [True] * 40}),
        shard(tmp_path / "2", 2, {"name": [None] * 40}),
    ]
    empty = LuceneEngine(tmp_path / "3")
    empty.close()
    return [tmp_path / str(number) for number in range(4)], written


def test_hits_filters_and_metadata_are_those_of_one_engine(shards, tmp_path):
    folders, written = shards
    merge_engines(folders, tmp_path / "merged")
    one, merged = LuceneEngine(tmp_path / "one"), LuceneEngine(tmp_path / "merged")
    for ids, impacts, columns in written:
        one.add(ids, impacts, columns)
    one.commit()
    assert len(merged) == len(one) == 120 and merged.verify() == []
    assert merged.user_data == {}
    filters = [None, "year < 20", "year >= 20.5", "name == 'n1'", "seen == True", "not (year > 3)"]
    for compact in (False, True):
        if compact:
            merged.compact()
        for text in filters:
            where = Where.parse(text) if text else None
            for terms in ({1: 1}, {2: 1, 3: 2, 4: 64}, dict.fromkeys(range(30), 1)):
                for k in (1, 7, 200):
                    hits = merged.search(terms, k, where)
                    assert hits == one.search(terms, k, where) and hits
        for ids, _, _ in written:
            assert merged.fetch(ids) == one.fetch(ids)
    found = merged.fetch(["03-0"])[0]
    assert found == {"year": 3.0, "name": "n0"} and type(found["year"]) is float
    merged.add(["new"], csr_array(np.ones((1, 30), np.int32)), {"year": [7]})  # it lives on
    merged.add(["00-1"], csr_array(np.ones((1, 30), np.int32)))
    merged.commit()
    assert len(merged) == 121 and merged.fetch(["new", "00-1"]) == [{"year": 7.0}, {}]
    assert merged.delete(["01-0", "01-1", "01-2"]) == 3
    merged.close(), one.close()


def test_kinds_that_do_not_go_together(tmp_path):
    shard(tmp_path / "0", 0, {"year": [2020] * 40})
    shard(tmp_path / "1", 1, {"year": ["spring"] * 40})
    with pytest.raises(LexLIPError, match="column 'year'.*whole numbers and text"):
        merge_engines([tmp_path / "0", tmp_path / "1"], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_a_missing_shard(tmp_path):
    shard(tmp_path / "0", 0, {})
    with pytest.raises(LexLIPError, match="nowhere"):
        merge_engines([tmp_path / "0", tmp_path / "nowhere"], tmp_path / "merged")
    engine = LuceneEngine(tmp_path / "0")  # nobody holds it
    assert len(engine) == 40
    engine.close()

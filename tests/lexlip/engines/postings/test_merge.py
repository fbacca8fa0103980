"""Parts of a postings engine: few of them, merged seldom, and nothing stays of what is gone."""

from __future__ import annotations

import random

import numpy as np
import pytest
from scipy.sparse import csr_array

from lexlip.engines import Hit, PostingsEngine
from lexlip.engines.postings import engine as postings
from lexlip.errors import LexLIPError
from lexlip.filters.where import Where

pytestmark = pytest.mark.usefixtures("no_flush")


def simulate(batches, small=2048):
    """Sizes of parts after commits of these sizes, and how often a document was written."""

    class Sized:
        def __init__(self, size):
            self.ids = range(size)

    parts, written = {}, 0
    for batch in batches:
        merged = postings.to_merge(parts, batch, False, postings._SMALL)
        size = batch + sum(parts[part] for part in merged)
        parts = {part: count for part, count in parts.items() if part not in merged}
        parts[Sized(size)] = size
        written += size
    return sorted(parts.values(), reverse=True), written / sum(batches)


def test_parts_stay_few_and_merging_stays_cheap():
    million = 1_000_000
    assert simulate([million, 10]) == ([million, 10], 1.0)
    sizes, _ = simulate([million, *[10] * 1000])
    assert sizes[0] == million and len(sizes) < 6
    for batches in ([10_000] * 100, [1000] * 1000, [137] * 3000, [10**i for i in range(7)]):
        sizes, amplification = simulate(batches)
        assert sum(sizes) == sum(batches)
        assert len(sizes) <= np.log2(sum(batches) / 2048) + 2
        assert amplification < np.log2(len(batches)) + 2048 / batches[0] + 2
    generator = random.Random(0)
    sizes, _ = simulate([generator.randint(1, 20_000) for _ in range(500)])
    assert all(large > small for large, small in zip(sizes, sizes[1:], strict=False))


def test_ten_pictures_more_do_not_rewrite_the_rest(tmp_path, many_parts):
    engine = PostingsEngine(tmp_path)
    engine.add([f"{i:04}" for i in range(3000)], csr_array(np.ones((3000, 3), dtype=np.int32)))
    engine.commit()

    def files():
        return {p: p.stat().st_ino for p in tmp_path.rglob("*") if p.is_file()}

    before = files()
    engine.add(["new", "0007"], csr_array([[1, 0, 0], [0, 9, 0]]), {"year": [1, 2]})
    engine.delete(["0000"])
    engine.commit()
    after = files()
    kept = {path for path, inode in before.items() if after.get(path) == inode}
    large = {path for path in before if path.parts[-2].startswith(("part", "postings"))}
    assert large and large <= kept
    assert engine.stats()["segments"] == 2
    written = sum(path.stat().st_size for path in after if path not in kept)
    assert written < 10_000
    assert engine.search({1: 1}, 2) == [Hit("0007", 9), Hit("0001", 1)]
    assert len(engine) == 3000
    engine.compact()
    assert engine.stats()["segments"] == 1
    assert engine.stats()["postings"] == 3 * 2998 + 2
    mark = {path.name for path in tmp_path.iterdir()}
    engine.compact()  # nothing to do
    assert {path.name for path in tmp_path.iterdir()} == mark
    engine.close()


def test_mostly_dead_parts_are_rewritten(tmp_path, many_parts):
    engine = PostingsEngine(tmp_path)
    ids = [f"{i:03}" for i in range(100)]
    engine.add(ids, csr_array(np.ones((100, 3), dtype=np.int32)))
    engine.commit()
    engine.delete(ids[:40])
    engine.commit()
    assert engine.stats()["postings"] == 300
    engine.delete(ids[40:60])
    engine.commit()
    assert engine.stats()["postings"] == 120
    engine.delete(ids)
    engine.commit()
    assert engine.stats() | {"bytes": 0} == {
        "documents": 0, "postings": 0, "bytes": 0, "vector_bytes": 0, "segments": 0
    }  # fmt: skip
    engine.add(ids[:1], csr_array([[1]]))
    engine.commit()
    assert engine.search({0: 1}, 5) == [Hit("000", 1)]
    engine.close()


def test_words_of_deleted_documents_go_with_a_merge(tmp_path):
    engine = PostingsEngine(tmp_path)
    engine.add(["a", "b"], csr_array([[1], [1]]), {"tag": ["secret", "z"], "x": ["secret", None]})
    engine.commit()
    engine.delete(["a"])
    engine.compact()
    assert engine.fetch(["b"]) == [{"tag": "z"}]
    with pytest.raises(LexLIPError, match="no document has a column 'x'"):
        engine.search({0: 1}, 1, Where.parse("x == 'secret'"))
    assert not any(b"secret" in p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    engine.close()

"""Collections: every layout on disk gives the same thing, and bad ones one line."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest

from lexlip.data.collection import Collection, load_collection
from lexlip.data.scenes import make_scenes, relevance
from lexlip.errors import LexLIPError
from tests.support.shades import png, save, shades, write_parquet

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def flat(tmp_path):
    """Two splits of parquet, one in two files, with judgements of dev."""
    folder = tmp_path / "flat"
    write_parquet(folder / "train-00000-of-00002.parquet", ["a", "b"], [["a0"], ["b0", "b1"]])
    write_parquet(folder / "train-00001-of-00002.parquet", ["c"], [["c0"]], 2)
    write_parquet(folder / "dev-00000-of-00001.parquet", ["d", "e"], [["d0", " ", "d2"], []], 3)
    (folder / "qrels-dev.tsv").write_text(
        "d#0\t0\td\t1\nd#2\t0\td\t1\nd#2\t0\te\t1\nd#0\t0\te\t0\n"
    )
    return folder


# --- parquet --------------------------------------------------------------------------------------


def test_parquet(flat, load):
    train = load(flat, "train")
    assert train.ids == ["a", "b", "c"] and len(train) == 3
    assert train.captions == [["a0"], ["b0", "b1"], ["c0"]]
    assert shades(train) == [0, 1, 2] and train.image(0).mode == "RGB"
    assert train.qrels == {"a#0": {"a"}, "b#0": {"b"}, "b#1": {"b"}, "c#0": {"c"}}
    assert train.dropped_captions == 0


def test_judgements_follow_dropped_captions(flat, load):
    dev = load(flat, "dev")
    assert dev.captions == [["d0", "d2"], []] and dev.dropped_captions == 1
    assert dev.qrels == {"d#0": {"d"}, "d#1": {"d", "e"}}
    assert dev.without(["e"]).qrels == {"d#0": {"d"}, "d#1": {"d"}}
    assert dev.select([1]).qrels == {}


def test_splits(flat, load):
    both = load(str(flat), "dev+train")
    assert both.ids == ["d", "e", "a", "b", "c"] and shades(both) == [3, 4, 0, 1, 2]
    assert both.qrels["d#1"] == {"d", "e"}
    with pytest.raises(LexLIPError, match="dev, train: say which"):
        load(flat)
    with pytest.raises(LexLIPError, match="no split 'test': it has dev, train"):
        load(flat, "test")
    one = load(flat / "dev-00000-of-00001.parquet")
    assert one.ids == ["d", "e"] and one.qrels["d#1"] == {"d", "e"}


def test_limit_and_rewritten_files(flat, load):
    assert load(flat, "train", 2).ids == ["a", "b"]
    assert load(flat, "train", limit=0).ids == []
    assert load(flat, "train", limit=9).ids == ["a", "b", "c"]
    assert load(flat, "dev", limit=1).qrels == {"d#0": {"d"}, "d#1": {"d"}}
    with pytest.raises(LexLIPError, match="limit"):
        load(flat, "train", -1)
    write_parquet(flat / "dev-00000-of-00001.parquet", ["d", "e"], [["d0", "", "new"], []], 7)
    assert load(flat, "dev").captions[0] == ["d0", "new"]  # nothing stale from the cache
    assert shades(load(flat, "dev")) == [7, 8]


def test_only_one_split_needs_no_name(tmp_path, load):
    write_parquet(tmp_path / "x/data/distractors-00000-of-00001.parquet", [7, 8], [[], []])
    found = load(tmp_path / "x")
    assert found.ids == ["7", "8"] and found.captions == [[], []] and found.qrels == {}


def test_other_columns(tmp_path, load):
    path = tmp_path / "x" / "test.parquet"
    path.parent.mkdir()
    save(tmp_path / "x", "p.png", 5)
    pq.write_table(pa.table({"image": ["p.png"], "caption": ["a dog"]}), path)
    found = load(tmp_path / "x")
    assert found.ids == ["test-0"] and found.captions == [["a dog"]] and shades(found) == [5]


def test_bad_parquet(flat, tmp_path, load):
    (flat / "train-00001-of-00002.parquet").unlink()
    with pytest.raises(LexLIPError, match="lacks some of the 2 files"):
        load(flat, "train")
    pq.write_table(pa.table({"text": ["x"]}), flat / "dev-00000-of-00001.parquet")
    with pytest.raises(LexLIPError, match="no column 'image': it has text"):
        load(flat, "dev")
    (flat / "dev-00000-of-00001.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(LexLIPError, match="no parquet file") as error:
        load(flat, "dev")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("d#0 0 d\n", "line 1 is not 'query 0 item grade'"),
        ("\nd#0 0 d x", "line 2"),
        ("d#0 0 z 1", "unknown"),
    ],
)
def test_bad_judgements(flat, load, text, message):
    (flat / "qrels-dev.tsv").write_text(text)
    with pytest.raises(LexLIPError, match=message):
        load(flat, "dev")


# --- pictures that cannot be read -----------------------------------------------------------------


def test_broken_pictures_are_found_when_asked_for(tmp_path, load):
    for name, shade in (("a.png", 1), ("b.png", 2), ("c.png", 3)):
        save(tmp_path / "pics", name, shade)
    (tmp_path / "pics" / "b.png").write_bytes(png(2)[:40])
    found = load(tmp_path / "pics")
    assert len(found) == 3 and found.image(2).getpixel((0, 0)) == (3, 3, 3)
    with pytest.raises(LexLIPError, match=r"b\.png: .*damaged"):
        found.image(1)
    os.remove(tmp_path / "pics" / "c.png")
    with pytest.raises(LexLIPError, match=r"c\.png: no such file"):
        found.image(2)
    skipped: list[tuple[str, str]] = []
    assert [numbers for numbers, _ in found.batches(2, skipped)] == [[0]]
    assert [name for name, _ in skipped] == ["b.png", "c.png"]
    assert [Path(reason.partition(":")[0]).name for _, reason in skipped] == ["b.png", "c.png"]
    with pytest.raises(LexLIPError, match="damaged"):
        list(found.batches(2))


def test_broken_bytes_name_their_id(tmp_path, load):
    table = {"image": [{"bytes": b"broken", "path": None}], "image_id": ["x7"]}
    pq.write_table(pa.table(table), tmp_path / "all.parquet")
    with pytest.raises(LexLIPError, match=r"x7 \(.*all\.parquet\): not a picture"):
        load(tmp_path / "all.parquet").image(0)


# --- the class ------------------------------------------------------------------------------------


def test_double_ids_are_refused(tmp_path, load):
    write_parquet(tmp_path / "x" / "dev-0.parquet", ["a", "b", "a"], [[], [], []])
    with pytest.raises(LexLIPError, match="two pictures have the id 'a'"):
        load(tmp_path / "x")


def test_select_without_and_batches(flat, load):
    train = load(flat, "train")
    part = train.select([2, 0])
    assert (part.ids, part.captions, shades(part)) == (["c", "a"], [["c0"], ["a0"]], [2, 0])
    assert part.without({"a", "unknown"}).ids == ["c"]
    assert shades(part.select([1])) == [0]  # a selection of a selection
    assert part.qrels == {"c#0": {"c"}, "a#0": {"a"}}
    batches = list(train.batches(2))
    assert [numbers for numbers, _ in batches] == [[0, 1], [2]]
    assert [[p.getpixel((0, 0))[0] for p in pictures] for _, pictures in batches] == [[0, 1], [2]]
    assert "3 pictures, 4 captions" in repr(train)


def test_collections_travel_to_other_processes(flat, load):
    receiver, sender = multiprocessing.Pipe(duplex=False)
    for found in (load(flat, "train"), load(flat, "train").select([1])):
        sender.send(found)  # as a data loader does to its workers
        again = receiver.recv()
        assert (again.ids, shades(again)) == (found.ids, shades(found))


def test_a_collection_in_memory():
    found = Collection(["x"], [["a", "b"]], [png(3)], {"x#1": ["x", "gone"]}, "memory")
    assert shades(found) == [3] and found.qrels == {"x#0": {"x"}, "x#1": {"x"}}


# --- names ----------------------------------------------------------------------------------------


def test_scenes(tmp_path, load):
    sizes = {"train": 12, "dev": 6, "test": 0, "size": 48}
    dev = load("scenes", "dev", scenes=sizes, seed=4)
    drawn = make_scenes(18, seed=4, size=48)[12:]
    assert dev.ids == [s.id for s in drawn]
    assert dev.captions == [[c.text for c in s.captions] for s in drawn]
    assert dev.qrels == relevance(drawn)
    assert np.array_equal(np.asarray(dev.image(2)), np.asarray(drawn[2].draw()))
    assert load("scenes", "train", 5, scenes=sizes, seed=4).ids == [
        f"scene-{i:06d}" for i in range(5)
    ]
    assert load("scenes", "dev", scenes=sizes, seed=5).source != dev.source
    with pytest.raises(LexLIPError, match="scenes have no val"):
        load("scenes", "dev", scenes={"val": 3})
    assert {p.name for p in tmp_path.iterdir()} == {"cache"}


def test_the_cache_folder_is_the_users(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    sizes = {"train": 2, "dev": 0, "test": 0}
    assert len(load_collection("scenes", "train", scenes=sizes)) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["lexlip"]


def test_flickr8k_says_what_to_set(tmp_path, monkeypatch, load):
    monkeypatch.setenv("LEXLIP_DATA", str(tmp_path / "data"))
    with pytest.raises(LexLIPError, match="set LEXLIP_DATA"):
        load("flickr8k", "dev")
    write_parquet(tmp_path / "data/flickr8k/dev-00000-of-00001.parquet", ["a"], [["x"]])
    assert load("flickr8k", "dev").ids == ["a"]


ROOT = Path(os.environ.get("LEXLIP_DATA", "../shared/data"))


@pytest.mark.skipif(not (ROOT / "flickr8k").is_dir(), reason="needs Flickr8k in LEXLIP_DATA")
def test_the_real_flickr8k(load):
    dev = load("flickr8k", "dev")
    assert len(dev) == 1000 and {len(c) for c in dev.captions} == {5}
    assert len(dev.qrels) == 5000
    assert dev.image(999).size == (224, 224)

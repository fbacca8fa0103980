"""Collections: every layout on disk gives the same thing, and bad ones one line."""

from __future__ import annotations

import csv
import gzip
import json
import multiprocessing
import os
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lexlip.data.collection import Collection, load_collection, read_texts
from lexlip.data.scenes import make_scenes, relevance
from lexlip.errors import LexLIPError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("datasets")


def picture(shade):
    return Image.new("RGB", (4, 3), (shade, shade, shade))


def png(shade):
    data = BytesIO()
    picture(shade).save(data, "PNG")
    return data.getvalue()


def save(folder, name, shade):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(shade))
    return path


def shades(collection):
    return [collection.image(i).getpixel((0, 0))[0] for i in range(len(collection))]


def write_parquet(path, ids, captions, first_shade=0, **columns):
    images = [{"bytes": png(first_shade + i), "path": f"{n}.png"} for i, n in enumerate(ids)]
    path.parent.mkdir(parents=True, exist_ok=True)
    table = {"image": images, "image_id": ids, "captions": captions, **columns}
    pq.write_table(pa.table(table), path)


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


@pytest.fixture
def load(tmp_path):
    def load(source, *args, **options):
        return load_collection(source, *args, cache=tmp_path / "cache", **options)

    return load


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
    [("d#0 0 d\n", "line 1: not 'query"), ("\nd#0 0 d x", "line 2"), ("d#0 0 z 1", "unknown")],
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


# --- folders of pictures --------------------------------------------------------------------------


def test_image_folder(tmp_path, load):
    for name, shade in (("b/2.PNG", 2), ("a x/1.jpeg", 1), ("0.webp", 0), (".hidden/x.png", 9)):
        save(tmp_path / "pics", name, shade)  # the suffix does not decide how it is decoded
    (tmp_path / "pics" / "notes.txt").write_text("no picture")
    found = load(tmp_path / "pics")
    assert found.ids == ["0.webp", "a x/1.jpeg", "b/2.PNG"] and shades(found) == [0, 1, 2]
    assert found.captions == [[], [], []]
    assert load(tmp_path / "pics", "b").ids == ["b/2.PNG"]
    with pytest.raises(LexLIPError, match="no split 'c'.*a x, b"):
        load(tmp_path / "pics", "c")
    (tmp_path / "empty").mkdir()
    with pytest.raises(LexLIPError, match="no picture in"):
        load(tmp_path / "empty")


def test_image_folder_with_metadata(tmp_path, load):
    folder = tmp_path / "pics"
    for name, shade in (("1.png", 1), ("in/2.png", 2), ("in/3.png", 3)):
        save(folder, name, shade)
    (folder / "metadata.csv").write_text('file_name,text\n1.png,"one, alone"\nin/2.png,\n')
    rows = [{"file_name": "2.png", "captions": ["two", "zwei"]}, {"file_name": "4.png"}]
    (folder / "in" / "metadata.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    found = load(folder)
    assert found.ids == ["1.png", "in/2.png", "in/3.png", "in/4.png"]
    assert found.captions == [["one, alone"], ["two", "zwei"], [], []]
    assert found.dropped_captions == 1
    with pytest.raises(LexLIPError, match="no such file"):
        found.image(3)
    (folder / "in" / "metadata.jsonl").write_text('{"file_name": "2.png"}\n{"name": "3.png"}\n')
    with pytest.raises(LexLIPError, match="row 2: no 'file_name'"):
        load(folder)


# --- tables ---------------------------------------------------------------------------------------


def test_csv_joins_rows(tmp_path, load):
    save(tmp_path, "p/1.png", 1)
    save(tmp_path, "p/2.png", 2)
    rows = [("p/1.png", "a dog"), ("p/2.png", "a cat"), ("p/1.png", "a dog"), ("p/1.png", "")]
    with open(tmp_path / "t.csv", "w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([("image", "caption"), *rows])
    found = load(tmp_path / "t.csv")
    assert found.ids == ["p/1.png", "p/2.png"] and shades(found) == [1, 2]
    assert found.captions == [["a dog", "a dog"], ["a cat"]]  # repeated captions are kept
    assert found.dropped_captions == 1


def test_csv_dialects(tmp_path, load):
    save(tmp_path, "1.png", 1)
    save(tmp_path, "2.png", 2)
    (tmp_path / "t.tsv").write_text(
        'image_id\tfilename\tsplit\tcaptions\n9\t1.png\tdev\t["a, b", "c"]\n8\t2.png\ttest\t[odd\n'
    )
    found = load(tmp_path / "t.tsv", "dev")
    assert (found.ids, found.captions) == (["9"], [["a, b", "c"]])
    assert load(tmp_path / "t.tsv").captions == [["a, b", "c"], ["[odd"]]
    with pytest.raises(LexLIPError, match="no split 'train': it has dev, test"):
        load(tmp_path / "t.tsv", "train")
    (tmp_path / "p.csv").write_text("path| caption_number| caption\n1.png| 0| two, words\n")
    assert load(tmp_path / "p.csv").captions == [["two, words"]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("picture,caption\n1.png,x\n", "no column image or path"),
        ("image,caption\n,x\n", "line 2: no file name"),
        ("image_id,image\n1,a.png\n1,b.png\n", "two files have the id '1'"),
        ("image,caption\n1.png,\x00" + "x" * 200_000 + "\n", "cannot be read as a table"),
    ],
)
def test_bad_csv(tmp_path, load, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(LexLIPError, match=message):
        load(tmp_path / "t.csv")


def test_karpathy(tmp_path, load):
    save(tmp_path, "val2014/1.jpg", 1)
    save(tmp_path, "2.jpg", 2)
    save(tmp_path, "images/3.jpg", 3)

    def entry(name, split, *raws, **more):
        return {"filename": name, "split": split, "sentences": [{"raw": r} for r in raws], **more}

    images = [
        entry("1.jpg", "train", "a dog", filepath="val2014"),
        entry("2.jpg", "restval", "a cat", "a cat"),
        entry("3.jpg", "test", "a cow"),
        entry("4.jpg", "test", "lost", filepath="val2014"),
    ]
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": images}))
    train = load(tmp_path / "dataset_coco.json", "train")
    assert (train.ids, shades(train)) == (["1", "2"], [1, 2])
    assert train.captions == [["a dog"], ["a cat", "a cat"]]
    test = load(tmp_path / "dataset_coco.json", "test")
    assert test.image(0).getpixel((0, 0)) == (3, 3, 3)
    with pytest.raises(LexLIPError, match=r"val2014/4\.jpg: no such file"):
        test.image(1)
    assert len(load(tmp_path / "dataset_coco.json")) == 4
    with pytest.raises(LexLIPError, match="no split 'dev': it has test, train"):
        load(tmp_path / "dataset_coco.json", "dev")
    for content, message in (("{}", "no list 'images'"), ('{"images": [3]}', "number 0")):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(LexLIPError, match=message):
            load(tmp_path / "bad.json")


def test_no_such_source(tmp_path, load):
    with pytest.raises(LexLIPError, match="does not exist"):
        load(tmp_path / "nowhere")
    (tmp_path / "x.zip").write_text("")
    with pytest.raises(LexLIPError, match=r"not a folder, \.parquet"):
        load(tmp_path / "x.zip")


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


# --- captions alone -------------------------------------------------------------------------------


ROWS = [
    {"image_id": 1000, "captions": ["a dog", " a cat "]},
    {"filename": "1.jpg", "split": None, "caption": "a cow"},
    {"sentences": [{"raw": "a hen", "tokens": ["a", "hen"]}, "a pig"]},
    "a fox",
    ["an elk", ""],
]


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_read_texts(tmp_path, suffix):
    def write(name, text):
        opened = gzip.open if suffix else open
        with opened(tmp_path / (name + suffix), "wt", encoding="utf-8") as file:
            file.write(text)
        return tmp_path / (name + suffix)

    path = write("x.jsonl", "\n".join(json.dumps(row) for row in ROWS) + "\n\n")
    assert read_texts(path) == ["a dog", "a cat", "a cow", "a hen", "a pig", "a fox", "an elk"]
    path = write("x.txt", "the first\n\n  zweites ü  \n")
    assert read_texts(str(path)) == ["the first", "zweites ü"]


def test_bad_texts(tmp_path):
    bad = {
        "x.jsonl": (b'"a"\n{"captions": [', "line 2: not JSON"),
        "y.jsonl": (b'{"title": "a"}', "line 1: no captions"),
        "z.txt": (b"\xff\xfe", "cannot be read as text"),
        "x.txt.gz": (gzip.compress(b"a dog\n" * 99)[:-9], "cannot be read as text"),
        "y.txt.gz": (b"not gzip", "cannot be read as text"),
        "x.csv": (b"a", "are read from"),
    }
    for name, (data, message) in bad.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(LexLIPError, match=message):
            read_texts(tmp_path / name)
    with pytest.raises(LexLIPError, match="does not exist"):
        read_texts(tmp_path / "none.txt")


@pytest.mark.skipif(not (ROOT / "captions").is_dir(), reason="needs captions in LEXLIP_DATA")
def test_the_real_caption_files():
    sizes = {p.name: len(read_texts(p)) for p in (ROOT / "captions").iterdir()}
    assert sizes["flickr30k_en_safe.jsonl.gz"] == 29_048 * 5
    assert sizes["cc3m_val.txt.gz"] > 15_000

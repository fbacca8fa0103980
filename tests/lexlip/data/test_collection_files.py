"""Folders of pictures, tables and Karpathy's JSON as collections, and bad ones one line."""

from __future__ import annotations

import csv
import json

import pytest

from lexlip.errors import LexLIPError
from tests.support.shades import save, shades

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
    found = load(folder)
    assert found.ids == ["1.png", "in/2.png", "in/3.png"]
    (said,) = found.left_out.notes
    assert "metadata.jsonl: 1 row has no 'file_name'" in said


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


def test_a_table_that_is_not_utf_8_says_so_in_plain_words(load, tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes("image,caption\na.png,caf\xe9\n".encode("latin-1"))
    with pytest.raises(LexLIPError, match=r"is not UTF-8: save the table in UTF-8$"):
        load(path)

"""Captions without pictures, from lines of text and JSON."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from lexlip.data.collection import read_texts
from lexlip.errors import LexLIPError

ROOT = Path(os.environ.get("LEXLIP_DATA", "../shared/data"))
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

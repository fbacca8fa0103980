from __future__ import annotations

import json
import os
from io import BytesIO

import pytest
from typer.testing import CliRunner

from eval.studies import encoding
from lexlip.errors import LexLIPError


def test_ways_are_compared_with_the_loop():
    rows = {way: [(1.0, 2.0, 3.0), (9.0, 4.0, 5.0), (2.0, 6.0, 7.0)] for way in encoding.WAYS}
    rows["onnx"] = [(5.0, 2.0, 3.0)]
    cells = {row[0]: row[1:] for row in encoding.table(rows)}
    assert cells["loop"] == ["2.00", "1.00", "4", "5"]
    assert cells["onnx"] == ["5.00", "2.50", "2", "3"]


def test_drawn_pictures_fill_files_as_photographs_do():
    file, picture = BytesIO(), encoding.draw_photo(0, megapixels=1)
    picture.save(file, "jpeg", quality=90)
    assert abs(picture.width * picture.height - 1e6) < 5e3
    assert 0.15 < len(file.getvalue()) / 1e6 < 0.6


def test_every_way_encodes_a_tiny_model(tmp_path, monkeypatch):
    monkeypatch.setattr(encoding, "apart", lambda work, *given: work(*given))  # torch loads once
    wanted = ["pictures=2", "texts=2", "rounds=1", "megapixels=0.01", "size=tiny", "batch=2"]
    done = CliRunner().invoke(encoding.app, [*wanted, f"out={tmp_path / 'found.json'}"])
    assert done.exit_code == 0, done.output
    assert "2 JPEGs of 0.01 megapixels" in done.output
    found = json.loads((tmp_path / "found.json").read_text())["results"]
    assert found.keys() == set(encoding.WAYS)
    for seen, told, peak in (row for rows in found.values() for row in rows):
        assert seen > 0 and told > 0 and peak > 50


def test_work_is_done_in_a_process_of_its_own():
    assert encoding.apart(os.getpid) != os.getpid()


def test_an_unknown_size_is_one_line():
    with pytest.raises(LexLIPError, match="no size 'huge': give one of b32, tiny"):
        encoding.main(["size=huge"])

"""Metadata: cells become the type that all of a column are, files tell what they are."""

from __future__ import annotations

import os

import pytest

from lexlip.data.collection import load_collection
from lexlip.data.metadata import file_metadata, rows_to_columns, typed


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1", "-2", "+3"], [1, -2, 3]),
        (["1", "", " 2 "], [1, None, 2]),
        (["1", "2.5", "1e3"], [1.0, 2.5, 1000.0]),
        (["true", "FALSE", ""], [True, False, None]),
        (["1", "true"], ["1", "true"]),
        (["01", "2"], ["01", "2"]),  # a postcode, not the number one
        (["nan", "1"], ["nan", "1"]),
        (["1e999"], ["1e999"]),
        (["1_000"], ["1_000"]),
        (["٣"], ["٣"]),
        ([str(2**53 + 1), "1"], [str(2**53 + 1), "1"]),  # a name: float64 would change it
        (["2024-05-01"], ["2024-05-01"]),
        (["", None], [None, None]),
        ([1, "2"], [1, "2"]),
        ([], []),
    ],
)
def test_cells_are_typed_as_columns(cells, values):
    found = typed(cells)
    assert found == values
    assert [type(v) for v in found] == [type(v) for v in values]


def test_rows_that_differ_share_their_columns():
    rows = [{"a": "1", "text": "x"}, {"b": "y"}, {"a": "3", "c": [1, 2]}]
    assert rows_to_columns(rows, ("text",)) == {"a": [1, None, 3], "b": [None, "y", None]}


def test_files_tell_folder_size_and_date(tmp_path):
    (tmp_path / "x").write_bytes(b"12345")
    os.utime(tmp_path / "x", (86_400, 86_400))
    found = file_metadata(["a/b/x", "gone", "raw"], [tmp_path / "x", tmp_path / "no", b"123"])
    assert found == {
        "folder": ["a/b", "", None],
        "bytes": [5, None, 3],
        "modified": ["1970-01-02T00:00:00", None, None],
    }


def test_tables_bring_their_other_columns(photos, tmp_path):
    table = tmp_path / "t.csv"
    lines = ["path,caption,year,place", f"{photos}/00.png,a star,2020,sea"]
    lines += [f"{photos}/01.png,a dog,,", f"{photos}/00.png,again,1999,hill"]
    table.write_text("\n".join(lines))
    found = load_collection(table)
    assert found.columns == {"year": [2020, None], "place": ["sea", None]}
    assert found.select([1]).columns == {"year": [None], "place": [None]}

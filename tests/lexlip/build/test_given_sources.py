"""Sources that people give in Python: patterns, tables of any names, dates and missing values."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, date, datetime, time, timedelta, timezone
from pathlib import Path

import datasets
import numpy as np
import pandas
import pyarrow
import pytest

from lexlip import Index, LexLIPError
from lexlip.build.encode import as_source
from lexlip.build.tables import Names
from lexlip.data.collection import Collection, load_collection
from lexlip.storage.stored import Stored


def refused(call, *parts):
    with pytest.raises(LexLIPError) as caught:
        call()
    said = str(caught.value)
    assert len(said.splitlines()) == 1 and all(part in said for part in parts), said


@pytest.fixture
def album(photos, tmp_path):
    """Pictures in folders, one with a space in its name, and files that are none."""
    folder = tmp_path / "my album"
    for name in ("a.png", "b c.png", "trip/d.png", "trip/e.jpg", "trip/far/f.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((photos / "00.png").read_bytes())
    (folder / "notes.txt").write_text("a text")
    return folder


# --- patterns -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "ids"),
    [
        ("*.png", ["a.png", "b c.png"]),
        ("**/*.png", ["a.png", "b c.png", "trip/d.png", "trip/far/f.png"]),
        ("trip/*", ["d.png", "e.jpg"]),
        ("*/[de].*", ["trip/d.png", "trip/e.jpg"]),
        ("*", ["a.png", "b c.png"]),
    ],
)
@pytest.mark.parametrize("kind", [str, Path])
def test_a_pattern_is_of_the_pictures_of_a_folder(album, pattern, ids, kind):
    found = as_source(kind(album / pattern))
    assert found.ids == ids
    assert (
        not found.whole
        and found.place == load_collection(album / "trip" if pattern == "trip/*" else album).place
    )


def test_pictures_of_a_pattern_are_those_of_their_folder(model, album, tmp_path):
    with Index.create(tmp_path / "x.lex", model, f"{album}/*.png") as index:
        assert list(index) == ["a.png", "b c.png"]
        refused(lambda: index.add(f"{album}/**/*.png", prune=True), "prune")
        index.add(f"{album}/**/*.png")
        assert index.add(album).unchanged == 4 and len(index) == 5


def test_patterns_that_match_nothing_are_said_so(model, album, tmp_path, monkeypatch):
    refused(lambda: as_source(f"{album}/*.gif"), "no picture matches", "5 are in")
    refused(lambda: as_source(f"{album}/none/*.png"), "there is no folder")
    (album / "a[1].png").write_bytes((album / "a.png").read_bytes())
    assert as_source(f"{album}/a[1].png").ids == ["a[1].png"]  # there is such a file
    monkeypatch.setenv("HOME", str(album.parent))
    assert as_source("~/my album").ids == as_source(album).ids
    assert as_source("~/my album/a.png").ids == ["a.png"]


# --- paths are no texts ---------------------------------------------------------------------------

PATHS = ["my photos/a dog.jpg", "photos/a.psd", "scans\\page.pdf", "clips/a.mp4", "a dog.heic"]


@pytest.mark.parametrize("text", PATHS)
def test_paths_are_never_indexed_as_texts(model, tmp_path, text):
    for source in ({"a": text}, [("a", text)], {"a": "a dog", "b": text}):
        refused(lambda source=source: Index.create(tmp_path / "x.lex", model, source), text[-4:])
    assert not (tmp_path / "x.lex").exists()


def test_existing_paths_and_addresses_are_no_texts(album, monkeypatch):
    monkeypatch.chdir(album)
    for text in ("trip/far", "./notes.txt", "trip/"):
        refused(lambda text=text: as_source({"a": text}), "looks like a file")
    assert as_source({"a": "trip", "b": "and/or", "c": "snow. sun"})["a"] == "trip"
    address = "s3://bucket/a.png"  # nothing is fetched yet
    for source, name in ({"a": address}, "a"), ([address], address), ([{"path": address}], address):
        found = as_source(source)
        assert found.ids == [name] and found.picture(0) == Stored(address)
    assert as_source(["b c.png"]).ids == ["b c.png"]
    refused(lambda: as_source(["trip"]), "no ids")
    refused(lambda: as_source([Path("trip"), Path("a.png")]), "one folder at a time")


def test_texts_of_a_table_are_texts_whatever_they_say(model, tmp_path):
    rows = [{"id": 1, "text": "photos/a.jpg", "year": 2020}, {"id": 2, "text": "a red circle"}]
    with Index.create(tmp_path / "x.lex", model, rows) as index:
        assert index.metadata(["1", "2"]) == [{"year": 2020}, {}]
        index.update([{"id": 2, "text": "a star", "year": 2021, "on": date(2024, 5, 31)}])
        assert index.metadata("2") == {"year": 2021, "on": "2024-05-31"}


# --- tables ---------------------------------------------------------------------------------------


def columns(photos):
    return {"pid": [7, 8], "photo": [str(photos / "00.png"), str(photos / "01.png")],
            "year": [2019, 2020], "tags": [["a"], []], "modified": ["x", "y"]}  # fmt: skip


def forms(table):
    rows = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
    yield pandas.DataFrame(table)
    yield pyarrow.table(table)
    yield datasets.Dataset.from_dict(table)
    yield datasets.Dataset.from_dict(table).to_iterable_dataset()
    yield datasets.IterableDataset.from_generator(lambda: iter(rows))  # no features
    yield datasets.Dataset.from_dict(table).with_format("numpy")
    yield rows
    yield (row for row in rows)
    yield table
    yield {name: np.array(values, dtype=object) for name, values in table.items()}


@pytest.mark.parametrize("number", range(10))
def test_columns_of_any_name_are_ids_and_pictures(photos, number):
    source = list(forms(columns(photos)))[number]
    found = as_source(source, names=Names("pid", "photo"))
    assert found.ids == ["7", "8"] and found.picture(1) == photos / "01.png"
    assert found.columns == {"year": [2019, 2020]}
    notes = found.left_out.lines("x")
    assert ["'modified'" in notes[0], "'tags'" in notes[1], len(notes)] == [True, True, 2]


def test_what_is_left_out_of_a_table_is_said(model, photos, tmp_path):
    frame = pandas.DataFrame(columns(photos))
    with Index.create(tmp_path / "x.lex", model, frame, id_column="pid", image_column="photo") as x:
        assert [("tags" in line, "modified" in line) for line in x.said] == [
            (False, True),
            (True, False),
        ]
        added = x.add(frame, id_column="year", image_column="photo")
        assert list(x) == ["2019", "2020", "7", "8"] and len(added.said) == 2
        x.update(frame, id_column="pid", image_column="photo")


def test_names_that_do_not_fit_are_said_so(model, photos, tmp_path):
    frame = pandas.DataFrame(columns(photos))
    refused(lambda: as_source(frame), "pid, photo", "image_column=")
    refused(lambda: as_source(frame, names=Names("pid", "pic")), "'pic'", "pid, photo")
    for source in (photos, {"a": photos / "00.png"}, [photos / "00.png"], load_collection(photos)):
        refused(lambda source=source: as_source(source, names=Names("pid")), "id_column")
    keyed = {"a": {"image": photos / "00.png"}}
    refused(lambda: as_source(keyed, names=Names("pid")), "id_column")


def test_tables_that_cannot_be_are_said_so(photos):
    paths = [photos / "00.png", photos / "01.png"]
    for gap in (float("nan"), pandas.NA, None):
        frame = pandas.DataFrame({"id": pandas.Series([1, gap], dtype="O"), "path": paths})
        refused(lambda frame=frame: as_source(frame), "id")
    refused(lambda: as_source(pandas.DataFrame({"id": [1, np.nan], "path": paths})), "document 2")
    for empty in (pandas.DataFrame({"id": [], "path": []}), {"path": []}, []):
        refused(lambda empty=empty: as_source(empty), "nothing to index")
    refused(lambda: as_source({"path": paths, "year": [2020]}), "differ in length")


def test_the_only_pictures_of_a_data_set_need_no_name(photos, images):
    features = datasets.Features(img=datasets.Image(), label=datasets.Value("int64"))
    rows = {"img": [str(photos / "00.png"), str(photos / "01.png")], "label": [3, 4]}
    data = datasets.Dataset.from_dict(rows, features=features)
    for source in (data, data.to_iterable_dataset()):
        found = as_source(source, names=Names("label"))
        assert found.ids == ["3", "4"] and found.image(1).tobytes() == images[1].tobytes()
    two = data.add_column("mask", rows["img"]).cast_column("mask", datasets.Image())
    refused(lambda: as_source(two), "image_column=")
    assert as_source(two, names=Names("label", "mask")).ids == ["3", "4"]


def test_pictures_of_a_stream_do_not_stay_in_memory(model, photos, images, tmp_path):
    files = [(photos / f"{n:02}.png").read_bytes() for n in range(4)]
    large = [files[n % 4] + bytes(2**20) for n in range(64)]

    def rows():
        for number, data in enumerate(large):
            yield {"id": number, "image": {"bytes": data, "path": None}, "year": 2000 + number}

    stream = datasets.IterableDataset.from_generator(rows)
    tracemalloc.start()
    try:
        found = as_source(stream)
        assert tracemalloc.get_traced_memory()[0] < 8 * 2**20  # of 64 MiB
    finally:
        tracemalloc.stop()
    assert [found.picture(n) for n in (0, 63, 5)] == [large[0], large[63], large[5]]
    assert found.image(6).tobytes() == images[2].tobytes() and found.columns["year"][63] == 2063
    with Index.create(tmp_path / "x.lex", model, found) as index:
        assert len(index) == 64


def test_a_missing_picture_of_a_data_set_is_left_out_and_named(model, photos, tmp_path):
    features = datasets.Features(image=datasets.Image(), id=datasets.Value("string"))
    table = {"image": [str(photos / "00.png"), None], "id": ["a", "b"]}
    data = datasets.Dataset.from_dict(table, features=features)
    for number, source in enumerate((data, data.to_iterable_dataset())):
        with Index.create(tmp_path / f"{number}.lex", model, source) as index:
            assert list(index) == ["a"]
            ((name, reason),) = index.skipped
            assert name == "b" and "no picture" in reason
            assert index.add(source).unchanged == 1


def test_a_mapping_of_ids_to_rows_has_metadata(model, photos, tmp_path):
    rows = {n: {"image": photos / f"0{n}.png", "year": 2020 + n} for n in range(2)}
    with Index.create(tmp_path / "x.lex", model, rows) as index:
        assert [facts["year"] for facts in index.metadata(["0", "1"])] == [2020, 2021]
        assert index.add({"new": {"path": photos / "02.png", "taken": date(2024, 1, 2)}}).written
        assert index.metadata("new")["taken"] == "2024-01-02"


# --- values ---------------------------------------------------------------------------------------

EAST = timezone(timedelta(hours=2))
VALUES = [
    (datetime(2024, 5, 31, 17, 5), "2024-05-31T17:05:00"),
    (datetime(2024, 5, 31, 1, 5, tzinfo=EAST), "2024-05-30T23:05:00"),
    (datetime(2024, 5, 31, 17, 5, tzinfo=UTC), "2024-05-31T17:05:00"),
    (pandas.Timestamp("2024-05-31 01:05", tz="Europe/Berlin"), "2024-05-30T23:05:00"),
    (pandas.Timestamp("2024-05-31"), "2024-05-31T00:00:00"),
    (np.datetime64("2024-05-31T17:05:00.000000000"), "2024-05-31T17:05:00"),
    (np.datetime64("2024-05-31"), "2024-05-31"),
    (date(2024, 5, 31), "2024-05-31"),
    (time(17, 5), "17:05:00"),
    (np.str_("a"), "a"),
    (np.bool_(True), True),
    (np.int16(7), 7),
    (np.float32(0.5), 0.5),
]
MISSING = [None, float("nan"), np.float64("nan"), np.datetime64("NaT"), pandas.NA, pandas.NaT]


@pytest.mark.parametrize(("value", "kept"), VALUES, ids=repr)
@pytest.mark.parametrize("gap", MISSING, ids=repr)
def test_dates_and_missing_values_are_kept_everywhere(photos, value, kept, gap):
    pictures = [photos / "00.png", photos / "01.png"]
    ways = {
        "rows": [{"path": it, "x": v} for it, v in zip(pictures, (value, gap), strict=True)],
        "frame": pandas.DataFrame({"path": pictures, "x": pandas.Series([value, gap], dtype="O")}),
        "collection": Collection(["a", "b"], [[], []], pictures, columns={"x": [value, gap]}),
    }
    for name, source in ways.items():
        assert as_source(source).columns == {"x": [kept, None]}, name


def test_a_date_is_no_change(model, photos, tmp_path):
    rows = [
        {"path": photos / "00.png", "on": pandas.Timestamp("2024-05-31"), "share": float("nan")},
        {"path": photos / "01.png", "on": pandas.NaT, "share": 0.5},
    ]
    with Index.create(tmp_path / "x.lex", model, rows) as index:
        assert index.add(rows).unchanged == 2
        assert index.search({t: 1 for t in model.lexicon.ids.tolist()}, where="on > '2024-05-30'")


def test_dates_of_parquet_are_kept(photos, tmp_path):
    pyarrow.parquet.write_table(
        pyarrow.table({
            "image": [(photos / "00.png").read_bytes(), (photos / "01.png").read_bytes()],
            "at": pyarrow.array([datetime(2024, 5, 31, 17, 5), None], pyarrow.timestamp("ns")),
            "on": pyarrow.array([date(2024, 5, 31), None]),
            "boxes": [[1.0], []],
        }),
        tmp_path / "train-0.parquet",
    )  # fmt: skip
    found = load_collection(tmp_path, cache=tmp_path / "cache")
    assert found.columns == {"at": ["2024-05-31T17:05:00", None], "on": ["2024-05-31", None]}
    assert ["'boxes'" in line for line in found.left_out.lines("x")] == [True]


def test_columns_of_lists_are_said_to_be_left_out(album, photos):
    (album / "metadata.jsonl").write_text('{"file_name": "a.png", "box": [1, 2], "year": 2020}\n')
    assert any("'box'" in line for line in load_collection(album).left_out.lines("x"))
    table = photos.parent / "listed.csv"
    table.write_text(f'path,box,year\n{photos}/00.png,"[1, 2]",2020\n')
    found = load_collection(table)
    assert found.columns == {"year": [2020]} and "'box'" in found.left_out.lines("x")[0]

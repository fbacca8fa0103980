"""Sources behind URLs: folders, parquet files, lists and patterns of pictures."""

from __future__ import annotations

import pyarrow
import pyarrow.parquet
import pytest

from lexlip import Index
from lexlip.data.addresses import expand
from lexlip.data.collection import load_collection
from lexlip.errors import LexLIPError
from lexlip.storage.remote import Remote, Unreachable
from tests.support.file_server import serving
from tests.support.shards import write_webdataset


@pytest.fixture
def bucket(photos):
    """The pictures as files of a bucket, with a table."""
    place = Remote("memory://bucket")
    for file in sorted(photos.glob("*.png")):
        (place / f"all/{'trip/' if file.name > '05' else ''}{file.name}").write(file.read_bytes())
    (place / "all/.hidden.png").write(b"x")
    (place / "all/notes.txt").write(b"x")
    (place / "all/metadata.csv").write(b"file_name,caption,year\n00.png,a red one,2020\n")
    yield place
    place.remove()


def parquet(path, rows, group=5):
    table = pyarrow.Table.from_pylist(rows)
    pyarrow.parquet.write_table(table, path, row_group_size=group)


def test_a_folder_of_a_bucket_is_as_one_on_disk(bucket):
    found = load_collection("memory://bucket/all", exclude=["07.png"])
    assert found.ids[:2] == ["00.png", "01.png"] and "trip/08.png" in found.ids
    assert len(found) == 12 and "trip/07.png" not in found.ids
    assert found.captions[0] == ["a red one"] and found.columns == {"year": [2020] + [None] * 11}
    assert dict(found.left_out.kinds) == {"07.png": 1, "hidden files": 1, ".txt": 1}
    skipped = []
    assert sum(len(rows) for rows, _ in found.batches(4, skipped)) == 11
    assert (
        skipped[0][0] == "trip/broken.png"
        and "memory://bucket/all/trip/broken.png" in skipped[0][1]
    )
    assert load_collection("memory://bucket/all", "trip").ids[0] == "trip/05.png"
    with pytest.raises(LexLIPError, match="no split 'winter': it has"):
        load_collection("memory://bucket/all", "winter")


def test_one_picture_and_a_pattern(bucket):
    assert load_collection("memory://bucket/all/00.png").ids == ["00.png"]
    assert load_collection("memory://bucket/all/*/0{6,7}.png").ids == ["trip/06.png", "trip/07.png"]
    with pytest.raises(LexLIPError, match="does not exist"):
        load_collection("memory://bucket/all/0{0,x}.png")


@pytest.mark.parametrize("form", ["bytes", "struct", "path", "url"])
def test_parquet_files_in_all_forms(photos, form, tmp_path):
    rows = []
    for number, file in enumerate(sorted(photos.glob("*.png"))):
        data = file.read_bytes()
        with_form = {"bytes": data, "struct": {"bytes": data, "path": None}, "path": file.name}
        image = with_form.get(form, f"URL/{file.name}")
        rows.append({"image": image, "id": number, "caption": f"c{number}", "year": 2000 + number})
    (tmp_path / "web").mkdir()
    for file in photos.glob("*.png"):
        (tmp_path / "web" / file.name).write_bytes(file.read_bytes())
    with serving(tmp_path / "web") as (url, asked):
        for row in rows:
            if form == "url":
                row["image"] = row["image"].replace("URL", url)
        for number in (0, 1):
            name = tmp_path / "web" / f"train-{number}.parquet"
            parquet(name, rows[7 * number : 7 * number + 7])
        found = load_collection(f"{url}/train-{{0..1}}.parquet")
        assert found.ids == [str(number) for number in range(13)]
        assert found.captions[12] == ["c12"] and found.columns["year"][8] == 2008
        skipped = []
        pictures = [it for _, some in found.batches(5, skipped) for it in some]
        assert len(pictures) == 12 and [name for name, _ in skipped] == ["12"]
        local = load_collection(photos)
        assert pictures[3].tobytes() == local.image(3).tobytes()
        asked.clear()
        assert found.picture(9).read() == sorted(photos.glob("*.png"))[9].read_bytes()
        assert not [path for _, path, _ in asked if path.endswith("train-0.parquet")]


def test_damaged_and_hostile_parquet_files(tmp_path, photos):
    where = f"file://{tmp_path}/a.parquet"
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no parquet PAR1")
    with pytest.raises(LexLIPError, match="is no parquet file, or damaged") as told:
        load_collection(where)
    assert not isinstance(told.value, Unreachable)
    parquet(tmp_path / "a.parquet", [{"text": "x"}])
    with pytest.raises(LexLIPError, match="no column 'image': it has text"):
        load_collection(where)
    named = ["file:///etc/passwd", "../x.png", "/x.png", None]
    good = (photos / "00.png").read_bytes()
    parquet(tmp_path / "a.parquet", [{"image": name} for name in named])
    skipped = []
    assert list(load_collection(where).batches(2, skipped)) == []
    assert [name for name, _ in skipped] == [f"a-{number}" for number in range(4)]
    assert "names no local files" in skipped[0][1] and "not below its folder" in skipped[1][1]
    rows = [{"image": bytes([n]) * 50_000 + good} for n in range(4)]
    table = pyarrow.Table.from_pylist(rows)
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet", 2, compression="zstd",
                                use_dictionary=False)  # fmt: skip
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    data[20:60] = bytes(40)  # in a page of the first group
    (tmp_path / "a.parquet").write_bytes(data)
    found, skipped = load_collection(where), []
    list(found.batches(4, skipped))
    assert "is no parquet file, or damaged" in skipped[0][1]


def test_a_service_that_fails_is_no_picture_to_skip(photos, tmp_path, model):
    refuse = {}
    with serving(photos, refuse) as (url, _):
        found = load_collection(f"{url}/0{{0..9}}.png")
        refuse["/03.png"] = 503
        with pytest.raises(Unreachable, match="503"):
            list(found.batches(4, []))
        with pytest.raises(Unreachable, match="503"):
            Index.create(tmp_path / "x.lex", model, f"{url}/0{{0..9}}.png", engine="postings")
        assert not (tmp_path / "x.lex").exists()
        refuse.clear()
        refuse["/03.png"] = 404  # gone between: that is the picture's own
        skipped = []
        assert sum(len(rows) for rows, _ in found.batches(4, skipped)) == 9
        assert "03.png does not exist" in skipped[0][1]


def test_adding_again_reads_nothing_that_is_unchanged(photos, tmp_path, model):
    pictures = [(file.name, file.read_bytes()) for file in sorted(photos.glob("*.png"))]
    folder = write_webdataset(tmp_path / "tars", pictures, 5)
    (tmp_path / "tars" / "single.png").write_bytes((photos / "01.png").read_bytes())
    with serving(folder) as (url, asked):
        tars = f"{url}/photos-{{000000..000002}}.tar"
        with Index.create(tmp_path / "x.lex", model, tars, engine="postings") as index:
            assert len(index) == 12 and index.skipped[0][0] == "photos-000002/broken.png"
            assert index.metadata("photos-000000/00.png")["bytes"] == len(pictures[0][1])
            asked.clear()
            again = index.add(tars)
            assert (again.written, again.unchanged) == (0, 12)
            # Only what could not be read is asked for once more.
            read = [path for method, path, _ in asked if method == "GET"]
            assert set(read) <= {"/photos-000002.tar"} and len(read) == 1
            changed = [("00.png", pictures[1][1]), *pictures[1:5]]
            write_webdataset(folder, changed, 5)
            again = index.add(tars)
            assert again.written + again.alike == 5 and again.unchanged == 7
            added = index.add(f"{url}/single.png")
            assert added.written == 1 and "single/single.png" in index.engine.ids()
        local = Index.create(tmp_path / "y.lex", model, folder / "photos-*.tar", engine="postings")
        with local:
            assert len(local) == 12 and local.add(folder / "photos-*.tar").unchanged == 12


def test_a_list_of_urls(photos, tmp_path, model):
    with serving(photos) as (url, _):
        source = [f"{url}/00.png", f"{url}/01.png"]
        with Index.create(tmp_path / "x.lex", model, source, engine="postings") as index:
            assert sorted(index.engine.ids()) == source
            assert index.add(source).unchanged == 2


@pytest.mark.parametrize("pattern", ["a{9..1}", "a{0..99999999}", "{0..9999}{0..9999}"])
def test_patterns_are_bounded(pattern):
    with pytest.raises(LexLIPError, match="range of at most|stands for"):
        expand(pattern)


def test_a_password_is_not_kept():
    with pytest.raises(LexLIPError, match="its password would be kept"):
        load_collection("https://me:secret@example.org/photos.tar")

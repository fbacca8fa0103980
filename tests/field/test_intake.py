"""Folders as people have them: nothing stops an index, and nothing is left out in silence."""

from __future__ import annotations

import json
import os
import unicodedata

import pytest

from indexing.build import Settings, build
from lexlip import Index
from lexlip.build.encoded_parts import Encoded
from lexlip.data.collection import Collection, load_collection
from lexlip.data.metadata import file_metadata, modified_of
from lexlip.errors import LexLIPError
from lexlip.settings import Data
from tests.support.trees import mode, picture, pictures

NOT_UTF8 = os.fsdecode(b"caf\xe9.png")


def held(path):
    with Index.open(path) as index:
        return sorted(index.engine.ids())


def in_bulk(folder, checkpoint, out, **others):
    settings = Settings(
        data=str(folder), model=str(checkpoint), out=str(out), engine="postings", **others
    )
    with build(settings, Data()) as index:
        return sorted(index.engine.ids()), index.skipped


# --- one bad file costs one line ------------------------------------------------------------------


@pytest.fixture
def odd(tmp_path):
    """Pictures with a name that is not UTF-8, a path that is too long, and broken bytes."""
    folder = pictures(tmp_path / "odd", "a.png", "b.png", NOT_UTF8)
    deep = folder
    for _ in range(5):
        deep = deep / ("d" * 230)
    picture(deep / "deep.png", 77)
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / os.fsdecode(b"f\xe9")).mkdir()
    picture(folder / os.fsdecode(b"f\xe9") / "in.png", 78)
    return folder


def test_a_file_that_cannot_be_indexed_is_named_and_the_others_are(lexlip, make, odd):
    path = make(odd)
    assert held(path) == ["a.png", "b.png"]
    again = lexlip("index", odd, "-o", path)
    assert again.exit_code == 0, again.output
    lines = [line for line in again.stderr.splitlines() if line.startswith("skipped: ")]
    assert len(lines) == 4
    for reason in ("its name is not UTF-8", "folder's name is not UTF-8", "1024", "not a picture"):
        assert sum(reason in line for line in lines) == 1, lines
    noted = [json.loads(line) for line in (path / "skipped.jsonl").read_text().splitlines()]
    assert len(noted) == 4  # once each, however often it is run


def test_python_and_the_bulk_build_skip_the_same(model, checkpoint, odd, tmp_path):
    with Index.create(tmp_path / "p.lex", model, odd, engine="postings") as index:
        names = {name for name, _ in index.skipped}
        assert sorted(index.engine.ids()) == ["a.png", "b.png"] and len(names) == 4
        given = {"x": odd / "a.png", "y" * 1025: odd / "b.png", "": odd / "b.png"}
        done = index.add(given)
        assert done.alike == 1 and len(done.skipped) == 2
    found, skipped = in_bulk(odd, checkpoint, tmp_path / "b.lex")
    assert found == ["a.png", "b.png"] and {name for name, _ in skipped} == names


def test_a_date_that_is_none_costs_the_date(tmp_path):
    assert modified_of(253_402_300_800) is None and modified_of(-(10**15)) is None
    assert modified_of(253_402_300_799) == "9999-12-31T23:59:59"
    assert modified_of(-62_000_000_000).startswith("0005-")  # sorts before other years
    path = picture(tmp_path / "a.png", 1)
    os.utime(path, (253_402_300_800 + 10**7,) * 2)  # some file systems take less
    (date,) = file_metadata(["a.png"], [path])["modified"]
    assert date == modified_of(int(os.stat(path).st_mtime))


def test_metadata_cells_stop_nothing(model, tmp_path):
    folder = pictures(tmp_path / "pics", "a.png", "b.png", "c.png")
    long, big = "x" * 40_000, str(2**53 + 1)
    rows = [
        {"file_name": "a.png", "year": 2020, "note": long, "serial": big, "mixed": 1},
        {"file_name": "b.png", "year": "unknown", "note": "short", "serial": "1", "mixed": True},
    ]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with Index.create(tmp_path / "i.lex", model, folder, engine="postings") as index:
        first, second = index.engine.fetch(["a.png", "b.png"])
    assert (first["year"], first["serial"], first["mixed"]) == ("2020", big, "1")
    assert (second["year"], second["note"], second["mixed"]) == ("unknown", "short", "True")
    assert "note" not in first


# --- tables beside pictures -----------------------------------------------------------------------


def test_a_table_may_not_replace_facts_of_files(lexlip, make, tmp_path):
    folder = pictures(tmp_path / "pics", "a.png", "b.png")
    table = "file_name,modified,bytes,folder,year\na.png,2001,7,x,1999\n"
    (folder / "metadata.csv").write_text(table)
    done = lexlip("index", folder, "-o", make(folder))
    for name in ("modified", "bytes", "folder"):
        assert f"its column '{name}' is left out" in done.stderr
    with Index.open(tmp_path / "i.lex") as index:
        (facts,) = index.engine.fetch(["a.png"])
    assert facts["bytes"] == (folder / "a.png").stat().st_size and facts["year"] == 1999
    picture(folder / "a.png", 9, size=40)
    assert "1 new, 1 unchanged" in lexlip("index", folder, "-o", tmp_path / "i.lex").stdout
    (tmp_path / "t.csv").write_text(f"path,bytes\n{folder / 'a.png'},7\n")
    assert load_collection(tmp_path / "t.csv").columns == {}


@pytest.mark.parametrize("written", ["./01.png", "sub\\00.png", " sub/00.png", "{folder}/01.png"])
def test_rows_join_however_the_path_is_written(tmp_path, written):
    folder = pictures(tmp_path / "pics", "sub/00.png", "01.png")
    cell = written.format(folder=folder)
    (folder / "metadata.csv").write_text(f"file_name,year\n{cell},1999\n")
    found = load_collection(folder)
    assert found.ids == ["01.png", "sub/00.png"]
    assert [value for value in found.columns["year"] if value] == [1999]
    (tmp_path / "t.csv").write_text("path\n" + written.format(folder=folder) + "\n")
    if "{" not in written:
        (folder / "t.csv").write_text(f"path\n{written}\n")
        load_collection(folder / "t.csv").image(0)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metadata.csv", b"x,y\n1,2\n"),
        ("metadata.csv", b"\xff\xfe\x00"),
        ("metadata.jsonl", b"{broken\n"),
        ("metadata.jsonl", b"[1, 2]\n3\n"),
    ],
)
def test_a_stray_table_is_one_warning(lexlip, make, tmp_path, name, text):
    folder = pictures(tmp_path / "pics", "a.png", "sub/b.png")
    (folder / "sub" / name).write_bytes(text)
    path = make(folder)
    assert held(path) == ["a.png", "sub/b.png"]
    said = lexlip("index", folder, "-o", path).stderr.splitlines()
    assert len(said) == 1 and f"sub/{name}" in said[0] and "left out" in said[0]


# --- what is left out is said ---------------------------------------------------------------------


def test_all_that_is_left_out_is_said_once_a_kind(lexlip, make, tmp_path):
    folder = pictures(tmp_path / "pics", "a.png", ".hidden/x.png", "@eaDir/a.png", ".b.png")
    for name in ("1.mov", "2.mov", "notes.txt", "none"):
        (folder / name).write_text("no picture")
    path = make(folder)
    assert held(path) == ["a.png"]
    (line,) = lexlip("index", folder, "-o", path).stderr.splitlines()
    for kind in (
        ".mov (2)", ".txt (1)", "without a suffix (1)", "hidden folders (1)", "hidden files (1)",
        "@eaDir (1)",
    ):  # fmt: skip
        assert kind in line


def test_links_are_followed_and_loops_are_cut(tmp_path):
    folder = pictures(tmp_path / "pics", "a.png", "sub/b.png")
    pictures(tmp_path / "elsewhere", "c.png", "in/d.png")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "link2").symlink_to(tmp_path / "elsewhere")
    (folder / "sub" / "up").symlink_to(folder)
    (folder / "above").symlink_to(tmp_path)
    (folder / "a0").symlink_to(folder / "sub")
    (tmp_path / "elsewhere" / "back").symlink_to(folder / "sub")
    (folder / "self").symlink_to(folder / "self")
    found = load_collection(folder)
    assert found.ids == ["a.png", "link/c.png", "link/in/d.png", "sub/b.png"]
    assert found.left_out.kinds["links to folders that are read anyway"] == 5
    for row in range(len(found)):
        found.image(row)


def test_a_folder_that_cannot_be_opened_is_said(model, tmp_path):
    folder = pictures(tmp_path / "pics", "a.png", "shut/b.png", "shut/c.png")
    with Index.create(tmp_path / "i.lex", model, folder, engine="postings") as index:
        with mode(folder / "shut", 0):
            done = index.add(folder, prune=True)
        assert done.gone == () and len(index) == 3  # nobody knows what is in it
        (line,) = done.said
        assert "shut: the folder cannot be opened (Permission denied)" in line
        with mode(folder / "a.png", 0):
            os.utime(folder / "a.png", (1, 1))
            done = index.add(folder)
        assert "Permission denied" in done.skipped[0][1] and len(index) == 3


NAS = ["@eaDir", "#recycle", ".thumbnails", "node_modules", "System Volume Information"]


@pytest.mark.parametrize("name", NAS)
def test_folders_of_systems_are_left_out(tmp_path, name):
    folder = pictures(tmp_path / "pics", "a.png", f"{name}/b.png", f"sub/{name}/c.png")
    assert load_collection(folder).ids == ["a.png"]


def test_an_index_remembers_what_is_excluded(lexlip, make, tmp_path):
    names = ("a.png", "raw/b.png", "2024/raw/c.png", "2024/d.tmp.png")
    folder = pictures(tmp_path / "pics", *names)
    path = make(folder, options=["--exclude", "*.tmp.png", "--exclude", "2024/raw"])
    assert held(path) == ["a.png", "raw/b.png"]
    assert "0 new, 2 unchanged" in lexlip("index", folder, "-o", path).stdout
    more = lexlip("index", folder, "-o", path, "--exclude", "raw")
    assert "1 picture is no longer in" in more.stderr and len(held(path)) == 2
    lexlip("index", folder, "-o", path, "--prune")
    assert held(path) == ["a.png"]


def test_a_bulk_build_leaves_out_the_same(lexlip, checkpoint, tmp_path):
    folder = pictures(tmp_path / "pics", "a.png", "raw/b.png", "@eaDir/c.png")
    found, _ = in_bulk(folder, checkpoint, tmp_path / "b.lex", exclude=("raw",))
    assert found == ["a.png"]
    assert "0 new, 1 unchanged; 1 pictures" in lexlip(
        "index", folder, "-o", tmp_path / "b.lex"
    ).stdout  # fmt: skip


def test_patterns_are_ignored_nowhere(model, tmp_path):
    a = picture(tmp_path / "a.png", 1)
    with Index.create(tmp_path / "i.lex", model, tmp_path, engine="postings") as index:
        for source in (a, {"x": a}, {"x": "a text"}):
            with pytest.raises(LexLIPError, match="goes with folders"):
                index.add(source, exclude=["raw"])
        assert len(index) == 1


# --- one Unicode form inside ----------------------------------------------------------------------

NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


@pytest.mark.parametrize("engine", ["postings", pytest.param("lucene", marks=pytest.mark.java)])
@pytest.mark.parametrize(("on_disk", "asked"), [(NFD, NFC), (NFC, NFD)])
def test_names_have_one_unicode_form_inside(lexlip, make, tmp_path, engine, on_disk, asked):
    folder = pictures(tmp_path / "pics", f"{on_disk}/é.png", "b.png")
    path = make(folder, options=["--engine", engine])
    assert held(path) == ["b.png", f"{NFC}/é.png"]
    with Index.open(path) as index:
        (hit,) = index.search(folder / on_disk / "é.png", 5, where=f"folder == '{asked}'")
        assert hit.id == f"{NFC}/é.png"
        assert index.explain(f"{asked}/é.png", folder / on_disk / "é.png")
    shown = lexlip("search", path, "", "--image", folder / "b.png", "--paths").stdout.splitlines()
    assert str(folder / on_disk / "é.png") in shown  # opened by its own name
    assert lexlip("explain", path, "red", f"{asked}/é.png").exit_code == 0
    assert "1 deleted, 1 left" in lexlip("delete", path, f"{asked}/é.png").stdout


def test_two_names_that_differ_in_their_form_are_not_one_picture(tmp_path):
    folder = pictures(tmp_path / "pics", f"{NFC}.png", f"{NFD}.png", "b.png")
    found = load_collection(folder)
    assert found.ids == ["b.png", f"{NFC}.png"]
    ((_, reason),) = found.left_out.skipped
    assert "another Unicode form" in reason


def test_ids_of_programs_and_tables_have_the_same_form(model, tmp_path):
    a = picture(tmp_path / "a.png", 1)
    assert Collection([NFD], [[]], [a]).ids == [NFC]
    (tmp_path / "t.csv").write_text(f"path,image_id,place\n{a},{NFD},{NFD}\n", "utf-8")
    with Index.create(tmp_path / "i.lex", model, tmp_path / "t.csv", engine="postings") as index:
        assert index.engine.ids() == [NFC]
        assert index.search(a, 1, where=f"place == '{NFD}'")[0].id == NFC
        index.add({NFD: a})
        assert len(index) == 1 and index.delete([NFD]) == 1


# --- the rest of the road -------------------------------------------------------------------------


def test_parts_of_a_bulk_build_keep_the_facts_of_files(model, checkpoint, tmp_path):
    folder = pictures(tmp_path / "pics", "a.png", "b.png")
    in_bulk(folder, checkpoint, tmp_path / "b.lex")
    os.utime(folder / "a.png", (5, 5))
    os.rename(folder / "b.png", folder / "c.png")
    with Index.open(tmp_path / "b.lex", model, "w") as index:
        done = index.add(folder, prune=True)
        assert (done.written, done.alike, done.gone, done.pruned) == (0, 2, ("b.png",), 1)
    with pytest.raises(LexLIPError, match="no encoded documents"):
        Encoded.open(tmp_path / "b.lex.parts")

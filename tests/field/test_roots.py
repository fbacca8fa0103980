"""Folders of an index: none collides, moved ones are found, and what is gone is said."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from lexlip import Index
from lexlip.errors import LexLIPError
from lexlip.storage.seal import read_sealed, write_sealed
from tests.support.trees import picture, pictures


def held(path):
    with Index.open(path) as index:
        return sorted(index.engine.ids())


def paths(lexlip, index, *options):
    """The file of every picture, by the numbers of `search --paths`."""
    done = lexlip("search", index, "a red circle above", "-k", 99, "--paths", *options)
    assert done.exit_code == 0 and done.stderr == "", done.output
    return sorted(done.stdout.splitlines())


def every(*folders):
    return sorted(str(path) for folder in folders for path in Path(folder).rglob("*.png"))


# --- several folders ------------------------------------------------------------------------------


def test_two_folders_never_share_an_id(lexlip, make, tmp_path):
    a = pictures(tmp_path / "A", "IMG_1.png", "sub/x.png", seed=1)
    b = pictures(tmp_path / "B", "IMG_1.png", "IMG_2.png", seed=2)
    path = make(a)
    done = lexlip("index", b, "-o", path)
    assert "2 new, 0 unchanged; 4 pictures" in done.stdout
    assert f"the index has pictures of {a}" in done.stderr and "begin with B/" in done.stderr
    assert held(path) == ["B/IMG_1.png", "B/IMG_2.png", "IMG_1.png", "sub/x.png"]
    assert paths(lexlip, path) == every(a, b)
    again = lexlip("index", a, b, "-o", path)  # both, and nothing is said
    assert "0 new, 4 unchanged" in again.stdout and again.stderr == ""
    with Index.open(path) as index:
        for id, file in (("IMG_1.png", a / "IMG_1.png"), ("B/IMG_1.png", b / "IMG_1.png")):
            assert index.search(file, 1)[0].id == id
        (hit,) = index.search(b / "IMG_1.png", 1, where="folder == 'B'")
    assert "1 deleted" in lexlip("delete", path, b / "IMG_1.png").stdout  # by its path
    assert "B/IMG_1.png" not in held(path)


def test_several_folders_make_one_index(lexlip, make, tmp_path):
    folders = [pictures(tmp_path / f"{n}" / "DCIM", "a.png", seed=n) for n in range(3)]
    path = make(*folders)
    assert held(path) == ["DCIM-2/a.png", "DCIM/a.png", "a.png"]
    assert paths(lexlip, path) == every(*folders)


def test_a_folder_in_a_known_one_is_part_of_it(lexlip, make, tmp_path):
    folder = pictures(tmp_path / "A", "a.png", "sub/b.png")
    path = make(folder)
    picture(folder / "sub" / "c.png", 5)
    assert "1 new, 1 unchanged; 3 pictures" in lexlip("index", folder / "sub", "-o", path).stdout
    picture(folder / "sub" / "d.png", 6)
    lexlip("index", folder / "sub" / "d.png", "-o", path)
    assert held(path) == ["a.png", "sub/b.png", "sub/c.png", "sub/d.png"]
    shutil.rmtree(folder / "sub")
    pictures(folder / "sub", "e.png")
    assert "a.png" not in lexlip("index", folder / "sub", "-o", path, "--prune").stderr
    assert held(path) == ["a.png", "sub/e.png"]  # no further than the folder that was read


def test_a_folder_around_a_known_one_takes_nothing_from_it(lexlip, make, tmp_path):
    folder = pictures(tmp_path / "A", "2023/a.png", "b.png")
    path = make(folder / "2023")
    lexlip("index", folder, "-o", path)
    assert held(path) == ["A/b.png", "a.png"]
    assert paths(lexlip, path) == every(folder)
    assert "0 new, 2 unchanged" in lexlip("index", folder, "-o", path, "--prune").stdout


def test_a_folder_named_as_another_root_is_refused_by_name(lexlip, make, tmp_path):
    a = pictures(tmp_path / "A", "a.png")
    path = make(a, pictures(tmp_path / "x" / "B", "b.png", seed=1))
    pictures(a / "B", "b.png", seed=2)
    done = lexlip("index", a, "-o", path)
    assert done.exit_code == 0 and f"are those of {tmp_path / 'x' / 'B'}" in done.stderr
    assert held(path) == ["B/b.png", "a.png"]
    assert paths(lexlip, path) == sorted([str(a / "a.png"), str(tmp_path / "x" / "B" / "b.png")])


def test_tables_are_roots_as_folders_are(lexlip, make, tmp_path):
    rows = {}
    for name in ("one", "two"):
        folder = pictures(tmp_path / name, "a.png", seed=len(rows) + 1)
        rows[name] = folder / f"{name}.csv"
        rows[name].write_text("path,caption\na.png,x\n")
    path = make(rows["one"])
    lexlip("index", rows["two"], "-o", path)
    assert held(path) == ["a.png", "two/a.png"]
    with Index.open(path) as index:
        from lexlip.data.originals import Originals

        found = Originals.of(path, index.manifest)
        for id, name in (("a.png", "one"), ("two/a.png", "two")):
            assert found.find(id) == tmp_path / name / "a.png"
        assert sorted(found.collection.ids) == ["a.png", "two/a.png"]


def test_pictures_that_programs_give_keep_their_ids(model, tmp_path):
    a, b = (pictures(tmp_path / name, "x.png", seed=n) for n, name in enumerate("ab"))
    with Index.create(tmp_path / "i.lex", model, a, engine="postings") as index:
        index.add({"given": b / "x.png"})
        index.add(b)
        assert sorted(index.engine.ids()) == ["b/x.png", "given", "x.png"]
        done = index.add(a, prune=True)  # what was given lies in no folder, and stays
        assert done.gone == () and len(index) == 3


# --- moved ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("leave", ["nothing", "an empty folder"])
def test_a_moved_folder_is_found_again(lexlip, make, tmp_path, leave):
    old = pictures(tmp_path / "old", "a.png", "sub/b.png")
    path, new = make(old), tmp_path / "new"
    old.rename(new)
    if leave != "nothing":
        old.mkdir()  # where a disk was mounted
    facts = read_sealed(path / "manifest.json")  # to show that no model is loaded
    write_sealed(path / "manifest.json", {**facts, "checkpoint": str(tmp_path / "gone")})
    done = lexlip("index", new, "-o", path)
    assert "0 new, 2 unchanged; 2 pictures" in done.stdout
    assert f"the pictures of {old} are now in {new}" in done.stderr
    assert held(path) == ["a.png", "sub/b.png"]


def test_paths_of_a_moved_folder_are_right(lexlip, make, tmp_path):
    old = pictures(tmp_path / "old", "a.png", "b.png")
    path = make(old, pictures(tmp_path / "other", "a.png", seed=3))
    old.rename(tmp_path / "new")
    lexlip("index", tmp_path / "new", "-o", path)
    assert paths(lexlip, path) == every(tmp_path / "new", tmp_path / "other")
    (tmp_path / "other").rename(tmp_path / "another")
    lexlip("index", tmp_path / "another", "-o", path)
    assert paths(lexlip, path) == every(tmp_path / "new", tmp_path / "another")


def test_other_pictures_of_the_same_names_are_no_moved_folder(lexlip, make, tmp_path):
    old = pictures(tmp_path / "card1", "IMG_1.png", "IMG_2.png")
    path = make(old)
    shutil.rmtree(old)
    for n in (1, 2):
        picture(tmp_path / "card2" / f"IMG_{n}.png", 50 + n, size=40 + n)
    lexlip("index", tmp_path / "card2", "-o", path)
    assert held(path) == ["IMG_1.png", "IMG_2.png", "card2/IMG_1.png", "card2/IMG_2.png"]


# --- renamed, touched, gone -----------------------------------------------------------------------


@pytest.fixture
def without_model(make, tmp_path):
    """Return a function: index a folder, and lose the model, so that nothing can be encoded."""

    def run(*names, options=()):
        folder = pictures(tmp_path / "pics", *names)
        path = make(folder, options=options)
        manifest = read_sealed(path / "manifest.json")
        write_sealed(path / "manifest.json", {**manifest, "checkpoint": str(tmp_path / "gone")})
        return folder, path, manifest["checkpoint"]

    return run


@pytest.mark.parametrize("engine", ["postings", pytest.param("lucene", marks=pytest.mark.java)])
def test_touched_and_renamed_files_cost_no_encoding(lexlip, without_model, model, engine):
    folder, path, _ = without_model(
        "a.png", "b.png", "c.png", "d.png", options=["--engine", engine, "--keep-floats"]
    )
    with Index.open(path, model) as index:
        before = {id: index.search(folder / id, 9, rescore=9) for id in ("a.png", "b.png")}
    os.utime(folder / "a.png", (1_000_000_000, 1_000_000_000))
    (folder / "trip").mkdir()
    (folder / "b.png").rename(folder / "trip" / "new.png")
    shutil.copy(folder / "c.png", folder / "copy.png")
    done = lexlip("index", folder, "-o", path, "--prune")
    assert done.exit_code == 0, done.output
    assert "0 new, 2 unchanged, 3 of known bytes, 1 deleted; 5 pictures" in done.stdout
    with Index.open(path, model) as index:
        facts = index.engine.fetch(["a.png", "trip/new.png", "b.png"])
        assert facts[0]["modified"] == "2001-09-09T01:46:40" and facts[2] is None
        assert facts[1]["folder"] == "trip"
        now = index.search(folder / "a.png", 9, rescore=9)
        score = {hit.id: hit.score for hit in now}
        for hit in before["a.png"]:  # the very same impacts and vectors
            assert score[{"b.png": "trip/new.png"}.get(hit.id, hit.id)] == hit.score
        assert score["copy.png"] == score["c.png"]
        assert index.check() == []


def test_views_are_taken_as_they_are(model_with_heads, tmp_path):
    folder = pictures(tmp_path / "pics", "a.png", "b.png", "c.png")
    options = {"engine": "postings", "keep_views": True, "keep_floats": True}
    with Index.create(tmp_path / "i.lex", model_with_heads, folder, **options) as index:
        views = index.side_stores.views
        before = views.gather(["b.png"]), views.gaussians(["b.png"])
        (folder / "b.png").rename(folder / "z.png")
        done = index.add(folder)
        assert (done.written, done.alike, done.gone) == (0, 1, ("b.png",))
        after = views.gather(["z.png"]), views.gaussians(["z.png"])
        assert (before[0].codes == after[0].codes).all()
        assert (before[1].total_variance == after[1].total_variance).all()
        index.compact()
        assert len(views) == 4 and index.check() == []


def test_changed_bytes_are_encoded_whatever_their_date_says(lexlip, make, tmp_path):
    folder = pictures(tmp_path / "pics", "a.png", "b.png")
    path = make(folder)
    stat, size = (folder / "a.png").stat(), (folder / "a.png").stat().st_size
    for seed in range(2, 2000):  # another picture of the same size
        if picture(folder / "a.png", seed).stat().st_size == size:
            break
    os.utime(folder / "a.png", ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))  # the same second
    assert "1 new, 1 unchanged" in lexlip("index", folder, "-o", path).stdout
    for seed in range(2000, 4000):
        if picture(folder / "a.png", seed).stat().st_size == size:
            break
    os.utime(folder / "a.png", ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))  # nothing shows it
    assert "0 new, 2 unchanged" in lexlip("index", folder, "-o", path).stdout
    assert "2 new, 0 unchanged" in lexlip("index", folder, "-o", path, "--force").stdout
    with Index.open(path) as index:
        assert index.search(folder / "a.png", 1)[0].id == "a.png"


def test_an_older_index_learns_the_facts_of_its_files(lexlip, without_model):
    folder, path, _ = without_model("a.png", "b.png")
    shutil.rmtree(path / "files")
    assert "0 new, 2 unchanged" in lexlip("index", folder, "-o", path).stdout
    (folder / "b.png").unlink()
    assert "1 picture is no longer in" in lexlip("index", folder, "-o", path).stderr


def test_what_is_gone_is_said_and_pruned_on_demand(lexlip, without_model, tmp_path):
    folder, path, _ = without_model("a.png", "b.png", "c.png")
    (folder / "b.png").unlink()
    (folder / "c.png").unlink()
    done = lexlip("index", folder, "-o", path)
    assert f"2 pictures are no longer in {folder} (b.png, ...): --prune" in done.stderr
    assert len(held(path)) == 3
    done = lexlip("index", folder, "-o", path, "--prune")
    assert "2 deleted; 1 pictures" in done.stdout and held(path) == ["a.png"]
    assert lexlip("index", folder, "-o", path).stderr == ""


def test_an_empty_or_missing_folder_prunes_nothing(lexlip, without_model):
    folder, path, _ = without_model("a.png", "b.png")
    for name in ("a.png", "b.png"):
        (folder / name).unlink()
    for _ in range(2):
        done = lexlip("index", folder, "-o", path, "--prune")
        assert done.exit_code == 2 and len(done.stderr.splitlines()) == 1
        assert held(path) == ["a.png", "b.png"]
        if folder.exists():
            folder.rmdir()


def test_parts_of_a_collection_prune_nothing(model, tmp_path):
    from lexlip.data.collection import load_collection

    folder = pictures(tmp_path / "pics", "a/1.png", "b/2.png")
    with Index.create(tmp_path / "i.lex", model, folder, engine="postings") as index:
        for part in (load_collection(folder, limit=1), load_collection(folder).select([0])):
            assert index.add(part).gone == ()
        assert index.add(folder, split="a").gone == ()
        with pytest.raises(LexLIPError, match="whole folder"):
            index.add(folder, split="a", prune=True)
        assert len(index) == 2


# --- deletion -------------------------------------------------------------------------------------


def test_patterns_and_lines_delete(lexlip, make, tmp_path):
    folder = pictures(tmp_path / "pics", "01.png", "02.png", "a[1].png", "s/3.png", "s/x y.png")
    path = make(folder)
    assert "2 deleted, 3 left" in lexlip("delete", path, "0*.png").stdout
    assert "1 deleted, 2 left" in lexlip("delete", path, "a[1].png").stdout  # an id, no pattern
    done = lexlip("delete", path, "-", "no*", input="s/3.png\r\n\nnobody\n")
    assert "1 deleted, 1 left" in done.stdout
    assert done.stderr.splitlines() == [f"nobody: not in {path}", f"no*: not in {path}"]
    assert "1 deleted, 0 left" in lexlip("delete", path, "-", input="s/x y.png\0").stdout


@pytest.mark.parametrize("name", ["x*.png", "nobody.png", "", "x" * 2000])
def test_deleting_nothing_is_said(lexlip, make, tmp_path, name):
    path = make(pictures(tmp_path / "pics", "01.png"))
    done = lexlip("delete", path, name)
    assert done.exit_code == 2 and done.stdout == "" and "nothing is deleted" in done.stderr
    assert held(path) == ["01.png"]

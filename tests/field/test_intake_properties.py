"""Intake over all trees: any names, links and dates; any history of a folder."""

from __future__ import annotations

import os
import shutil
import tempfile
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lexlip import Index
from lexlip.cli.console import one_line
from lexlip.cli.deleting import read_ids
from lexlip.data.collection import load_collection
from lexlip.data.folders import EXCLUDED
from lexlip.data.metadata import file_metadata, rows_to_columns
from lexlip.data.originals import Originals
from lexlip.filters.columns import Column
from tests.support.trees import picture

LETTERS = st.sampled_from(["a", "b",
                           "é", "e\u0301", " ", "\x1b", "\n", "#", "[", "*", "\\", "\U0001f600",
                           "가", "\u1100\u1161", "'", "%", "-", os.fsdecode(b"\xe9")])  # fmt: skip
NAME = st.lists(LETTERS, min_size=1, max_size=4).map("".join)
FOLDER = st.one_of(NAME, st.sampled_from(["@eaDir", ".hidden", "node_modules", "uploads"]))
PATHS = st.lists(st.tuples(st.lists(FOLDER, max_size=2), NAME), max_size=8)
LINKS = st.lists(st.tuples(NAME, st.integers(0, 9)), max_size=3)


def nfc(text):
    return unicodedata.normalize("NFC", text)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(paths=PATHS, links=LINKS)
def test_every_file_is_a_picture_or_is_said(paths, links):
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "pics"
        picture(folder / "always.png", 0)
        for folders, name in paths:
            path = folder.joinpath(*folders, f"{name}.png")
            if not any(parent.is_file() for parent in path.parents) and not path.exists():
                picture(path, len(name))
        inside = sorted(
            path for path in folder.rglob("*")
            if path.is_dir() and "\udce9" not in str(path)
            and not any(p in EXCLUDED or p.startswith(".") for p in path.parts)
        )  # fmt: skip
        for name, number in links:
            where = [folder, *inside][number % (1 + len(inside))]
            if not os.path.lexists(folder / name):
                (folder / name).symlink_to(where, target_is_directory=True)
        found = load_collection(folder)
        assert len(set(found.ids)) == len(found.ids) and found.ids == sorted(found.ids)
        files = [path.relative_to(folder) for path in folder.rglob("*.png") if path.is_file()]
        wanted = set()
        for path in files:
            odd = any(part in EXCLUDED or part.startswith(".") for part in path.parts)
            through = any((folder / parent).is_symlink() for parent in path.parents)
            if not odd and not through:
                wanted.add(path.as_posix())
        utf8 = {it for it in wanted if not any("\ud800" <= c <= "\udfff" for c in it)}
        assert set(found.ids) == {nfc(it) for it in utf8}  # links lead nowhere new here
        said = " ".join(name for name, _ in found.left_out.skipped)
        for it in wanted - utf8:
            odd = next(n for n in range(1, 9) if "\udce9" in "/".join(it.split("/")[:n]))
            assert "/".join(it.split("/")[:odd]) in said  # the file, or its folder
        for id in found.ids:  # others of the same name are said too
            same = [it for it in utf8 if nfc(it) == id]
            assert len(same) - 1 == sum(nfc(name) == id for name, _ in found.left_out.skipped)
        originals = Originals(folder)
        for row, id in enumerate(found.ids):
            opened = originals.find(id)
            assert opened == found.picture(row) and opened.is_file()
            assert originals.id_of(opened) == id
            assert "\x1b" not in one_line(id) and "\n" not in one_line(id)


@given(st.integers(-(2**62), 2**62))
def test_any_date_is_a_date_or_none(seconds):
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "a.png"
        path.write_bytes(b"")
        try:
            os.utime(path, (0, seconds))
        except (OverflowError, OSError):
            return
        (date,) = file_metadata(["a.png"], [path])["modified"]
        assert date is None or (len(date) == 19 and date == Column.of([date]).values()[0])


CELL = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.just([1]))


@given(st.lists(st.dictionaries(st.sampled_from("abc"), CELL), max_size=6))
def test_any_cells_become_columns(rows):
    for values in rows_to_columns(rows, ()).values():
        Column.of(values)


@given(st.lists(st.text(st.characters(exclude_characters="\0\r\n", codec="utf-8"), min_size=1)))
def test_ids_come_back_from_lines_and_nul(ids):
    wanted = [id for id in ids if not id.startswith("\ufeff")]
    assert read_ids("\0".join([*wanted, ""]).encode()) == wanted
    assert read_ids("\r\n".join(wanted).encode()) == wanted


# --- any history of a folder ----------------------------------------------------------------------

FILES = ("a.png", "b.png", "trip/a.png", "trip/c.png")
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("draw"), st.sampled_from(FILES), st.integers(0, 5)),
        st.tuples(st.just("touch"), st.sampled_from(FILES), st.integers(0, 10**10)),
        st.tuples(st.just("move"), st.sampled_from(FILES), st.sampled_from(FILES)),
        st.tuples(st.just("copy"), st.sampled_from(FILES), st.sampled_from(FILES)),
        st.tuples(st.just("remove"), st.sampled_from(FILES), st.none()),
        st.tuples(st.just("index"), st.none(), st.none()),
    ),
    max_size=12,
)


@pytest.fixture(scope="module")
def references(model, tmp_path_factory):
    """The impacts of each of six pictures, by their bytes."""
    place = tmp_path_factory.mktemp("references")
    for seed in range(6):
        picture(place / "pics" / f"{seed}.png", seed)
    with Index.create(place / "i.lex", model, place / "pics", engine="postings") as index:
        rows = index.engine.impacts([f"{seed}.png" for seed in range(6)]).toarray()
        scale = index.manifest["scale"]
    drawn = [(place / "pics" / f"{seed}.png").read_bytes() for seed in range(6)]
    return place / "i.lex", scale, dict(zip(drawn, rows, strict=True))


@settings(max_examples=20, suppress_health_check=list(HealthCheck))
@given(changes=CHANGES)
def test_any_history_ends_where_a_fresh_index_begins(changes, model, references):
    first, _, impacts = references
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "pics"
        picture(folder / "always.png", 0)
        shutil.copytree(first, Path(place) / "i.lex")  # the scale stays that of the references
        (Path(place) / "i.lex" / "sources.json").unlink(missing_ok=True)
        with Index.open(Path(place) / "i.lex", model, "w") as index:
            index.delete(index.engine.ids())
            for what, name, other in [*changes, ("index", None, None)]:
                path = folder / (name or "")
                if what == "index":
                    index.add(folder, prune=True)
                elif what == "draw":
                    picture(path, other)
                elif path.is_file() and what == "touch":
                    os.utime(path, (0, other))
                elif path.is_file() and what == "remove":
                    path.unlink()
                elif path.is_file() and name != other:
                    (folder / other).parent.mkdir(exist_ok=True)
                    (shutil.move if what == "move" else shutil.copy2)(path, folder / other)
            files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*.png")}
            prefix = os.path.commonprefix(index.engine.ids())
            start = "pics/" if prefix.startswith("pics/") else ""
            assert sorted(index.engine.ids()) == sorted(start + name for name in files)
            for name, path in files.items():
                (row,) = index.engine.impacts([start + name]).toarray()
                expected = impacts[path.read_bytes()]
                assert (row == expected[: len(row)]).all() and not expected[len(row) :].any()
                (facts,) = index.engine.fetch([start + name])
                columns = file_metadata([start + name], [path])
                assert facts == {key: it for key, (it,) in columns.items() if it is not None}

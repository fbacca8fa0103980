"""Indexes that move, are written again, are killed, and hold names that terminals obey."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from lexlip import Index
from lexlip.build.manifest import place_of
from lexlip.cli import output
from lexlip.cli.common import save_drawing
from lexlip.errors import LexLIPError
from lexlip.storage import files
from lexlip.storage.files import atomic_directory, read_json, write_json
from tests.support.trees import mode, pictures

# --- names stay names -----------------------------------------------------------------------------


def test_a_hub_name_stays_a_name(model, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Index.create("i.lex", model, photos, engine="postings", checkpoint="me/demo") as index:
        assert index.manifest["checkpoint"] == "me/demo"
    (tmp_path / "me" / "demo").mkdir(parents=True)  # but a folder of that name is a folder
    assert place_of("me/demo") == str(tmp_path / "me" / "demo")
    assert place_of(Path("me/nothing")) == "me/nothing"


# --- options of a second run ----------------------------------------------------------------------


def one_line(result, *parts):
    assert result.exit_code == 2 and result.stdout == "", result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("lexlip: ") and all(part in line for part in parts), line


def test_options_that_an_index_does_not_have_are_not_ignored(lexlip, make, tmp_path):
    folder = pictures(tmp_path / "pics", "a.png")
    path = make(folder, options=["--max-terms", "32"])
    others = ["--engine", "lucene", "--max-terms", "8", "--keep-floats", "--crops", "2"]
    said = ("engine postings", "max-terms 32", "keep-floats False", "crops 0", "--replace")
    one_line(lexlip("index", folder, "-o", path, *others), *said)
    one_line(lexlip("index", folder, "-o", path, "--max-terms", "64"), "max-terms 32")  # a default
    same = ["--engine", "postings", "--max-terms", "32", "--crops", "0"]
    assert lexlip("index", folder, "-o", path, *same).exit_code == 0


def test_tune_repeats_all_options(model, photos, tmp_path):
    from lexlip.measure.curve import Setting
    from lexlip.measure.tune import _commands

    other = pictures(tmp_path / "other folder", "a.png")
    options = {"engine": "postings", "keep_floats": True, "crops": 1, "exclude": ["*.tmp.png"]}
    with Index.create(tmp_path / "i.lex", model, photos, **options, checkpoint="me/demo") as index:
        index.add(other)
        (command,) = _commands(index, Setting(24))
    assert command == (
        f"lexlip index {photos} '{other}' -o {tmp_path / 'i.lex'} -m me/demo "
        "--exclude '*.tmp.png' --max-terms 24 --engine postings --keep-floats --crops 1 --replace"
    )


# --- rights ---------------------------------------------------------------------------------------


def test_a_place_without_permission_is_one_line(lexlip, make, checkpoint, tmp_path):
    folder = pictures(tmp_path / "pics", "a.png")
    path, shut = make(folder), tmp_path / "shut"
    shut.mkdir()
    with mode(shut, 0o555):
        new = ("index", folder, "-m", checkpoint, "--engine", "postings", "-o")
        one_line(lexlip(*new, shut / "i.lex"), "no permission")
        one_line(lexlip(*new, shut / "deep" / "i.lex"), "no permission")
        one_line(lexlip("explain", path, "red", "a.png", "-o", shut / "why.png"), "Permission")
        with pytest.raises(LexLIPError, match="Permission"):
            save_drawing(Image.open(folder / "a.png"), shut / "align.png")
    with mode(shut, 0o000):
        one_line(lexlip(*new, shut / "i.lex"), "ermission")
        one_line(lexlip("search", shut / "i.lex", "red"), "ermission")
    assert list(shut.iterdir()) == []
    with mode(path / "engine", 0o555), mode(path / "engine" / "LOCK", 0o444):
        one_line(lexlip("delete", path, "a.png"), "Permission")
        one_line(lexlip("index", folder, "-o", path), "Permission")
        assert lexlip("search", path, "red").exit_code == 0  # reading needs no right to write


def test_python_gets_one_error_too(model, photos, tmp_path):
    (tmp_path / "shut").mkdir()
    with mode(tmp_path / "shut", 0o555):
        with pytest.raises(LexLIPError, match="no permission"):
            Index.create(tmp_path / "shut" / "i.lex", model, photos, engine="postings")
        with pytest.raises(LexLIPError, match="cannot be written: Permission denied"):
            with atomic_directory(tmp_path / "shut" / "x"):
                pass


# --- killed builds --------------------------------------------------------------------------------

KILLED = """
import sys, time
from lexlip.storage.files import atomic_directory
with atomic_directory(sys.argv[1]) as folder:
    (folder / "half").write_text("x")
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def begun(tmp_path):
    """Return a function: start a process that writes a folder, and wait until it has begun."""
    started = []

    def start(target):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, target], stdout=subprocess.PIPE, text=True,
            cwd=Path(__file__).parents[2],
        )  # fmt: skip
        started.append(process)
        return process, Path(process.stdout.readline().strip())

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_leftovers_go_when_their_process_has(begun, tmp_path):
    target = tmp_path / "k.lex"
    killed, left = begun(target)
    living, kept = begun(target)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert left.exists() and kept.exists()
    other = tmp_path / ".k.lex.mine-0123456789ab"
    other.mkdir()
    with atomic_directory(target) as folder:
        (folder / "manifest.json").write_text("{}")
    assert not left.exists() and kept.exists() and living.poll() is None and other.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["k.lex", kept.name, other.name]
    )


def test_the_next_build_removes_what_a_killed_one_left(make, tmp_path):
    left = tmp_path / ".i.lex.tmp-0123456789ab"
    (left / "engine").mkdir(parents=True)
    make(pictures(tmp_path / "pics", "a.png"))
    assert not left.exists()


def test_a_folder_that_was_moved_aside_goes_only_with_its_successor_there(tmp_path):
    aside = tmp_path / ".i.lex.old-0123456789ab"
    aside.mkdir()
    (tmp_path / "other").mkdir()
    files._sweep(tmp_path / "i.lex")
    assert aside.exists()  # it is the only one
    with atomic_directory(tmp_path / "i.lex") as folder:
        (folder / "manifest.json").write_text("{}")
    files._sweep(tmp_path / "i.lex")
    assert not aside.exists()


# --- names that terminals obey --------------------------------------------------------------------

ESCAPE, BREAK = "a\x1b[31mred.png", "two\nlines.png"


@pytest.fixture
def wild(make, tmp_path):
    """An index of pictures whose names hold codes and line breaks."""
    return make(pictures(tmp_path / "pics", ESCAPE, BREAK, "plain.png"))


def test_codes_in_names_reach_no_terminal(lexlip, wild, tmp_path):
    for arguments in (
        ("search", wild, "a red circle"),
        ("explain", wild, "red", ESCAPE),
        ("explain", wild, "red", "no\x1b[31m"),
        ("delete", wild, "no\x1b[31m"),
    ):
        done = lexlip(*arguments)
        assert "\x1b" not in done.output and done.exit_code in (0, 2), done.output
    assert r"a\x1b[31mred.png" in lexlip("search", wild, "a red circle").stdout
    (tmp_path / "pics" / ESCAPE).unlink()
    assert "\x1b" not in lexlip("search", wild, "a red circle", "--paths").output
    assert "\x1b" not in lexlip("index", tmp_path / "pics", "-o", wild).output


def test_programs_get_names_as_they_are(lexlip, wild, tmp_path):
    done = lexlip("search", wild, "a red circle", "--paths0")
    names = {os.path.basename(it) for it in done.stdout_bytes.split(b"\0") if it}
    assert names == {ESCAPE.encode(), BREAK.encode(), b"plain.png"}
    lines = lexlip("search", wild, "a red circle", "--paths")
    assert {Path(line).name for line in lines.stdout.splitlines()} == {ESCAPE, "plain.png"}
    assert r"two\nlines.png: a line break in its name: --paths0" in lines.stderr


def test_terminals_get_them_escaped(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert output.print_paths([f"/x/{ESCAPE}", f"/x/{BREAK}"], "\n") == []
    assert capsys.readouterr().out == "/x/a\\x1b[31mred.png\n/x/two\\nlines.png\n"


def test_a_root_that_is_not_utf8(lexlip, make, tmp_path):
    folder = pictures(tmp_path / os.fsdecode(b"f\xe9"), "a.png")
    path = make(folder)
    done = lexlip("search", path, "a red circle", "--paths0")
    assert done.exit_code == 0 and done.stdout_bytes == os.fsencode(folder / "a.png") + b"\0"
    assert "0 new, 1 unchanged" in lexlip("index", folder, "-o", path).stdout
    (folder / "a.png").unlink()
    pictures(folder, "b.png", seed=4)
    assert lexlip("index", folder, "-o", path).exit_code == 0
    assert lexlip("stats", path).exit_code == 0
    write_json(tmp_path / "x.json", {"path": os.fsdecode(b"f\xe9")})
    assert read_json(tmp_path / "x.json") == {"path": os.fsdecode(b"f\xe9")}


# --- a second run ---------------------------------------------------------------------------------


def test_a_second_run_needs_no_model_and_little_time(make, tmp_path):
    folder = pictures(tmp_path / "pics", "a.png", "b.png")
    path = make(folder)
    program = (
        "import sys; from lexlip.cli import app; import contextlib\n"
        "with contextlib.suppress(SystemExit): app(sys.argv[1:])\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", program, "index", folder, "-o", path],
        cwd=Path(__file__).parents[2], capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "0 new, 2 unchanged" in done.stdout and time.perf_counter() - began < 30

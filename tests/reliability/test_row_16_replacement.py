"""Row 16 of the failure matrix: search while indexing, and one index in the place of another."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

import lexlip.index as module
from lexlip import Index, LexLIPError
from lexlip.build.encode import encode_pictures
from lexlip.build.encoded_parts import Encoded
from lexlip.build.recipe import Recipe
from lexlip.data.collection import Collection
from lexlip.storage import files
from lexlip.storage.generations import GenerationWriter, verify

REPOSITORY = Path(__file__).resolve().parents[2]


def _meanwhile(monkeypatch, other):
    """Let another builder come through while the next one encodes."""
    real = module.begin

    def begin(*arguments):
        monkeypatch.setattr(module, "begin", real)
        other()
        return real(*arguments)

    monkeypatch.setattr(module, "begin", begin)


def _hidden(folder):
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_row_16_of_two_first_builds_the_second_is_refused(build, model, monkeypatch, tmp_path):
    _meanwhile(monkeypatch, lambda: build(count=6))
    with pytest.raises(LexLIPError, match="came to be meanwhile, by another process") as caught:
        build(count=3)
    assert len(str(caught.value).splitlines()) == 1
    with Index.open(tmp_path / "i.lex", model) as index:
        assert len(index) == 6 and index.check() == []
    assert _hidden(tmp_path) == []


def test_row_16_of_two_first_builds_on_the_command_line(
    build, lexlip, photos, checkpoint, monkeypatch, tmp_path
):
    _meanwhile(monkeypatch, lambda: build(count=6))
    done = lexlip("index", photos, "-o", tmp_path / "i.lex", "-m", checkpoint)
    assert done.exit_code == 2 and "came to be meanwhile" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    with Index.open(tmp_path / "i.lex") as index:
        assert len(index) == 6


def test_row_16_of_two_bulk_builds_the_second_is_refused(
    build, model, images, monkeypatch, tmp_path
):
    recipe = Recipe(engine="postings")
    source = Collection(["a", "b"], [[], []], images[:2])
    with Encoded.plan(tmp_path / "parts", model, source, recipe) as encoded:
        encoded.write(0, encode_pictures(model, source, range(2), recipe=recipe))
    real = module.build_from

    def build_from(*arguments):
        build(count=6)
        return real(*arguments)

    monkeypatch.setattr(module, "build_from", build_from)
    with pytest.raises(LexLIPError, match="came to be meanwhile"):
        Index.from_encoded(tmp_path / "i.lex", tmp_path / "parts", model, recipe)
    with Index.open(tmp_path / "i.lex", model) as index:
        assert len(index) == 6


def test_row_16_two_replacements_at_once_leave_one_whole_index(build, model, monkeypatch, tmp_path):
    """Each of them moves aside what it finds, also what the other has just put there."""
    build(count=3)
    real, busy = os.rename, []

    def rename(source, destination):
        real(source, destination)
        if ".old-" in str(destination) and not busy:
            busy.append(True)
            build(count=6, replace=True)  # in the gap between the two renames

    monkeypatch.setattr(os, "rename", rename)
    build(count=9, replace=True)
    with Index.open(tmp_path / "i.lex", model) as index:
        assert len(index) == 9 and index.check() == []
    assert _hidden(tmp_path) == []


KILLED = """
import os, signal, sys
from lexlip.storage.files import atomic_directory

real = os.rename
def rename(source, destination):
    real(source, destination)
    if ".old-" in str(destination):
        os.kill(os.getpid(), signal.SIGKILL)
os.rename = rename
with atomic_directory(sys.argv[1]) as folder:
    (folder / "manifest.json").write_text("{}")
"""


@pytest.mark.skipif(os.name == "nt", reason="folders have no locks there")
@pytest.mark.parametrize("then", ["open", "add", "build", "check"])
def test_row_16_a_kill_between_two_renames_is_healed(build, model, images, lexlip, tmp_path, then):
    path = build()
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(path)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL and not path.exists() and len(_hidden(tmp_path)) == 2
    if then == "open":
        Index.open(path, model).close()
    if then == "add":
        with Index.open(path, model, "w") as index:
            index.add({"new.png": images[0]})
    if then == "check":
        assert lexlip("check", path).exit_code == 0
    if then == "build":
        with pytest.raises(LexLIPError, match="there is an index at"):
            build()
        build(replace=True)
        assert _hidden(tmp_path) == []
    with Index.open(path, model) as index:
        assert len(index) == 6 + (then == "add") and index.check() == []


@pytest.mark.skipif(os.name == "nt", reason="folders have no locks there")
def test_row_16_what_a_living_process_replaces_is_left_to_it(build, monkeypatch, tmp_path):
    path, seen = build(), []
    real = os.rename

    def rename(source, destination):
        real(source, destination)
        if ".old-" in str(destination):
            files.heal(path)
            seen.append(path.exists())

    monkeypatch.setattr(os, "rename", rename)
    build(replace=True)
    assert seen == [False] and _hidden(tmp_path) == []


def test_row_16_nothing_is_healed_from_what_is_no_index(tmp_path):
    (tmp_path / ".i.lex.old-0123456789ab").mkdir()
    (tmp_path / "i.lex.old-0123456789ab").mkdir()
    files.heal(tmp_path / "i.lex")
    assert not (tmp_path / "i.lex").exists()


def test_row_16_readers_beside_replacements_never_mix_two(build, model, images, tmp_path):
    """Half of the indexes have 3 pictures and 5 terms, the others 9 and 64."""
    one, two = build("one", 3, max_terms=5), build("two", 9, max_terms=64)
    path, over, seen, wrong = tmp_path / "i.lex", threading.Event(), set(), []
    build(count=3, max_terms=5)

    def replaced():
        for number in range(60):
            with files.atomic_directory(path) as folder:
                shutil.copytree((one, two)[number % 2], folder, dirs_exist_ok=True)
        over.set()

    def facts(index):
        return len(index), index.manifest["max_terms"]

    def read():
        index = Index.open(path, model)
        while not over.is_set():
            with suppress(LexLIPError):
                with Index.open(path, model) as fresh:
                    seen.add(facts(fresh))
            try:
                index.reopen()
            except LexLIPError as error:
                wrong.append(str(error))
                index = Index.open(path, model)
            seen.add(facts(index))
        index.close()

    threads = [threading.Thread(target=replaced), *(threading.Thread(target=read) for _ in "ab")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {(3, 5), (9, 64)}, wrong


def test_row_16_a_replacement_waits_for_a_writer(build, model, images, monkeypatch):
    """A writer that was beside a replacement wrote into the new index, and removed its parts."""
    from lexlip.storage import folder_lock

    path = build()
    source = {f"new-{number}.png": images[number] for number in range(3)}
    writer = Index.open(path, model, "w")
    monkeypatch.setattr(folder_lock, "_WAIT", 0.3)
    with pytest.raises(LexLIPError, match="open for writing elsewhere"):
        Index.create(path, model, source, engine="postings", replace=True)
    assert writer.delete(["0.png"]) == 1 and writer.check() == []
    monkeypatch.setattr(folder_lock, "_WAIT", 30.0)
    threading.Timer(0.5, writer.close).start()
    Index.create(path, model, source, engine="postings", replace=True).close()
    with Index.open(path, model) as index:
        assert sorted(index.engine.ids()) == sorted(source) and index.check() == []


def test_row_16_a_writer_whose_folder_was_replaced_touches_nothing(tmp_path, no_flush):
    """Also where a replacement, of an older version or by hand, did not wait."""
    first, second = (GenerationWriter(tmp_path / name) for name in ("a", "b"))
    for number, writer in enumerate((first, second)):
        for _ in range(number + 1):
            part = writer.new_part()
            (part / "it").write_text(str(number))
            writer.publish([part.name], {"number": number})
    second.close()
    left = first.new_part()
    (tmp_path / "a").rename(tmp_path / "aside")
    (tmp_path / "b").rename(tmp_path / "a")
    before = {path: path.read_bytes() for path in (tmp_path / "a").rglob("*") if path.is_file()}
    with pytest.raises(LexLIPError, match="was replaced meanwhile"):
        first.publish([left.name], {})
    with pytest.raises(LexLIPError, match="was replaced meanwhile"):
        first.new_part()
    first.discard()
    first.close()
    after = {path: path.read_bytes() for path in (tmp_path / "a").rglob("*") if path.is_file()}
    assert after == before and verify(tmp_path / "a") == []
    GenerationWriter(tmp_path / "a").close()  # the lock of the new folder is free


@pytest.mark.parametrize("engine", ["postings", pytest.param("lucene", marks=pytest.mark.java)])
def test_row_16_writers_beside_replacements_lose_nothing(build, model, images, engine, request):
    if engine == "lucene":
        request.getfixturevalue("lucene")
    path = build(engine=engine)
    end, wrong, written = time.monotonic() + 6, [], Counter()

    def write(number):
        while time.monotonic() < end:
            try:
                with Index.open(path, model, "w") as index:
                    index.add({f"{number}-{written[number]}.png": images[number]})
                    written[number] += 1
            except LexLIPError as error:
                if not re.search("open for writing|replaced", str(error)):
                    wrong.append(str(error))
            time.sleep(0.05)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    replaced = 0
    source = {f"{number}.png": images[number] for number in range(4)}
    while time.monotonic() < end:
        Index.create(path, model, source, engine=engine, replace=True).close()
        replaced += 1
        time.sleep(0.05)
    for thread in threads:
        thread.join()
    assert wrong == [] and replaced and sum(written.values())
    with Index.open(path, model) as index:
        assert index.check() == [] and {"0.png", "3.png"} <= set(index.engine.ids())

"""Generations: old or new, never a mixture, whatever dies and whenever."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from filelock import UnixFileLock, WindowsFileLock

from lexlip.errors import LexLIPError
from lexlip.storage import generations
from lexlip.storage.folder_lock import FolderLock
from lexlip.storage.generations import GenerationWriter, current_mark, open_current, verify

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No test cuts the power, so none needs to wait for the disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def write(writer, text):
    part = writer.new_part()
    (part / "deep").mkdir()
    (part / "a.txt").write_text(text)
    (part / "deep" / "b.txt").write_text(text * 2)
    return part.name


def contents(generation):
    """Texts of all files of a generation, and its data."""
    return {
        part: {name: (generation.folder / part / name).read_text() for name in files}
        for part, files in generation.parts.items()
    }, generation.data


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_generation_is_its_parts_and_data(tmp_path):
    folder = tmp_path / "new" / "index"
    writer = GenerationWriter(folder)
    assert open_current(folder, contents) == ({}, {})  # readable from the beginning
    one, two = write(writer, "one"), write(writer, "two")
    assert open_current(folder, contents) == ({}, {})
    first = writer.publish([one, two], {"documents": 2})
    texts = {one: {"a.txt": "one", "deep/b.txt": "oneone"}}
    texts[two] = {"a.txt": "two", "deep/b.txt": "twotwo"}
    assert open_current(folder, contents) == (texts, {"documents": 2})
    assert first.bytes == 18
    mark = current_mark(folder)
    three = write(writer, "3")
    writer.publish([two, three], {})
    assert mark != current_mark(folder)
    assert open_current(folder, contents)[0].keys() == {two, three}
    # What is left out is gone, and a name does not come again.
    assert names(folder) == ["CURRENT", "LOCK", "OWNER", "gen-000003.json", two, three]
    writer.publish([], {})
    assert write(writer, "4") not in (one, two, three)
    writer.close()
    writer.close()
    assert names(folder) == ["CURRENT", "LOCK", "OWNER", "gen-000004.json"]


def test_parts_that_stay_are_not_written_again(tmp_path):
    writer = GenerationWriter(tmp_path)
    old = write(writer, "old")
    writer.publish([old], {})
    before = (tmp_path / old / "a.txt").stat()
    writer.publish([old, write(writer, "new")], {})
    after = (tmp_path / old / "a.txt").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    writer.close()


def test_the_lock_names_its_owner(tmp_path):
    code = """
import sys
from lexlip.storage.generations import GenerationWriter
writer = GenerationWriter(sys.argv[1])
writer.new_part()
print("ready", flush=True)
sys.stdin.read()
"""
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environ,
    )
    try:
        assert child.stdout.readline() == "ready\n"
        with pytest.raises(LexLIPError, match="open for writing elsewhere") as caught:
            GenerationWriter(tmp_path)
        assert f"process {child.pid} on " in str(caught.value)
        assert " since 20" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert open_current(tmp_path, contents) == ({}, {})  # reading needs no lock
        assert "part-000001" in names(tmp_path)  # a reader and a refused writer clean nothing
    finally:
        child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()
    writer = GenerationWriter(tmp_path)  # the kernel let go of the lock
    assert "part-000001" not in names(tmp_path)
    with pytest.raises(LexLIPError, match=f"process {os.getpid()} "):
        GenerationWriter(tmp_path)
    writer.close()
    GenerationWriter(tmp_path).close()


def test_the_lock_is_the_systems_own(tmp_path):
    """filelock takes flock here and LockFileEx on Windows; a file that exists is no lock at all."""
    lock = FolderLock(tmp_path)
    assert isinstance(lock._lock, UnixFileLock if os.name == "posix" else WindowsFileLock)
    lock.release()
    (tmp_path / "OWNER").write_text("process 1 on elsewhere since 2020\n")  # what a kill leaves
    (tmp_path / "LOCK").write_text("process 1\n")
    again = FolderLock(tmp_path)
    assert str(os.getpid()) in (tmp_path / "OWNER").read_text()
    done = threading.Thread(target=again.release)  # by another thread than its own
    done.start()
    done.join()
    assert (tmp_path / "OWNER").read_text() == ""
    FolderLock(tmp_path).release()


def test_writers_need_nothing_of_posix(tmp_path):
    """As on Windows, whose os lacks these: an index's folder is written and read."""
    code = """
import sys
sys.modules["fcntl"] = None
import filelock  # its own way to lock stays; here it finds no flock, so a stand-in locks
import os
for name in ("pread", "pwrite", "O_CLOEXEC", "fork", "getuid", "sched_getaffinity", "ftruncate"):
    delattr(os, name)
from lexlip.storage import folder_lock
class Stand:
    def __init__(self, path, **options): self.path = path
    def acquire(self, timeout): open(self.path, "a").close()
    def release(self): pass
folder_lock.FileLock = Stand
from lexlip.storage.files import atomic_directory
from lexlip.storage.generations import GenerationWriter, open_current
from pathlib import Path
folder = Path(sys.argv[1])
writer = GenerationWriter(folder / "g")
part = writer.new_part()
(part / "a").write_text("a")
writer.publish([part.name], {"documents": 1})
writer.close()
print(open_current(folder / "g", lambda generation: generation.data["documents"]))
with atomic_directory(folder / "made") as made:
    (made / "manifest.json").write_text("{}")
print((folder / "made" / "manifest.json").read_text())
"""
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, env=environ
    )
    assert done.stdout.split() == ["1", "{}"], done.stderr


def test_only_our_own_folders_are_taken(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    (tmp_path / "file").touch()
    for name, message in (("photos", "not empty"), ("file", "is a file")):
        with pytest.raises(LexLIPError, match=message):
            GenerationWriter(tmp_path / name)
    assert names(tmp_path / "photos") == ["a.jpg"]
    for name in ("photos", "file", "nowhere"):
        with pytest.raises(LexLIPError, match="holds no index"):
            open_current(tmp_path / name, contents)
        with pytest.raises(LexLIPError, match="holds no index"):
            verify(tmp_path / name)
    assert not (tmp_path / "nowhere").exists()


def test_strange_files_are_left_alone(tmp_path):
    writer = GenerationWriter(tmp_path)
    for name in ("notes.txt", "part-old", "gen-1.json.bak"):
        (tmp_path / name).touch()
    writer.publish([write(writer, "x")], {})
    writer.close()
    GenerationWriter(tmp_path).close()
    assert {"notes.txt", "part-old", "gen-1.json.bak"} <= set(names(tmp_path))


def test_every_flipped_byte_is_found(tmp_path):
    writer = GenerationWriter(tmp_path)
    part = write(writer, "some text")
    writer.publish([part], {"n": 1})
    writer.close()
    assert verify(tmp_path) == []
    for path in sorted(tmp_path.rglob("*")):
        if path.is_dir() or path.name in ("LOCK", "OWNER"):
            continue
        whole = path.read_bytes()
        for at in range(0, len(whole), 7):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
            damaged = verify(tmp_path)
            assert len(damaged) == 1 and "damaged" in damaged[0] or "cannot" in damaged[0], at
            if path.suffix == ".txt":
                assert damaged[0].startswith(path.relative_to(tmp_path).as_posix())
            else:
                with pytest.raises(LexLIPError):
                    open_current(tmp_path, contents)
        for change, value in ((path.write_bytes, [whole[:-1]]), (path.unlink, [])):
            change(*value)
            with pytest.raises(LexLIPError) as caught:  # found by opening already
                open_current(tmp_path, contents)
            assert path.name in str(caught.value) or "holds no index" in str(caught.value)
        path.write_bytes(whole)
    assert verify(tmp_path) == []


def test_a_lost_current_is_not_the_end_of_the_parts(tmp_path):
    writer = GenerationWriter(tmp_path)
    part = write(writer, "precious")
    writer.publish([part], {})
    writer.close()
    (tmp_path / "CURRENT").unlink()
    with pytest.raises(LexLIPError, match="lost its file CURRENT"):
        GenerationWriter(tmp_path)
    assert (tmp_path / part / "a.txt").read_text() == "precious"


def test_another_format_is_refused(tmp_path, monkeypatch):
    GenerationWriter(tmp_path).close()
    monkeypatch.setattr(generations, "FORMAT", "lexlip-generations/9")
    with pytest.raises(LexLIPError, match="has format 'lexlip-generations/1'"):
        open_current(tmp_path, contents)


def test_opening_follows_a_writer_that_is_faster(tmp_path):
    writer = GenerationWriter(tmp_path)
    writer.publish([write(writer, "0")], {"n": 0})
    seen = []

    def slow(generation):
        seen.append(generation.data["n"])
        if len(seen) < 4:  # the files vanish between the manifest and the parts
            writer.publish([write(writer, str(len(seen)))], {"n": len(seen)})
        return contents(generation)

    texts, data = open_current(tmp_path, slow)
    assert (seen, data) == ([0, 1, 2, 3], {"n": 3})
    assert [files["a.txt"] for files in texts.values()] == ["3"]

    def endless(generation):
        writer.publish([write(writer, "x")], {})
        raise FileNotFoundError("gone")

    with pytest.raises(LexLIPError, match="changes faster"):
        open_current(tmp_path, endless)
    writer.close()


class Died(BaseException):
    """The process is dead: nothing that it would do later happens."""


class Faults:
    """Break everything that changes a disk, from the n-th call on (or only writing calls)."""

    WRITES = ((os, "fsync"), (os, "replace"), (os, "mkdir"), (Path, "write_text"))
    REMOVALS = ((os, "unlink"), (os, "rmdir"), (shutil, "rmtree"))

    def __init__(self, patch, left, error, removals):
        self.left, self.error = left, error
        for owner, name in (*self.WRITES, *(self.REMOVALS if removals else ())):
            patch.setattr(owner, name, self.wrap(getattr(owner, name)))

    def wrap(self, function):
        def wrapped(*args, **kwargs):
            self.left -= 1
            if self.left < 0:
                raise self.error
            return function(*args, **kwargs)

        return wrapped


def history(writer, text):
    """Replace one part of two and add one."""
    kept = sorted(writer.current.parts)[1:]
    writer.publish([*kept, write(writer, text), write(writer, text + "!")], {"text": text})


def test_death_at_every_step_leaves_old_or_new(tmp_path):
    states = []
    for text in ("old", "new"):
        writer = GenerationWriter(tmp_path / "plain")
        history(writer, text)
        writer.close()
        states.append(open_current(tmp_path / "plain", contents))
    outcomes = []
    for step in range(1000):
        folder = tmp_path / str(step)
        writer = GenerationWriter(folder)
        history(writer, "old")
        writer.close()
        writer = GenerationWriter(folder)
        died = False
        with pytest.MonkeyPatch.context() as patch:
            Faults(patch, step, Died(), removals=True)
            try:
                history(writer, "new")
            except Died:
                died = True
        fcntl.flock(writer._lock._lock._context.lock_file_fd, fcntl.LOCK_UN)  # as at a death
        outcomes.append(states.index(open_current(folder, contents)))
        assert verify(folder) == []
        successor = GenerationWriter(folder)
        assert len(names(folder)) == 4 + len(successor.current.parts)  # no leftovers
        history(successor, "next")
        successor.close()
        assert verify(folder) == []
        if not died:
            break
    assert step > 12 and outcomes == sorted(outcomes) and set(outcomes) == {0, 1}


def test_a_full_disk_at_every_step_keeps_the_last_commit(tmp_path):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    for step in range(1000):
        folder = tmp_path / str(step)
        writer = GenerationWriter(folder)
        history(writer, "old")
        before = open_current(folder, contents)
        failed = None
        with pytest.MonkeyPatch.context() as patch:
            Faults(patch, step, full, removals=False)
            try:
                history(writer, "new")
            except (LexLIPError, OSError) as error:
                failed = error
                writer.discard()
        after = open_current(folder, contents)
        if failed is None:
            assert after[1] == {"text": "new"}
            break
        if isinstance(failed, LexLIPError):
            assert str(failed).endswith("No space left on device")
            assert "\n" not in str(failed)
        # Only the flush that follows the last rename may fail with the new state in place.
        assert after == before or after[1] == {"text": "new"}
        assert set(names(folder)) - {"CURRENT", "LOCK", "OWNER"} == {
            *after[0],
            f"gen-{writer.current.number:06}.json",
        }
        history(writer, "again")  # the same writer goes on
        assert open_current(folder, contents)[1] == {"text": "again"}
        assert verify(folder) == []
        writer.close()
    assert step > 8


def test_readers_see_old_or_new_while_a_writer_commits(tmp_path):
    writer = GenerationWriter(tmp_path)
    writer.publish([write(writer, "0")], {"n": 0})
    stop, wrong, seen = threading.Event(), [], set()

    def read():
        try:
            while not stop.is_set():
                texts, data = open_current(tmp_path, contents)
                seen.add(data["n"])
                if {files["a.txt"] for files in texts.values()} != {str(data["n"])}:
                    wrong.append((texts, data))
                if verify(tmp_path):
                    wrong.append("verify")
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for n in range(1, 30):
        writer.publish([write(writer, str(n)) for _ in range(2)], {"n": n})
    stop.set()
    for thread in threads:
        thread.join()
    writer.close()
    assert wrong == []
    assert len(seen) > 1


def test_the_manifest_says_what_it_must(tmp_path):
    writer = GenerationWriter(tmp_path)
    part = write(writer, "x")
    writer.publish([part], {"wörd": [1]})
    writer.close()
    manifest = json.loads((tmp_path / "gen-000002.json").read_bytes())
    assert manifest["format"] == "lexlip-generations/1"
    assert manifest["data"] == {"wörd": [1]}
    assert manifest["parts"][part].keys() == {"a.txt", "deep/b.txt"}

"""Row 18 of the failure matrix: damage on the disk is found, and never written anew as if sound."""

from __future__ import annotations

import json
import shutil
from hashlib import sha256

import numpy as np
import pytest

from lexlip import LexLIPError
from lexlip.engines import PostingsEngine
from lexlip.engines.postings import engine as postings
from lexlip.engines.postings.snapshot import Snapshot
from lexlip.storage.file_facts import FactStore, FileFacts
from lexlip.storage.floats import FloatVectors
from lexlip.storage.generations import verify

from .conftest import impacts

pytestmark = pytest.mark.usefixtures("no_flush")
NAMES = [f"{number:02}" for number in range(40)]


def _flip(path, place=-1):
    raw = bytearray(path.read_bytes())
    raw[place] ^= 1
    path.write_bytes(raw)


@pytest.fixture
def engine(tmp_path):
    """The folder of an engine with one small part, and a mask of the living beside it."""
    writer = PostingsEngine(tmp_path / "engine")
    writer.add(NAMES, impacts(0, 40), {"year": list(range(40)), "word": list("ab" * 20)})
    writer.commit()
    writer.delete(NAMES[:3])
    writer.commit()
    writer.close()
    return tmp_path / "engine"


def _change(writer, way):
    if way == "add":
        writer.add(["new"], impacts(1, 1), {"year": [1]})
        writer.commit()
    if way == "copy":
        writer.copy(["20"], ["new"])
        writer.commit()
    if way == "delete":
        writer.delete(["20"])
        writer.commit()
    if way == "compact":
        writer.compact()


def _files(folder):
    return [path for path in sorted(folder.glob("part-*/**/*")) if path.is_file()]


@pytest.mark.parametrize("way", ["add", "copy", "compact"])
def test_row_18_a_merge_of_damaged_postings_is_refused(engine, tmp_path, way):
    """Each file in turn: opened or not, nothing comes out of it that `check` takes for sound."""
    refused = 0
    for number, path in enumerate(_files(engine)):
        copy = shutil.copytree(engine, tmp_path / f"{way}-{number}")
        damaged = copy / path.relative_to(engine)
        _flip(damaged)
        with pytest.raises(LexLIPError) as caught:
            writer = PostingsEngine(copy)
            try:
                refused += 1
                _change(writer, way)
            finally:
                writer.close()
        assert len(str(caught.value).splitlines()) == 1
        assert any(damaged.name in line for line in verify(copy)), damaged
    assert refused > 5


def test_row_18_a_damaged_mask_is_not_written_anew(engine):
    (mask,) = [path for path in _files(engine) if path.name.startswith("part-")]
    _flip(mask)
    writer = PostingsEngine(engine)
    with pytest.raises(LexLIPError, match="is damaged: its checksum differs; nothing was written"):
        _change(writer, "delete")
    writer.close()
    assert verify(engine)


@pytest.mark.parametrize("way", ["write", "copy", "keep"])
@pytest.mark.parametrize("kind", [FactStore, FloatVectors])
def test_row_18_a_merge_of_a_damaged_side_store_is_refused(tmp_path, kind, way):
    def write(store, names, seed=0):
        if kind is FactStore:
            store.write(names, [FileFacts(number, 7, bytes(16)) for number in range(len(names))])
        else:
            store.write(names, impacts(seed, len(names)).astype(np.float32))

    store = kind(tmp_path / "store", "w")
    write(store, NAMES)
    for path in _files(tmp_path / "store"):
        sound = path.read_bytes()
        _flip(path)
        with pytest.raises(LexLIPError, match="is damaged: its checksum differs"):
            if way == "write":
                write(store, ["new"], 1)
            if way == "copy":
                store.copy([("01", "new")])
            if way == "keep":
                store.keep(lambda ids: [None if name == "00" else name for name in ids])
        assert store.verify()
        path.write_bytes(sound)
    assert store.verify() == [] and len(store) == 40
    store.close()


def test_row_18_a_part_that_stays_as_it_is_is_not_read(tmp_path, monkeypatch):
    """An addition costs what it merges: a large part beside it is neither read nor refused."""
    monkeypatch.setattr(postings, "_SMALL", 0)
    writer = PostingsEngine(tmp_path / "engine")
    writer.add(NAMES, impacts(0, 40))
    writer.commit()
    _flip(next(tmp_path.glob("engine/part-*/ids.npy")))
    writer.add(["zz"], impacts(1, 1))
    writer.commit()
    assert len(writer) == 41 and writer.stats()["segments"] == 2
    assert len(writer.verify()) == 1
    writer.close()


def test_row_18_by_the_command_line(build, lexlip, checkpoint, photos, tmp_path):
    done = lexlip("index", photos, "-o", tmp_path / "i.lex", "-m", checkpoint)
    assert done.exit_code == 0, done.output
    for path in (tmp_path / "i.lex").glob("engine/part-*/postings/*.npy"):
        if path.stat().st_size > 200:
            _flip(path)
            break
    assert lexlip("check", tmp_path / "i.lex").exit_code == 2
    new = shutil.copy(next(photos.glob("*.png")), photos / "zzz-new.png")
    with open(new, "ab") as file:
        file.write(b"other bytes")
    try:
        done = lexlip("index", photos, "-o", tmp_path / "i.lex")
    finally:
        (photos / "zzz-new.png").unlink()
    assert done.exit_code == 2 and "checksum differs" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert lexlip("check", tmp_path / "i.lex").exit_code == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data["parts"].update({"../outside": {}}),
        lambda data: data["parts"].update({"/part-000001": {}}),
        lambda data: next(iter(data["parts"].values())).update({"../../x": [1, "0" * 64]}),
        lambda data: data["data"]["parts"].update({"../outside": None}),
        lambda data: data["data"]["parts"].update({"part-000001": "/etc"}),
        lambda data: data["data"].update(parts=[]),
        lambda data: data.update(parts=[1]),
        lambda data: data.update(data=[1]),
        lambda data: data.update(following="x"),
        lambda data: data.update(generation=None),
        lambda data: data["data"].update(parts={"part-000001": 7}),
    ],
)
def test_row_18_parts_lie_in_the_folder_and_in_the_list(engine, change):
    """A folder from elsewhere, with right checksums: its parts lead nowhere else."""
    (path,) = engine.glob("gen-*.json")
    data = json.loads(path.read_bytes())
    change(data)
    raw = json.dumps(data).encode()
    path.write_bytes(raw)
    (engine / "CURRENT").write_text(f"{path.name} {sha256(raw).hexdigest()}\n")
    for mode in "rw":
        with pytest.raises(LexLIPError) as caught:
            PostingsEngine(engine, mode)
        assert len(str(caught.value).splitlines()) == 1
    assert verify(engine, Snapshot)


@pytest.mark.parametrize("name", ["CURRENT", "gen-000004.json"])
def test_row_18_a_commit_follows_no_link(engine, tmp_path, name):
    victim = tmp_path / "victim"
    if name == "CURRENT":
        shutil.move(engine / name, victim)
    else:
        victim.write_text("dear to somebody")
    (engine / name).unlink(missing_ok=True)
    (engine / name).symlink_to(victim)
    before = victim.read_bytes()
    writer = PostingsEngine(engine)
    _change(writer, "add")
    writer.close()
    assert victim.read_bytes() == before
    assert len(PostingsEngine(engine, "r")) == 38

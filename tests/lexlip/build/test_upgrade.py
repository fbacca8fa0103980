"""Upgrades: what an earlier version wrote becomes an index of today, without encoding.

`tests/fixtures/postings_1` was written by the version before the present layout of postings: eight
pictures and thirty made-up documents with metadata, two of them deleted since, and float vectors.
What that version found stands in `expected.json`.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lexlip import Index, LexLIPError
from lexlip.build import upgrade as module
from lexlip.build.upgrade import upgrade
from lexlip.cli import app
from lexlip.engines.postings import older
from lexlip.storage.files import read_json
from lexlip.storage.folder_lock import FolderLock

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
EXPECTED = read_json(FIXTURES / "postings_1" / "expected.json")


@pytest.fixture
def old(tmp_path, monkeypatch):
    """A copy of the older index, beside its checkpoint."""
    shutil.copytree(FIXTURES / "postings_1", tmp_path, dirs_exist_ok=True)
    shutil.copytree(FIXTURES / "before_packages" / "checkpoint", tmp_path / "checkpoint")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "postings.lex"


def _contents(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("LOCK", "OWNER")
    }


def test_an_older_index_is_refused_with_the_command_that_converts_it(old):
    for command in (["stats", old], ["search", old, "a red circle"], ["check", old]):
        done = CliRunner().invoke(app, list(map(str, command)))
        assert done.exit_code == 2 and "lexlip upgrade" in done.stderr, done.output
        assert len(done.stderr.splitlines()) == 1


def test_an_upgraded_index_answers_as_it_did(old):
    done = CliRunner().invoke(app, ["upgrade", str(old)])
    assert done.exit_code == 0, done.output
    assert "lexlip-postings-1 to lexlip-postings-2, 36 documents" in done.stdout
    terms = {int(term): weight for term, weight in EXPECTED["terms"].items()}
    with Index.open(old) as index:
        assert index.check() == [] and sorted(index.engine.ids()) == EXPECTED["ids"]
        assert [[hit.id, hit.score] for hit in index.search(terms, 40)] == EXPECTED["hits"]
        where = "year >= 2010 and trip == 'sea'"
        found = index.search(terms, 40, where=where)
        assert [[hit.id, hit.score] for hit in found] == EXPECTED["filtered"]
        rescored = index.search("a red circle", 5, rescore=8)
        assert [hit.id for hit in rescored] == EXPECTED["rescored"]
        metadata = index.engine.fetch(EXPECTED["ids"])
        assert {
            id: facts for id, facts in zip(EXPECTED["ids"], metadata, strict=True) if facts
        } == (EXPECTED["metadata"])
    with Index.open(old, mode="w") as index:  # and lives on
        index.delete(["x01"])
        index.compact()
        assert len(index) == 35 and index.check() == []
    assert upgrade(old) == []


def test_what_is_of_today_stays_as_it_is(tmp_path, monkeypatch):
    shutil.copytree(FIXTURES / "before_packages", tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    before = _contents(tmp_path / "postings.lex")
    assert upgrade("postings.lex") == ["manifest.json: with a checksum"]
    after = _contents(tmp_path / "postings.lex")
    assert {name for name in after if after[name] != before.get(name)} == {Path("manifest.json")}
    manifest = json.loads(after[Path("manifest.json")])
    assert manifest.pop("sha256") and manifest == json.loads(before[Path("manifest.json")])
    assert upgrade("postings.lex") == []
    assert "of today" in CliRunner().invoke(app, ["upgrade", "postings.lex"]).stdout


@pytest.mark.parametrize("file", ["ids.npy", "postings/impacts.npy", "column-1-words.npy"])
@pytest.mark.parametrize("signed", [True, False])
def test_a_damaged_older_index_stays_as_it_is(old, file, signed, monkeypatch):
    path = next((old / "engine").glob("part-*")) / file
    raw = bytearray(path.read_bytes())
    if signed:
        raw[-1] ^= 1
    else:  # with right checksums: its lengths do not fit together
        raw = raw[:-1]
        monkeypatch.setattr(older.Generation, "check_digests", lambda *_: None)
        monkeypatch.setattr(older.Generation, "check_sizes", lambda *_: None)
    path.write_bytes(raw)
    before = _contents(old)
    with pytest.raises(LexLIPError, match="is damaged") as caught:
        upgrade(old)
    assert len(str(caught.value).splitlines()) == 1 and _contents(old) == before
    assert not [name for name in os.listdir(old.parent) if name.startswith(".")]


def test_nobody_else_writes_meanwhile(old):
    lock = FolderLock(old / "engine")
    with pytest.raises(LexLIPError, match="open for writing elsewhere"):
        upgrade(old)
    lock.release()
    assert len(upgrade(old)) == 3


def test_an_upgrade_that_fails_leaves_the_old_index(old, monkeypatch):
    before = _contents(old)

    def full(*_):
        raise OSError(28, "full")

    monkeypatch.setattr(module, "write_sealed", full)
    with pytest.raises(LexLIPError, match="cannot be written: full"):
        upgrade(old)
    assert _contents(old) == before


def test_no_index_is_one_line(tmp_path):
    with pytest.raises(LexLIPError, match="no index at"):
        upgrade(tmp_path / "nothing")

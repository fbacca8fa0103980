"""Row 18 of the failure matrix: whatever happens to a byte, an index answers or says one line.

Random damage is tried by test_fuzzing.py and `make fuzz`.
"""

from __future__ import annotations

import json

import pytest

from lexlip import Index, LexLIPError
from lexlip.data.roots import Sources
from tests.reliability.fuzz import indexes

pytestmark = pytest.mark.usefixtures("no_flush")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz") / "sound"
    indexes.small_index(folder)
    return folder


def test_row_18_every_file_is_checked(sound, lexlip, tmp_path):
    """A bit in each file in turn: `lexlip check` ends with 2 and one line."""
    (sound / "sources.json").unlink(missing_ok=True)
    with Index.open(sound, mode="w") as index:
        index._intake._remember(Sources.read(sound, index.manifest).excluding(["x"]))
    for path in [path for path in sound.rglob("*") if path.is_file()]:
        if path.name in indexes.UNSIGNED:
            continue
        raw = path.read_bytes()
        path.write_bytes(raw[:-3] + bytes([raw[-3] ^ 4]) + raw[-2:])
        done = lexlip("check", sound)
        path.write_bytes(raw)
        assert done.exit_code == 2 and len(done.stderr.splitlines()) == 1, (path, done.output)
    assert lexlip("check", sound).exit_code == 0


ABSURD = [
    ("scale", 1e308), ("scale", float("nan")), ("scale", 0), ("scale", "5"), ("scale", True),
    ("max_terms", 1e30), ("max_terms", 10**30), ("max_terms", 0), ("max_terms", None),
    ("engine", "../../x"), ("engine", 3), ("checkpoint", 7), ("model", None),
    ("pictures", True), ("pictures", {"path": 3}), ("pictures", {"path": "a", "to": "b"}),
    ("vector_size", -1), ("vector_size", "x"), ("said", 1e9), ("keep_floats", "yes"),
]  # fmt: skip


@pytest.mark.parametrize("key, value", ABSURD)
def test_row_18_absurd_manifests_are_refused(sound, lexlip, tmp_path, key, value):
    """Also without a seal, as an older lexlip wrote them."""
    manifest = json.loads((sound / "manifest.json").read_text())
    del manifest["sha256"]
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, key: value}))
    for command in (["check", tmp_path], ["stats", tmp_path], ["search", tmp_path, "a red circle"]):
        done = lexlip(*command)
        assert done.exit_code == 2, done.output
        assert len(done.stderr.splitlines()) == 1 and key in done.stderr


@pytest.mark.parametrize("text", ["", "[]", "null", "7", "{", "[" * 100_000, "9" * 10_000, "{}"])
def test_row_18_what_is_no_manifest_is_one_line(lexlip, tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    done = lexlip("check", tmp_path)
    assert done.exit_code == 2 and len(done.stderr.splitlines()) == 1, done.output


def test_row_18_an_unsealed_manifest_is_read_as_before(sound, tmp_path):
    import shutil

    copy = shutil.copytree(sound, tmp_path / "copy")
    manifest = json.loads((copy / "manifest.json").read_text())
    del manifest["sha256"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with Index.open(copy) as index:
        assert len(index) == 8 and index.check() == []
    for seal in ("0" * 64, None, "", 7):
        (copy / "manifest.json").write_text(json.dumps({**manifest, "sha256": seal}))
        with pytest.raises(LexLIPError, match="checksum differs"):
            Index.open(copy)


def test_row_18_a_bug_is_not_told_as_damage(sound, monkeypatch):
    from lexlip.engines.postings.snapshot import Snapshot

    with Index.open(sound) as index:
        monkeypatch.setattr(Snapshot, "find", lambda *_: [][0])
        with pytest.raises(IndexError):
            index.engine.fetch(["1.png"])

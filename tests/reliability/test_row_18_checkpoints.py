"""Row 18 of the failure matrix, for checkpoints: a changed byte or a missing file is one line."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from lexlip import LexLIPError
from lexlip.models import load
from lexlip.models.digests import FILES, digests
from lexlip.models.export import export
from lexlip.models.export_files import FOLDER
from lexlip.models.lexlip import LexLIP
from lexlip.models.query_table import QueryTable
from lexlip.storage.files import read_json, write_json


def _flip(path):
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


@pytest.fixture
def trained(checkpoint, tmp_path):
    """A checkpoint with the manifest that training writes."""
    ignored = shutil.ignore_patterns(FOLDER)  # an export, once there is one, is read in its place
    folder = shutil.copytree(checkpoint, tmp_path / "trained", ignore=ignored)
    write_json(folder / "manifest.json", {"format": "lexlip-checkpoint/1", FILES: digests(folder)})
    return folder


COMMANDS = [("words", "a red circle", "-m", "{}"), ("index", "{photos}", "-o", "{out}", "-m", "{}")]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_row_18_a_changed_byte_of_a_checkpoint_is_one_line(
    trained, lexlip, photos, tmp_path, command, name
):
    _flip(trained / name)
    with pytest.raises(LexLIPError) as caught:
        LexLIP.from_pretrained(trained)
    assert len(str(caught.value).splitlines()) == 1 and str(trained) in str(caught.value)
    words = [it.format(trained, photos=photos, out=tmp_path / "i.lex") for it in command]
    done = lexlip(*words)
    assert done.exit_code == 2 and not (tmp_path / "i.lex").exists(), done.output
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("listed", [True, False])
def test_row_18_a_missing_tokenizer_is_one_line(trained, lexlip, photos, tmp_path, command, listed):
    (trained / "tokenizer.json").unlink()
    if not listed:  # a checkpoint that was saved by hand
        (trained / "manifest.json").unlink()
    done = lexlip(*[it.format(trained, photos=photos, out=tmp_path / "i.lex") for it in command])
    assert done.exit_code == 2 and "tokenizer.json is missing" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_row_18_what_encoding_does_not_read_may_change(trained):
    (trained / "README.md").write_text("my own words")
    assert LexLIP.from_pretrained(trained).fingerprint


def test_row_18_a_changed_byte_of_an_export_is_one_line(model, checkpoint, tmp_path):
    ignored = shutil.ignore_patterns(FOLDER)
    folder = shutil.copytree(checkpoint, tmp_path / "exported", ignore=ignored)
    export(model, folder / FOLDER, folder / "model.safetensors")
    manifest = read_json(folder / FOLDER / "manifest.json")
    assert len(manifest[FILES]) == 4
    picture = np.zeros((9, 9, 3), np.uint8)
    for name in manifest[FILES]:
        sound = (folder / FOLDER / name).read_bytes()
        _flip(folder / FOLDER / name)
        with pytest.raises(LexLIPError, match="corrupted: its checksum differs"):
            speaker = load(folder)
            speaker.encode_text(["red"]), speaker.encode_image([picture])
        (folder / FOLDER / name).write_bytes(sound)
    speaker = load(folder)
    assert speaker.encode_text(["red"]).nnz and speaker.encode_image([picture]).shape[0] == 1
    del manifest[FILES]  # an older export is read as it is
    write_json(folder / FOLDER / "manifest.json", manifest)
    assert load(folder).encode_text(["red"]).nnz


def test_row_18_a_changed_byte_of_a_query_table_is_one_line(word_table, tmp_path):
    word_table.save_pretrained(tmp_path)
    for name in ("table.safetensors", "tokenizer.json"):
        sound = (tmp_path / "queries" / name).read_bytes()
        _flip(tmp_path / "queries" / name)
        with pytest.raises(LexLIPError, match="corrupted: its checksum differs"):
            QueryTable.from_pretrained(tmp_path)
        (tmp_path / "queries" / name).write_bytes(sound)
    assert QueryTable.from_pretrained(tmp_path).fingerprint == word_table.fingerprint
    write_json(tmp_path / "queries" / "manifest.json", [])
    with pytest.raises(LexLIPError, match="corrupted"):
        QueryTable.from_pretrained(tmp_path)

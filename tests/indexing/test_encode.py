"""Encoding in parts: a kill costs the parts in hand, and the number of workers changes nothing."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from indexing import encode as job
from indexing.encode import app, encode
from indexing.settings import Settings
from lexlip.build.encoded_parts import Encoded
from lexlip.errors import LexLIPError
from lexlip.settings import Data

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def settings(checkpoint, photos):
    """Thirteen pictures, one broken, in parts of two."""
    model, data = str(checkpoint), str(photos)
    return Settings(data=data, model=model, out="x", max_terms=8, part_size=2)


@pytest.fixture
def encodings(monkeypatch):
    """The first row of every part that this process encodes."""
    done = []
    original = job.encode_pictures

    def counted(model, source, rows, **options):
        done.append(rows.start)
        return original(model, source, rows, **options)

    monkeypatch.setattr(job, "encode_pictures", counted)
    return done


def content(encoded):
    """What the parts hold, to compare."""
    return [
        (c.ids, c.weights.toarray().tolist(), c.columns, [name for name, _ in c.skipped])
        for c in encoded
    ]


def test_only_what_is_missing_is_encoded(settings, tmp_path, encodings):
    whole = content(encode(settings, Data(), tmp_path / "parts"))
    assert encodings == [0, 2, 4, 6, 8, 10, 12]
    encodings.clear()
    flipped = tmp_path / "parts" / "part-000003" / "weights.npz"
    flipped.write_bytes(flipped.read_bytes()[:-100] + bytes(100))
    shutil.rmtree(tmp_path / "parts" / "part-000005")
    assert content(encode(settings, Data(), tmp_path / "parts")) == whole
    assert encodings == [6, 10]


def test_another_model_is_never_mixed_in(settings, make_model, tmp_path, encodings):
    encode(settings, Data(), tmp_path / "parts")
    make_model(seed=1).save_pretrained(tmp_path / "other")
    encodings.clear()
    other = replace(settings, model=str(tmp_path / "other"))
    again = encode(other, Data(), tmp_path / "parts")
    assert encodings == [0, 2, 4, 6, 8, 10, 12]
    assert content(again) == content(encode(other, Data(), tmp_path / "fresh"))


KILLED = """
import os, signal, sys
from indexing.encode import encode
from indexing.settings import Settings
from lexlip.build import encoded_parts
from lexlip.settings import Data

written, write_json = [], encoded_parts.write_json
def dies(path, value):
    written.append(path)
    if len(written) == 5:  # the manifest of the folder and of three parts are there
        os.kill(os.getpid(), signal.SIGKILL)
    write_json(path, value)
encoded_parts.write_json = dies
encode(Settings(**eval(sys.argv[1])), Data(), sys.argv[2])
"""


def test_a_killed_encode_goes_on(settings, tmp_path, encodings):
    parts = tmp_path / "parts"
    command = [sys.executable, "-c", KILLED, repr(vars(settings)), str(parts)]
    assert subprocess.run(command, cwd=ROOT).returncode == -signal.SIGKILL
    left = {path.name: path.stat().st_mtime_ns for path in parts.glob("part-*")}
    assert sorted(left) == ["part-000000", "part-000001", "part-000002"]
    assert list(parts.glob(".part-*"))  # half of the fourth
    encoded = encode(settings, Data(), parts)
    assert encodings == [6, 8, 10, 12]
    assert {name: (parts / name).stat().st_mtime_ns for name in left} == left
    assert not list(parts.glob(".part-*"))
    assert content(encoded) == content(encode(settings, Data(), tmp_path / "whole"))


def test_two_workers_write_the_same(settings, tmp_path, encodings):
    encoded = encode(replace(settings, workers=2), Data(), tmp_path / "two")
    assert encodings == []  # not in this process
    assert content(encoded) == content(encode(settings, Data(), tmp_path / "one"))


def test_a_dead_worker_is_one_line_and_finished_parts_stay(settings, tmp_path, encodings):
    encoded = encode(settings, Data(), tmp_path / "parts")
    whole = content(encoded)
    for number in (1, 4, 6):
        shutil.rmtree(encoded.part(number))
    encodings.clear()
    ours = set(multiprocessing.active_children())

    def kill():
        while len(children := set(multiprocessing.active_children()) - ours) < 2:
            time.sleep(0.01)
        os.kill(children.pop().pid, signal.SIGKILL)  # it has not even loaded its model

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(LexLIPError, match="a worker process died .*run it again") as raised:
        encode(replace(settings, workers=2), Data(), tmp_path / "parts")
    killer.join()
    assert "\n" not in str(raised.value)
    missing = [2 * number for number in Encoded.open(tmp_path / "parts").missing()]
    assert set(missing) <= {2, 8, 12}
    assert content(encode(settings, Data(), tmp_path / "parts")) == whole
    assert encodings == missing


def test_a_worker_that_finds_other_pictures_says_so(settings, photos, tmp_path, monkeypatch):
    shutil.copytree(photos, tmp_path / "photos")
    own = replace(settings, data=str(tmp_path / "photos"))
    encoded = encode(own, Data(), tmp_path / "parts")
    monkeypatch.setattr(job, "_job", (own, Data(), encoded), raising=False)
    job._tools.cache_clear()
    assert job._encode_part(0) == 0
    job._tools.cache_clear()
    shutil.copy(photos / "00.png", tmp_path / "photos" / "new.png")
    with pytest.raises(LexLIPError, match="pictures changed while encoding: run it again"):
        job._encode_part(0)
    job._tools.cache_clear()


def test_no_readable_picture_leaves_nothing(settings, photos, tmp_path):
    (tmp_path / "bad").mkdir()
    shutil.copy(photos / "broken.png", tmp_path / "bad")
    (tmp_path / "none").mkdir()
    for name, message in (("bad", "no readable picture in .*broken.png"), ("none", "no picture")):
        with pytest.raises(LexLIPError, match=message):
            encode(replace(settings, data=str(tmp_path / name)), Data(), tmp_path / "parts")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad", "none"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "nowhere"}, "no checkpoint in 'nowhere'"),
        ({"workers": 0}, "workers is 0: give 1 or more"),
        ({"part_size": 0}, "part_size is 0"),
        ({"max_terms": 0}, "at least one term"),
    ],
)
def test_mistakes_are_said_at_once(settings, tmp_path, change, message):
    with pytest.raises(LexLIPError, match=message):
        encode(replace(settings, **change), Data(), tmp_path / "parts")
    assert not list(tmp_path.iterdir())


def test_the_command(settings, tmp_path):
    given = (f"data={settings.data}", f"model={settings.model}", "part_size=5")
    result = CliRunner().invoke(app, [*given, f"out={tmp_path / 'parts'}"])
    assert result.exit_code == 0, result.output
    assert "12 pictures (1 skipped) in 3 parts" in result.stdout
    assert "broken.png" in result.stderr
    assert json.loads((tmp_path / "parts" / "manifest.json").read_text())["max_terms"] == 64
    refused = CliRunner().invoke(app, [*given, f"out={settings.data}"])
    assert refused.exit_code == 2 and "is not empty" in refused.stderr

"""Encoding on Ray: parts as of one process, and a line wherever a cluster does not help."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from indexing.delivery import accept, attempts, deliver
from indexing.encode import encode
from indexing.on_ray import Work, connect
from indexing.settings import Settings
from lexlip.build.encode import encode_pictures
from lexlip.build.encoded_parts import Encoded
from lexlip.build.recipe import Recipe
from lexlip.data.collection import load_collection
from lexlip.errors import LexLIPError
from lexlip.settings import Data
from lexlip.storage.remote import Remote

ROOT = Path(__file__).resolve().parents[2]


def files(folder):
    """Return the bytes of all parts by their names."""
    found = sorted(Path(folder).glob("part-*/*"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.mark.parametrize("through", ["", "folder", "memory://attempts"])
def test_one_of_several_attempts_becomes_the_part(model, checkpoint, photos, tmp_path, through):
    if through == "folder":
        through = str(tmp_path / "seen-by-all")
    source = load_collection(photos)
    local = encode(
        Settings(data=str(photos), model=str(checkpoint), out="x", part_size=5), Data(),
        tmp_path / "local",
    )  # fmt: skip
    assert len(local) == 3
    with Encoded.plan(tmp_path / "parts", model, source, Recipe(), checkpoint, 5) as encoded:
        with attempts(encoded, through) as place:
            for number in encoded.missing():
                work = Work.of(source, encoded, number)
                chunk = encode_pictures(model, work.pictures_of(), range(len(work.ids)))
                names = [deliver(encoded, number, chunk, place) for _ in range(2)]
                assert encoded.missing()[0] == number  # nothing is there before it is taken
                accept(encoded, number, names[1], place)
            with pytest.raises(LexLIPError, match="part 0 did not come|cannot be used|not exist"):
                accept(encoded, 0, "000000-nobody", place)
        assert encoded.missing() == []
    assert files(tmp_path / "parts") == files(tmp_path / "local")
    left = [path.name for path in (tmp_path / "parts").iterdir() if path.name.startswith(".part")]
    assert left == []
    if through.startswith("memory"):
        assert Remote(through).filesystem.find("/attempts") == []
    elif through:
        assert list(Path(through).iterdir()) == []


def test_a_corrupted_attempt_is_not_taken(model, checkpoint, photos, tmp_path):
    source = load_collection(photos)
    with Encoded.plan(tmp_path / "parts", model, source, Recipe(), checkpoint, 50) as encoded:
        with attempts(encoded, "") as place:
            chunk = encode_pictures(model, source, range(len(source)))
            name = deliver(encoded, 0, chunk, place)
            weights = Path(place) / name / "part-000000" / "weights.npz"
            weights.write_bytes(weights.read_bytes()[:-9])
            with pytest.raises(LexLIPError, match="corrupted"):
                accept(encoded, 0, name, place)
        assert encoded.missing() == [0]


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"address": "127.0.0.1:9"}, "no Ray cluster at 127.0.0.1:9 .*ray start --head"),
        ({"address": "somewhere"}, "'somewhere' is no address of a Ray cluster: give HOST:PORT"),
    ],
)
def test_a_cluster_that_is_away_is_a_line(settings, line):
    with pytest.raises(LexLIPError, match=line):
        connect(Settings(runner="ray", **settings))


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"runner": "spark"}, "runner is 'spark': give local or ray"),
        ({"address": "a:1"}, "go with runner=ray"),
        ({"runner": "ray", "cpus": 0.0}, "0 or more"),
        ({"runner": "ray", "tries": 0}, "tries is 0"),
    ],
)
def test_settings_that_do_not_go_together(checkpoint, settings, line):
    with pytest.raises(LexLIPError, match=line):
        Settings(model=str(checkpoint), out="x", **settings).check()


def job(*settings, environment=None, seconds=150):
    return subprocess.run(
        [sys.executable, "-m", "indexing.encode", *map(str, settings)], cwd=ROOT, text=True,
        capture_output=True, timeout=seconds, env=environment or os.environ,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.full
def test_ray_on_one_machine_gives_the_parts_of_one_process(checkpoint, photos, tmp_path):
    given = Settings(data=str(photos), model=str(checkpoint), out="x", part_size=5, max_terms=8)
    encode(given, Data(), tmp_path / "local")
    settings = [f"data={photos}", f"model={checkpoint}", "part_size=5", "max_terms=8"]
    done = job(*settings, f"out={tmp_path / 'ray'}", "runner=ray", "workers=1")
    assert done.returncode == 0 and "12 pictures (1 skipped)" in done.stdout, done.stderr
    assert files(tmp_path / "ray") == files(tmp_path / "local")
    again = replace(given, runner="ray", address="127.0.0.1:9")
    assert len(encode(again, Data(), tmp_path / "ray")) == 3  # all is there: no cluster is asked


@pytest.mark.slow
@pytest.mark.full
def test_a_cluster_without_free_cpus_and_one_with_another_token(checkpoint, photos, tmp_path):
    from eval.load.ray_nodes import Nodes

    settings = [f"data={photos}", f"model={checkpoint}", f"out={tmp_path / 'ray'}", "runner=ray"]
    with Nodes(0) as nodes:  # a head, which has no CPUs
        settings += [f"address={nodes.address}", "start_timeout=2"]
        done = job(*settings, environment=nodes.environment)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
        assert "no worker started within start_timeout=2 s: each needs cpus=1" in done.stderr
        wrong = nodes.environment | {"RAY_AUTH_TOKEN": "0" * 32}
        done = job(*settings, environment=wrong)
        last = done.stderr.splitlines()[-1]  # behind what Ray itself has to say
        assert done.returncode == 2 and "set the RAY_AUTH_TOKEN" in last, done.stderr


@pytest.mark.slow
@pytest.mark.full
@pytest.mark.parametrize("run", ["worker killed", "node killed"])
def test_three_nodes_of_which_something_is_killed(checkpoint, photos, run):
    command = [f"data={photos}", "split=", "limit=12", f"model={checkpoint}", "part_size=1"]
    done = subprocess.run(
        [sys.executable, "-m", "eval.load.encoding_on_ray", *command, f"runs={run}", "kinds=tars"],
        cwd=ROOT, text=True, capture_output=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0 and "equal byte by byte" in done.stdout, done.stdout + done.stderr

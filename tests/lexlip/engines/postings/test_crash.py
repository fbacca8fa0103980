"""What a kill and a full disk leave behind: a whole commit of the postings engine.

`LEXLIP_KILLS` sets how many processes are killed:
`LEXLIP_KILLS=500 pytest tests/lexlip/engines/postings/test_crash.py`.
"""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from lexlip.engines import PostingsEngine
from lexlip.errors import LexLIPError
from lexlip.storage.generations import verify
from tests.support.oracles import WIDTH, add, assert_holds

REPOSITORY = Path(__file__).resolve().parents[4]
KILLS = int(os.environ.get("LEXLIP_KILLS", "6"))
pytestmark = pytest.mark.usefixtures("no_flush")


def step(n):
    """Return what the n-th commit of the seeded history adds and deletes."""
    generator = random.Random(n)
    added = {
        f"d{generator.randrange(60)}": (
            {t: generator.randint(1, 255) for t in generator.sample(range(WIDTH), 3)},
            {"year": generator.randint(0, 5), "folder": generator.choice("abc")},
        )
        for _ in range(generator.randint(0, 12))
    }
    gone = [f"d{generator.randrange(60)}" for _ in range(generator.randint(0, 5))]
    return added, gone


def after(steps):
    """Return the documents after so many commits."""
    documents = {}
    for n in range(steps):
        added, gone = step(n)
        documents.update(added)
        for name in gone:
            documents.pop(name, None)
    return documents


def take_step(engine, n, compacts):
    added, gone = step(n)
    add(engine, added)
    engine.delete(gone)
    engine.commit({"steps": str(n + 1)})
    if compacts:
        engine.compact()


def steps_of(engine):
    return int(engine.user_data.get("steps", "0"))


CHILD = """
import importlib.util, os, sys
from lexlip.engines.postings import engine as postings
spec = importlib.util.spec_from_file_location("history", sys.argv[2])
history = importlib.util.module_from_spec(spec)
spec.loader.exec_module(history)
postings._SMALL = int(sys.argv[3])
os.fsync = lambda descriptor: None
engine = history.PostingsEngine(sys.argv[1])
n = history.steps_of(engine)
print("from", n, flush=True)
while True:
    history.take_step(engine, n, compacts=sys.argv[4] == "1")
    n += 1
    print(n, flush=True)
"""


@pytest.mark.parametrize("compacts", [False, True], ids=["commits", "compacts"])
def test_a_killed_writer_leaves_a_whole_commit(tmp_path, compacts):
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    generator = random.Random(compacts)
    folder, most = tmp_path / "index", 0
    for kill in range(max(1, KILLS // 2)):
        small = str((0, 2048)[kill % 2])
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(folder), __file__, small, str(int(compacts))],
            stdout=subprocess.PIPE,
            text=True,
            env=environ,
        )
        first = child.stdout.readline()
        assert first == f"from {most}\n"
        lines = [child.stdout.readline() for _ in range(generator.randint(0, 5))]
        time.sleep(generator.random() * 0.1)
        child.kill()
        child.wait()
        reported = [most, *(int(line) for line in [*lines, *child.stdout.read().split()])]
        child.stdout.close()
        reader = PostingsEngine(folder, "r")
        steps = steps_of(reader)
        assert steps in (reported[-1], reported[-1] + 1)
        assert_holds(reader, after(steps), seed=kill)
        reader.close()
        assert verify(folder) == []
        most = steps
    assert most > 0
    engine = PostingsEngine(folder)
    take_step(engine, most, compacts=False)
    assert_holds(engine, after(most + 1))
    files = {path.name for path in folder.iterdir()}
    engine.close()
    assert files == {path.name for path in folder.iterdir()}  # nothing was left over


@pytest.mark.parametrize("compacts", [False, True], ids=["commits", "compacts"])
def test_a_full_disk_at_every_step_keeps_the_last_commit(tmp_path, many_parts, compacts):
    """The n-th thing that a commit writes fails, for every n."""
    for left in range(0, 200, 3 if compacts else 1):
        engine = PostingsEngine(tmp_path / str(left))
        for n in range(4):
            take_step(engine, n, compacts=False)
        calls = 0

        def full(function, left=left):
            def wrapped(*args, **kwargs):
                nonlocal calls
                calls += kwargs.get("mode") != "r"
                if calls > left and kwargs.get("mode") != "r":
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return function(*args, **kwargs)

            return wrapped

        failed = None
        with pytest.MonkeyPatch.context() as patch:
            for owner, name in (
                (np, "save"),
                (np.lib.format, "open_memmap"),
                (os, "replace"),
                (os, "fsync"),
                (os, "mkdir"),
            ):
                patch.setattr(owner, name, full(getattr(owner, name)))
            try:
                take_step(engine, 4, compacts)
            except LexLIPError as error:
                failed = str(error)
        if failed is None:
            assert_holds(engine, after(5))
            engine.close()
            break
        assert failed.endswith("No space left on device") and "\n" not in failed
        reader = PostingsEngine(tmp_path / str(left), "r")
        steps = steps_of(reader)
        assert steps == 4 or calls > 15
        assert_holds(reader, after(steps))
        reader.close()
        if steps == 4:
            assert_holds(engine, after(4))
        engine.commit({"steps": "5"})  # there is room again: nothing was forgotten
        assert_holds(engine, after(5))
        engine.close()
        assert verify(tmp_path / str(left)) == []
    assert left > 15

"""The demonstration: drawn, indexed, asked and served, twice, with right hits and without torch."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from lexlip import Index, Query
from lexlip.data.scenes import make_scenes
from lexlip.home.demo import QUERIES, SCENES, SEED, demonstration
from tests.test_layering import ROOT

HEAVY = ("torch", "transformers", "pandas", "sklearn", "pyserini", "pyarrow", "datasets")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    demonstration(folder)
    return folder


def test_it_answers_in_the_terminal_without_torch(home):
    code = (
        f"import sys\nsys.argv = ['lexlip', 'demo', '--no-page', '--folder', {str(home)!r}]\n"
        "from lexlip.cli.__main__ import main\ntry:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert [text for text in QUERIES if f'"{text}"' not in done.stdout] == []
    assert len(re.findall(r"^ 1 ", done.stdout, re.M)) == len(QUERIES)


def shapes(scene, colour=None):
    """The shapes that a scene shows, in one colour or in any."""
    return {group.shape for group in scene.groups if colour in (None, group.colour)}


def test_the_right_pictures_are_on_top(home):
    scenes = make_scenes(SCENES, SEED)
    right = {
        "a heart in the snow": lambda it: "heart" in shapes(it) and it.ground == "snow",
        "heart + moon -night": lambda it: {"heart", "moon"} <= shapes(it) and it.ground != "night",
        "a blue diamond": lambda it: "diamond" in shapes(it, "blue"),
    }
    assert set(right) == set(QUERIES)
    with Index.open(home / "demo.lex") as index:
        assert len(index) == SCENES
        for text, is_right in right.items():
            hits = [int(hit.id[:3]) for hit in index.search(Query.parse(text), 3)]
            assert all(is_right(scenes[number]) for number in hits), (text, hits)
            assert sum(map(is_right, scenes)) < 0.1 * SCENES  # chance finds none of them


def test_it_is_made_once(home):
    before = os.stat(home / "demo.lex" / "manifest.json").st_mtime_ns
    assert demonstration(home) == home / "demo.lex"
    assert os.stat(home / "demo.lex" / "manifest.json").st_mtime_ns == before

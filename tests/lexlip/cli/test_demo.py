"""The demonstration: drawn, indexed, asked and served, twice, with right hits and without torch."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from lexlip import Index, Query
from lexlip.cli import app
from lexlip.data.scenes import make_scenes
from lexlip.home.demo import QUERIES, SCENES, SEED, demonstration
from lexlip.server import create_app
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


def shapes(scene):
    return {group.shape for group in scene.groups}


def red(scene):
    return "red" in {group.colour for group in scene.groups}


def test_the_right_pictures_are_on_top(home):
    scenes = make_scenes(SCENES, SEED)
    right = {
        "a heart in the snow": lambda it: "heart" in shapes(it) and it.ground == "snow",
        "red + moon -night": lambda it: "moon" in shapes(it) and red(it) and it.ground != "night",
        "two hearts": lambda it: any((g.shape, g.count) == ("heart", 2) for g in it.groups),
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


def test_its_hits_are_explained_word_by_word(home):
    """A query table reads the texts: it knows which word raised what, and has no attention."""
    with Index.open(home / "demo.lex") as index:
        hit = index.search("a moon at night", 1)[0]
    line = ["explain", str(home / "demo.lex"), "a moon at night", hit.id]
    shown = CliRunner().invoke(app, line)
    assert shown.exit_code == 0 and "attention" not in shown.output
    assert re.search(r"^ *night +night:\S+ dark:", shown.output, re.M)
    told = json.loads(CliRunner().invoke(app, [*line, "--json"]).stdout)
    with TestClient(create_app(home / "demo.lex"), base_url="http://127.0.0.1") as client:
        image = client.get("/search", params={"q": "a moon at night", "k": 1}).json()["hits"][0]
        asked = {"image": image["image"], "q": "a moon at night"}
        answer = client.get("/explain", params=asked)
    assert answer.status_code == 200, answer.text
    for texts in (told["texts"], answer.json()["texts"]):
        assert [word["word"] for word in texts[0]["words"]] == ["a", "moon", "at", "night"]
        assert {word["attention"] for word in texts[0]["words"]} == {None}

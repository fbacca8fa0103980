"""Numbers of a search: one line and code 2 (422 over HTTP) on every path, whatever is given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from lexlip import Index, LexLIPError
from lexlip.cli import app
from lexlip.server.app import create_app
from lexlip.server.settings import Settings

NO_COUNTS = [0, -3, True, False, 2.5, 5.0, "5", None, [5], np.float64(5), np.bool_(True)]


@pytest.fixture(scope="module")
def path(checkpoint, model, photos, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("numbers") / "photos.lex"
    made = Index.create(
        path, model, photos, engine="postings", keep_floats=True, checkpoint=checkpoint
    )
    made.close()
    return path


@pytest.fixture(scope="module")
def index(path, model):
    with Index.open(path, model) as index:
        yield index


@pytest.fixture(scope="module")
def client(path, model):
    with TestClient(create_app(path, model, Settings()), "http://127.0.0.1") as client:
        yield client


@pytest.mark.parametrize("number", NO_COUNTS, ids=repr)
def test_python_says_so_in_one_line(index, model, word_table, number):
    calls = [
        lambda: index.search("red", number),
        lambda: index.search("red", k=number, rescore=100),
        lambda: index.prepare("red", max_weight=number),
        lambda: index.engine.search({1: 1}, number),
        lambda: model.words_of("red", number),
        lambda: word_table.terms("red", number),
    ]
    if number is not None:
        calls.append(lambda: index.search("red", max_terms=number))
        calls.append(lambda: index.prepare("red", max_terms=number))
        calls.append(lambda: index.search("red", rerank="filip", depth=number))
    if number != 0 or isinstance(number, bool):
        calls.append(lambda: index.search("red", rescore=number))
    for call in calls:
        with pytest.raises(LexLIPError, match="whole number") as caught:
            call()
        assert len(str(caught.value).splitlines()) == 1


def test_numbers_of_numpy_and_large_ones_are_fine(index):
    every = index.search("a red circle", 12)
    assert index.search("a red circle", np.int64(3)) == every[:3]
    for k in (2**31 - 1, 2**31, 2**63, 10**30):
        assert index.search("a red circle", k)[:12] == every
        assert index.search("a red circle", rescore=k, k=12) == index.search(
            "a red circle", 12, rescore=12
        )


def test_settings_that_would_be_ignored_are_named(index):
    with pytest.raises(LexLIPError, match="depth is for hits that something orders"):
        index.search("red", depth=50)
    with pytest.raises(LexLIPError, match="leave out one"):
        index.search("red", rescore=50, rerank="filip")


BAD = [
    ["-k", "-3"], ["-k", "0"], ["-k", "-3", "--rescore", "100"], ["-k", "0", "--trec", "q"],
    ["--rescore", "-1"], ["--depth", "0", "--rerank", "filip"], ["--depth", "5"],
    ["--query-terms", "0"], ["--query-terms", "-5"],
]  # fmt: skip


@pytest.mark.parametrize("options", BAD, ids=" ".join)
def test_the_command_line_exits_with_2(path, options):
    result = CliRunner().invoke(app, ["search", str(path), "red", *options])
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1 and result.stderr.startswith("lexlip: ")


def test_other_commands_exit_with_2_too(path, checkpoint):
    for line in (["words", "red", "-m", checkpoint, "-k", "-3"], ["tune", path, "--sample", "0"]):
        result = CliRunner().invoke(app, list(map(str, line)))
        assert (result.exit_code, result.stdout) == (2, "")
        assert len(result.stderr.splitlines()) == 1, result.stderr


@pytest.mark.parametrize("name", ["k", "depth"])
@pytest.mark.parametrize("number", [0, -3, True, 2.5, "5", "x", [5]], ids=repr)
def test_the_server_answers_422(client, name, number):
    answer = client.post("/search", json={"q": "red", name: number})
    assert answer.status_code == 422 and answer.json()["error"].startswith(name)
    if not isinstance(number, list) and number != "5":
        answer = client.get("/search", params={"q": "red", name: number})
        assert answer.status_code == 422 and name in answer.json()["error"]

"""The job that builds an index: settings from a config, a run's folder or options."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from indexing.build import Settings, build, main
from lexlip import Index
from lexlip.errors import LexLIPError
from lexlip.settings import Data

app = typer.Typer()
app.command()(main)


def command(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def manifest(path):
    return json.loads((path / "manifest.json").read_text())


@pytest.fixture
def run(checkpoint, tmp_path):
    """A run whose second stage is the tiny model, and a config of a few scenes for it."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "stage2").symlink_to(checkpoint)
    (tmp_path / "tiny.toml").write_text(
        f"""
        [data]
        source = "scenes"
        scenes = {{ train = 5, dev = 3, test = 4, size = 32 }}
        cache = "{tmp_path / "cache"}"

        [index]
        engine = "postings"
        max_terms = 6
        """
    )
    return folder, tmp_path / "tiny.toml"


def test_a_config_and_a_run_say_everything(run, model):
    folder, config = run
    result = command("--config", config, "--run", folder)
    assert result.exit_code == 0, result.output
    found = manifest(folder / "index")
    assert (found["max_terms"], found["engine"]) == (6, "postings")
    assert found["checkpoint"] == str((folder / "stage2").resolve())
    assert "3 pictures (0 skipped)" in result.stdout and "cosine" in result.stdout
    again = command("--config", config, "--run", folder)  # a run's index is replaced
    assert again.exit_code == 0 and "3 pictures" in again.stdout
    with Index.open(folder / "index", model) as index:
        assert len(index) == 3
        assert {hit.id for hit in index.search("a red circle", 9)} <= {
            f"scene-{i:06}" for i in (5, 6, 7)
        }


def test_options_go_before_the_config(run):
    folder, config = run
    out = folder / "other"
    options = ("--split", "test", "--max-terms", 2, "--out", out)
    result = command("--config", config, "--run", folder, *options)
    assert result.exit_code == 0, result.output
    assert "4 pictures" in result.stdout and manifest(out)["max_terms"] == 2
    assert not (folder / "index").exists()


def test_the_config_may_name_the_split(run):
    folder, config = run
    config.write_text(config.read_text() + 'split = "train"\n')
    assert "5 pictures" in command("--config", config, "--run", folder).stdout


def test_any_pictures_without_a_config(checkpoint, photos, tmp_path):
    options = ("--data", photos, "--model", checkpoint, "--out", tmp_path / "x")
    result = command(*options, "--engine", "postings")
    assert result.exit_code == 0, result.output
    assert "12 pictures (1 skipped)" in result.stdout
    assert manifest(tmp_path / "x")["source"] == str(photos)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[index]\nmax_term = 3\n", "index.max_term; did you mean index.max_terms?"),
        ("[data]\nsorce = 'x'\n", "data.sorce; did you mean data.source?"),
        ("[index]\nengine = 3\n", "index.engine must be str, not 3"),
        ("[index\n", "not valid TOML"),
    ],
)
def test_mistakes_in_the_config_are_one_line(tmp_path, text, message):
    (tmp_path / "a.toml").write_text(text)
    result = command("--config", tmp_path / "a.toml", "--run", tmp_path / "run")
    assert result.exit_code == 2
    assert message in result.stderr and len(result.stderr.splitlines()) == 1


def test_a_run_that_was_not_trained_is_named(run, tmp_path):
    result = command("--config", run[1], "--run", tmp_path / "untrained")
    assert result.exit_code == 2 and "untrained/stage2" in result.stderr
    assert not (tmp_path / "untrained").exists()


def test_nowhere_to_write_is_an_error(checkpoint, photos):
    settings = Settings(data=str(photos), model=str(checkpoint), engine="postings")
    with pytest.raises(LexLIPError, match="nowhere to write"):
        build(settings, Data())

"""Extras: without one, a single line names it, wherever its packages would be used."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from lexlip.errors import EXTRAS, LexLIPError, missing, require
from tests.support import extras

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OPTIONAL = PROJECT["optional-dependencies"]


def hidden(code, *words):
    """Run code in a Python from which all packages of extras are hidden."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", extras.HIDE + code, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=environ, cwd=ROOT)


def brought(extra):
    """Names of the distributions that an extra brings by itself or through another one of ours."""
    for requirement in OPTIONAL[extra]:
        name = re.match(r"[\w.-]+", requirement)[0].lower()
        if name == "lexlip":
            for other in re.search(r"\[(.*)]", requirement)[1].split(","):
                yield from brought(other)
        else:
            yield name.replace("_", "-")


def test_what_is_missing_names_its_extra(tmp_path):
    extras.check(hidden(extras.ASKED, tmp_path))


@pytest.mark.parametrize("module", EXTRAS)
def test_the_extra_that_is_named_brings_the_package(module):
    distribution = {
        "jnius": "pyjnius", "jnius_config": "pyjnius", "open_clip": "open-clip-torch",
        "milvus_lite": "milvus-lite", "opensearchpy": "opensearch-py",
        "pyarrow": "datasets", "sentence_transformers": "sentence-transformers",
    }.get(module, module)  # fmt: skip
    assert distribution in set(brought(EXTRAS[module]))


def test_the_tests_bring_all_that_a_user_may_ask_for():
    everything = set(brought("test"))
    for extra in (
        "torch",
        "fast",
        "lucene",
        "parquet",
        "train",
        "raw",
        "ray",
        "remote",
        "st",
        "bench",
        "milvus",
        "opensearch",
    ):
        assert set(brought(extra)) <= everything, extra


def test_a_plain_install_has_no_networks_and_no_java():
    plain = {re.match(r"[\w.-]+", line)[0].lower() for line in PROJECT["dependencies"]}
    assert not plain & {"torch", "transformers", "pyserini", "pyjnius", "datasets", "accelerate"}
    assert all("==" not in line for line in PROJECT["dependencies"])  # pins are constraints
    assert any(line.startswith("torch>=") for line in OPTIONAL["torch"])


def test_a_command_says_it_in_one_line(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "lexlip"}')
    code = "import sys; from lexlip.cli import app; app()"
    done = hidden(code, "words", "a red star", "-m", tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("lexlip: ") and line.endswith(
        "torch is missing: pip install 'lexlip[torch]'"
    )


def test_all_but_the_networks_are_imported_without_them():
    code = """
import importlib, pkgutil, sys
import lexlip
for module in pkgutil.walk_packages(lexlip.__path__, "lexlip."):
    if not module.name.endswith("__main__"):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            print(module.name, error.name)
"""
    done = hidden(code)
    assert done.returncode == 0, done.stderr
    failed = dict(line.split() for line in done.stdout.splitlines())
    assert "lexlip.models.lexlip" in failed
    loops = {name for name, lacks in failed.items() if lacks == "numba"}
    assert loops == {
        "lexlip.engines.postings.kernel", "lexlip.rerank.loops", "lexlip.storage.product_loops"
    }  # fmt: skip
    others = failed.keys() - loops
    assert {failed[name] for name in others} <= {"torch", "transformers"}
    assert all(name.startswith("lexlip.models.") for name in others)


def test_messages_of_networks_are_silenced_without_loading_one():
    code = """
import sys
import huggingface_hub
from huggingface_hub.utils import are_progress_bars_disabled
from lexlip.models.runtime import quiet, set_threads
quiet(), set_threads(1)
print(are_progress_bars_disabled(), "transformers" in sys.modules)
"""
    assert hidden(code).stdout.split() == ["True", "False"]


def test_other_modules_are_not_explained_away():
    assert missing(ModuleNotFoundError(name="lexlip.nothing")) is None
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        require("no_such_module")
    with pytest.raises(LexLIPError, match=r"^torch is missing: pip install 'lexlip\[torch\]'$"):
        raise missing(ModuleNotFoundError(name="torch.nn"))

"""The command lines of all jobs: where settings are read from, and keys; nothing else."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import re
import typing
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from lexlip.cli import console
from lexlip.settings import option

ROOT = Path(__file__).resolve().parents[1]
OPTIONS = {"--config", "--run", "--resume", "--no-resume"}


def runnable():
    """Modules that are run with `python -m`, the worker process of the race aside."""
    for job in ("pretrain", "indexing", "eval"):
        for path in sorted((ROOT / job).rglob("*.py")):
            if 'if __name__ == "__main__"' in path.read_text() and path.name != "worker.py":
                yield ".".join(path.relative_to(ROOT).with_suffix("").parts)


JOBS = list(runnable())


def keys_of(settings, prefix=""):
    hints = typing.get_type_hints(settings)
    for field in dataclasses.fields(settings):
        if dataclasses.is_dataclass(hints[field.name]):
            yield from keys_of(hints[field.name], f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, field


def test_the_jobs_are_found():
    assert len(JOBS) > 17
    assert {"eval.bench.__main__", "eval.race.__main__", "pretrain.stage1"} <= set(JOBS)


@pytest.mark.parametrize("name", JOBS)
def test_a_job_has_keys_and_no_options_but_where_to_read_them(name):
    job = importlib.import_module(name).app
    assert isinstance(job, console.Job)
    command = typer.main.get_command(job)
    declared = [p for p in command.params if p.param_type_name == "option"]
    assert {o for p in declared for o in (*p.opts, *p.secondary_opts)} <= OPTIONS
    assert sum(p.param_type_name == "argument" for p in command.params) == 1
    helped = CliRunner().invoke(job, ["--help"])
    assert helped.exit_code == 0
    for key, field in keys_of(job.settings):
        same = key.split(".")[0] in ("stage2", "finetune", "dense", "heads")  # told with stage1's
        assert f"  {key}" in helped.output or same, key
        assert field.metadata["help"] and (same or field.metadata["help"] in helped.output)
    wrong = CliRunner().invoke(job, ["no_such_key=1"])
    assert wrong.exit_code == 2 and "unknown setting no_such_key" in wrong.output


@dataclasses.dataclass(frozen=True)
class Inner:
    rate: float = option(0.5, "how fast")


@dataclasses.dataclass(frozen=True)
class Grown(Inner):
    size: int = option(3, "how large")


@dataclasses.dataclass(frozen=True)
class Settings:
    on: bool = option(False, "whether")
    names: tuple[str, ...] = option(("a", "b"), "which")
    shares: typing.Mapping[str, float] = dataclasses.field(default_factory=dict)
    first: Inner = dataclasses.field(default_factory=Inner)
    second: Inner = dataclasses.field(default_factory=Inner)
    third: Grown = dataclasses.field(default_factory=Grown)


def test_keys_are_told_once():
    lines = console.keys(Settings).splitlines()[2:]
    assert [" ".join(line.split()) for line in lines] == [
        "on=false whether",
        "names=a,b which",
        "shares.NAME=",
        "first.*, second.*:",
        "first.rate=0.5 how fast",
        "third.*: as first.* and",
        "third.size=3 how large",
    ]


def said(path):
    """Yield what a module may print: its texts, docstrings and notes below constants aside."""
    tree = ast.parse(path.read_text())
    notes = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in notes:
            yield " ".join(node.value.split())


CLONE = re.compile(
    r"\bmake (?:" + "|".join(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text())) + r")"
    r"\b|python -m (?:pretrain|indexing|eval)|\bMakefile\b|\bCONFIG="
)


def test_nothing_that_the_package_says_needs_a_clone():
    """pip install brings no Makefile and no jobs, so no message may send anybody there."""
    assert CLONE.search("train that head (make pretrain-heads)")
    assert CLONE.search("or make demo first") and not CLONE.search("make demonstrations")
    texts = [
        (path, text) for path in sorted((ROOT / "lexlip").rglob("*.py")) for text in said(path)
    ]
    assert len(texts) > 1000
    assert [(path.name, text) for path, text in texts if CLONE.search(text)] == []
    static = (ROOT / "lexlip" / "server" / "static").iterdir()
    pages = [path for path in static if path.suffix in (".html", ".js")]
    assert pages
    assert [path.name for path in pages if CLONE.search(path.read_text())] == []

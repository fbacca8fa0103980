"""Figures of a server under load, before and now, side by side: rates, times, memory, files.

    python -m eval.load.attacked checkpoint=runs/demo/stage2
    python -m eval.load.attacked checkpoint=runs/demo/stage2 before=../another-tree

Both trees serve an index of the same pictures by the same checkpoint; each makes its own. Measures
take turns, so that other work on the machine meets both.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import typer

from eval.load.clients import Answers, load
from eval.load.served import ROOT, Served, pictures_of
from lexlip.cli.console import Job, Overrides
from lexlip.errors import LexLIPError
from lexlip.settings import from_overrides, option


@dataclass(frozen=True)
class Settings:
    """Settings of the study; each field is a key."""

    checkpoint: str = option("", "what encodes; the model of the package by default")
    before: str = option("", "another tree of lexlip, measured beside this one")
    pictures: str = option("", "folder of pictures; those of lexlip demo by default")
    engines: tuple[str, ...] = option(("postings", "lucene"), "of the index")
    rounds: int = option(3, "turns that the trees take; the median counts")
    requests: int = option(800, "of each measure in a round")
    short: int = option(1000, "short connections, once")
    many: int = option(20_000, "requests after which memory is compared; 0 for none")


def built(home: Path, tree: str, engine: str, checkpoint: str, pictures: Path) -> Path:
    """Return an index that lexlip of a tree made.

    Raises
    ------
    LexLIPError
        When it does not.
    """
    path = Path(tempfile.mkdtemp(dir=home)) / "i.lex"
    model = (
        ["-m", os.path.abspath(checkpoint)] if os.path.exists(checkpoint) else ["-m", checkpoint]
    )
    command = [sys.executable, "-m", "lexlip.cli", "index", str(pictures), "-o", str(path)]
    done = subprocess.run(
        [*command, *model, "--engine", engine], capture_output=True, text=True, cwd=tree,
        env=os.environ | {"PYTHONPATH": tree},
    )  # fmt: skip
    if done.returncode:
        raise LexLIPError(f"{tree} makes no index: {done.stderr.strip()[-300:]}")
    return path


def told(rounds: list[Answers]) -> str:
    """Return the medians of rounds: answers a second, p50 and p99 in milliseconds."""
    rate, middle, slow = (
        statistics.median(values)
        for values in (
            [it.rate for it in rounds],
            [it.share(0.5) for it in rounds],
            [it.share(0.99) for it in rounds],
        )
    )
    other = sum((it.statuses for it in rounds), start=type(rounds[0].statuses)())
    wrong = {status: n for status, n in other.items() if status != 200}
    lost = sum(len(it.errors) for it in rounds)
    more = f", {wrong}" * bool(wrong) + f", {lost} lost" * bool(lost)
    return f"{rate:.0f}/s, {middle:.1f}, {slow:.1f}{more}"


def measure(servers: dict[str, Served], settings: Settings) -> dict[str, list[str]]:
    """Return a row of cells, one for each server, for each measure."""
    count = settings.requests
    ways: dict[str, Callable[[int], Answers]] = {
        "1 client, kept": lambda port: load(port, 1, count // 4, True),
        "8 clients, kept": lambda port: load(port, 8, count, True),
        "8 clients, new ones": lambda port: load(port, 8, count, False),
    }
    once: dict[str, Callable[[int], Answers]] = {
        f"{settings.short:,} short ones, 1 at a time": lambda port: load(
            port, 1, settings.short, False
        ),
        f"{settings.short:,} short ones, 50 at a time": lambda port: load(
            port, 50, settings.short, False
        ),
        "100 clients at once, 600 requests": lambda port: load(port, 100, 600, False),
    }
    found: dict[str, dict[str, list[Answers]]] = {name: {} for name in (*ways, *once)}
    for number in range(settings.rounds + 1):
        for name, way in ways.items():
            for tree, server in servers.items():
                answers = way(server.port)
                if number:  # the first round is not counted
                    found[name].setdefault(tree, []).append(answers)
    for name, way in once.items():
        for tree, server in servers.items():
            found[name][tree] = [way(server.port)]
    return {name: [told(rounds) for rounds in trees.values()] for name, trees in found.items()}


def kept(server: Served, count: int) -> str:
    """Return memory and open files before and after many requests."""
    load(server.port, 8, count // 10, True)  # what is allocated once
    before, files = server.memory(), server.descriptors()
    answers = load(server.port, 8, count, True)
    assert not answers.errors and set(answers.statuses) == {200}, answers.statuses
    after, open_now = server.memory(), server.descriptors()
    return f"{before:.0f} -> {after:.0f} MB, {files} -> {open_now} files"


def main(overrides: Overrides = None) -> None:
    """Measure servers of one or two trees, and print a table for each engine."""
    settings = from_overrides(Settings, overrides or [])
    trees = {"now": os.fspath(ROOT)}
    if settings.before:
        trees = {"before": os.path.abspath(settings.before), **trees}
    from lexlip.models.shipped import SHIPPED

    checkpoint = settings.checkpoint or os.fspath(SHIPPED)
    with tempfile.TemporaryDirectory() as home:
        pictures = pictures_of(settings.pictures, Path(home))
        for engine in settings.engines:
            with ExitStack() as stack:
                servers = {
                    name: stack.enter_context(
                        Served(built(Path(home), tree, engine, checkpoint, pictures), tree=tree)
                    )
                    for name, tree in trees.items()
                }
                rows = measure(servers, settings)
                if settings.many:
                    rows[f"{settings.many:,} requests"] = [
                        kept(server, settings.many) for server in servers.values()
                    ]
            typer.echo(f"\n| {engine} | " + " | ".join(trees) + " |\n|---|" + "---|" * len(trees))
            for name, cells in rows.items():
                typer.echo(f"| {name} | {' | '.join(cells)} |")


app = Job(main, Settings)

if __name__ == "__main__":
    app()

"""The first minute: whole processes of a search, and requests to a server, in milliseconds.

    python -m eval.studies.first_minute
    python -m eval.studies.first_minute target=photos/ query="a dog"

Processes take turns: nothing but Python, the import of torch and transformers (which a search that
loads a network in torch begins with), and ``lexlip search``. Its index is that of ``lexlip demo``,
or of a folder that was searched before. Then ``lexlip serve`` answers queries with explanations.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

import typer

from lexlip.cli.console import Job, Overrides
from lexlip.errors import LexLIPError
from lexlip.home.demo import demonstration
from lexlip.settings import from_overrides, option

QUERIES = (
    "a heart in the snow", "red + moon", "two blue hearts", "a green triangle", "bow at night",
    "a yellow diamond", "a black star", "orange arrow -heart", "purple square", "3:moon + red",
)  # fmt: skip


_LAUNCH = """
import json, resource, subprocess, sys, time
started = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
seconds = time.perf_counter() - started
most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
print(json.dumps([done.returncode, seconds, most, done.stderr[-500:]]))
"""
"""A small process between: the memory of whoever starts a process counts as its own at first."""


def process(command: Sequence[str]) -> tuple[float, float]:
    """Run a process; return its seconds and the most memory that it had, in MB.

    Raises
    ------
    LexLIPError
        When it fails.
    """
    launcher = [sys.executable, "-I", "-S", "-c", _LAUNCH, *command]
    told = subprocess.run(launcher, stdout=subprocess.PIPE, text=True, check=True).stdout
    code, seconds, memory, said = json.loads(told)
    if code:
        raise LexLIPError(f"{' '.join(command[1:4])} fails: {' '.join(said.split())[-200:]}")
    return seconds, memory


def requests(target: str, count: int) -> list[float]:
    """Return the milliseconds of requests to a server of an index or a folder, on one connection.

    Raises
    ------
    LexLIPError
        When the server does not start, or answers with an error.
    """
    command = [sys.executable, "-m", "lexlip.cli", "serve", target, "--port", "0"]
    server = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}
    )
    assert server.stdout is not None
    try:
        lines = (re.search(r"http://127\.0\.0\.1:(\d+)", line) for line in server.stdout)
        found = next((it for it in lines if it), None)
        if found is None:
            raise LexLIPError(f"lexlip serve {target} does not start")
        connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=60)
        taken = []
        for number in range(count + len(QUERIES)):  # the first round is not counted
            started = time.perf_counter()
            text = QUERIES[number % len(QUERIES)]
            connection.request("GET", f"/search?k=10&q={quote(text)}")
            answer = connection.getresponse()
            said = answer.read()
            taken.append(1000 * (time.perf_counter() - started))
            if answer.status != 200:
                raise LexLIPError(f"the server answers {answer.status}: {said[:200]!r}")
        connection.close()
        return taken[len(QUERIES) :]
    finally:
        server.terminate()
        server.wait(30)
        server.stdout.close()


@dataclass(frozen=True)
class Settings:
    """Settings of the study; each field is a key."""

    target: str = option("", "an index, or a folder that was searched before; the demo by default")
    query: str = option("a heart in the snow", "what is asked")
    runs: int = option(10, "runs of each process, after one that is not counted")
    requests: int = option(200, "requests to the server")
    torch: bool = option(True, "time the import of torch and transformers as well")


def main(overrides: Overrides = None) -> None:
    """Time whole processes and requests."""
    settings = from_overrides(Settings, overrides or [])
    target = settings.target or str(demonstration())
    search = [sys.executable, "-m", "lexlip.cli", "search", target, settings.query, "-k", "5"]
    ways = {"python -c pass": [sys.executable, "-c", "pass"]}
    if settings.torch:
        code = "import torch, transformers; transformers.AutoModel, transformers.AutoTokenizer"
        ways["import torch, transformers"] = [sys.executable, "-c", code]
    ways["lexlip search"] = search
    ways["lexlip search --encoder network"] = [*search, "--encoder", "network"]
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for run in range(settings.runs + 1):
        for name, command in ways.items():
            seconds, memory = process(command)
            if run:
                taken[name].append((seconds, memory))
    for name, each in taken.items():
        seconds_, memories = zip(*each, strict=True)
        typer.echo(
            f"{name:>34}  {statistics.median(seconds_):.2f} s  ({min(seconds_):.2f} to "
            f"{max(seconds_):.2f})  {max(memories):.0f} MB"
        )
    answers = sorted(requests(target, settings.requests))
    middle, slow = statistics.median(answers), answers[int(0.95 * len(answers))]
    name = "lexlip serve, ten hits explained"
    typer.echo(f"{name:>34}  {middle:.1f} ms, 95 % within {slow:.1f} ms")


app = Job(main, Settings)

if __name__ == "__main__":
    app()

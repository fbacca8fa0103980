"""The files in docs/deploy/ are those of the page, and the programs that read them take them."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import typer.main
import yaml

from lexlip.cli import app
from lexlip.server.metrics import Metrics
from tests.support.pages import DOCS, ROOT, blocks

FOLDER = DOCS / "deploy"
FILES = sorted(path.name for path in FOLDER.iterdir())
PAGE = (DOCS / "how-to" / "operate.md").read_text("utf-8")


def text_of(name):
    return (FOLDER / name).read_text("utf-8")


def parses(words):
    """Whether `lexlip ...` is a command with these options."""
    assert words[0].rpartition("/")[2] == "lexlip"
    command = typer.main.get_command(app).commands[words[1]]
    return command.make_context(words[1], words[2:])


@pytest.mark.parametrize("name", FILES)
def test_the_page_shows_the_file_as_it_is(name):
    assert text_of(name) in {block.text for block in blocks(PAGE)[0]}


@pytest.mark.parametrize("name", [one for one in FILES if one.endswith(".service")])
def test_services_start_a_command_that_there_is(name):
    line = re.search(r"^ExecStart=((?:.*\\\n)*.*)$", text_of(name), re.M)[1]
    context = parses(shlex.split(line.replace("\\\n", " ").replace("%d", "/run/credentials")))
    assert context.params.get("read_only", True)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_takes_the_units(tmp_path):
    for name in FILES:
        if name.endswith((".service", ".timer")):
            text = text_of(name).replace("/opt/lexlip/bin/lexlip", "/bin/sh")
            (tmp_path / name).write_text(text)
    done = verify(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    (tmp_path / "lexlip.service").write_text("[Service]\nExecStart=/bin/sh\nMemoryMux=4G\n")
    assert "MemoryMux" in verify(tmp_path).stderr  # this can fail


def verify(folder):
    units = sorted(map(str, folder.iterdir()))
    return subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True
    )


def test_the_container_runs_a_command_that_there_is():
    found = dict(
        re.findall(r"^(CMD|HEALTHCHECK CMD|COPY lexlip) (.*)$", text_of("Containerfile"), re.M)
    )
    context = parses(json.loads(found["CMD"]))
    assert context.params["host"] == "0.0.0.0" and context.params["read_only"]
    copied = re.findall(r"^COPY (.*) \S+$", text_of("Containerfile"), re.M)
    assert copied and all((ROOT / one).exists() for line in copied for one in line.split())


def test_the_health_check_of_the_container_asks_the_server(installed_server):
    found = re.search(r"^HEALTHCHECK CMD (.*)$", text_of("Containerfile"), re.M)[1]
    program, *rest = json.loads(found)
    assert program == "python"
    line = [sys.executable, *(one.replace(":8000", f":{installed_server}") for one in rest)]
    assert subprocess.run(line).returncode == 0


@pytest.fixture
def installed_server(demo_home):
    """The port of a server that `lexlip serve` runs."""
    line = [sys.executable, "-m", "lexlip.cli", "serve", "runs/demo/index", "--port", "0"]
    with subprocess.Popen(line, cwd=demo_home, stdout=subprocess.PIPE, text=True) as running:
        try:
            told = next(line for line in running.stdout if "http://127.0.0.1:" in line)
            yield int(re.search(r"http://127\.0\.0\.1:(\d+)", told)[1])
        finally:
            running.terminate()
            running.communicate(timeout=30)


def test_prometheus_files_name_metrics_and_files_that_there_are():
    metrics = Metrics()
    metrics.requests.labels("GET", "/search", "200").inc()
    metrics.seconds.labels("/search").observe(1)
    there = set(re.findall(r"^lexlip_\w+", metrics.text().decode(), re.M))
    alerts = yaml.safe_load(text_of("lexlip-alerts.yml"))
    rules = [rule for group in alerts["groups"] for rule in group["rules"]]
    named = {one for rule in rules for one in re.findall(r"lexlip_\w+", rule["expr"])}
    assert len(rules) > 2 and named and named <= there
    settings = yaml.safe_load(text_of("prometheus.yml"))
    assert set(settings["rule_files"]) <= set(FILES)
    shown = set(re.findall(r"^\| `(lexlip_\w+)`", PAGE, re.M))
    assert shown and {one.removesuffix("_total") for one in shown} <= {
        family.name for family in metrics.registry.collect()
    }

"""``lexlip serve`` as a process, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from typer.testing import CliRunner

from lexlip import Index
from lexlip.cli import app
from lexlip.cli.keys import doubts, read_key
from lexlip.server import Settings

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def path(model, checkpoint, photos, tmp_path, no_flush):
    path = tmp_path / "i.lex"
    Index.create(path, model, photos, engine="postings", checkpoint=checkpoint).close()
    return path


def test_serve_prints_its_address_answers_and_stops(path):
    command = [sys.executable, "-m", "lexlip.cli", "serve", str(path), "--port", "0"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "LEXLIP_API_KEY": "key"},
    ) as process:  # fmt: skip
        try:
            line = process.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:[0-9]+", line)
            assert found, line + process.stderr.read()
            with urlopen(f"{found[0]}/healthz", timeout=30) as answer:
                assert json.load(answer)["documents"] == 12
            asked = Request(f"{found[0]}/search?q=red", headers={"X-API-Key": "key"})
            with urlopen(asked, timeout=30) as answer:
                assert json.load(answer)["hits"]
            process.terminate()
            assert process.wait(30) in (0, -signal.SIGTERM)
            assert "Traceback" not in process.stderr.read()
        finally:
            process.kill()


def refused(*arguments):
    result = CliRunner().invoke(app, ["serve", *map(str, arguments)], env={"LEXLIP_API_KEY": ""})
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("lexlip: ")
    return line


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "example.org"])
def test_other_machines_need_a_key(path, host):
    assert "--api-key" in refused(path, "--host", host)


def test_what_cannot_be_served_is_said_in_one_line(tmp_path, path):
    assert "no picture in" in refused(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert "try --port 0" in refused(path, "--port", port)


def test_a_key_comes_from_a_file(tmp_path):
    file = tmp_path / "key"
    file.write_text("a key of twenty-four!\n")
    file.chmod(0o600)
    assert read_key("given", file) == "a key of twenty-four!" and not doubts("x" * 16, file)
    assert read_key("given", None) == "given" and read_key("", None) is None
    file.chmod(0o644)
    assert ["chmod 600" in line for line in doubts("x" * 16, file)] == [True]
    assert "15 characters" in doubts("x" * 15, None)[0]
    assert "secret" not in repr(Settings(api_key="secret"))


@pytest.mark.parametrize("content", [None, b"", b"\n", b"one\ntwo\n", b"\xff"])
def test_a_file_without_a_key_is_refused(tmp_path, path, content):
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    line = refused(path, "--host", "0.0.0.0", "--api-key-file", file)
    assert str(file) in line and "API key" in line


def test_a_short_key_is_said_before_anything_is_loaded(tmp_path, path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        arguments = ["serve", str(path), "--port", str(taken.getsockname()[1])]
        result = CliRunner().invoke(app, arguments, env={"LEXLIP_API_KEY": "short"})
    assert "has 5 characters" in result.stderr and "try --port 0" in result.stderr

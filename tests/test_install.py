"""make install: the size is said first, and torch comes from TORCH_INDEX."""

from __future__ import annotations

import functools
import os
import shlex
import subprocess
import sys
import threading
import venv
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


class Quiet(SimpleHTTPRequestHandler):
    """A folder as pip reads an index; what was asked for is remembered."""

    def log_message(self, *facts):
        self.server.asked.append(self.path)


@pytest.fixture
def index(tmp_path):
    """An index that has one package: a wheel of a few bytes that is called torch."""
    folder = tmp_path / "simple" / "torch"
    folder.mkdir(parents=True)
    name = "torch-2.13.0+cpu"
    with zipfile.ZipFile(folder / f"{name}-py3-none-any.whl", "w") as wheel:
        info = f"{name}.dist-info"
        wheel.writestr("torch/__init__.py", "made = 'on the spot'\n")
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: torch\nVersion: 2.13.0+cpu\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    handler = functools.partial(Quiet, directory=str(tmp_path / "simple"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", server.asked
        server.shutdown()
        thread.join()


def commands(*settings):
    """Return what make install would run, as lists of words."""
    done = subprocess.run(
        ["make", "--no-print-directory", "-n", "-B", "install", *settings],
        cwd=ROOT, capture_output=True, text=True, check=True,
        env={k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")},
    )  # fmt: skip
    return [shlex.split(line) for line in done.stdout.splitlines()]


def pip(python, *words):
    """Run pip for another Python, with none of this machine's settings."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    environ |= {"PIP_CONFIG_FILE": os.devnull, "NO_PROXY": "127.0.0.1"}
    return subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(python), *words],
        cwd=ROOT, env=environ, capture_output=True, text=True,
    )  # fmt: skip


def test_the_size_is_said_before_anything_is_installed():
    first = commands()[0]
    assert first[0] == "echo" and "GB" in first[1]


def test_without_an_index_nothing_names_one():
    installs = [words for words in commands() if "pip" in words]
    assert len(installs) == 1 and not any("index-url" in word for word in installs[0])
    assert {"torch==2.13.0", ".[test]"} <= set(installs[0])


def test_torch_comes_from_its_index(index, tmp_path):
    url, asked = index
    first, second = [words for words in commands(f"TORCH_INDEX={url}") if "pip" in words]
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    assert first[:3] == [".venv/bin/python", "-m", "pip"]
    done = pip(python, *first[3:])
    assert done.returncode == 0, done.stderr
    assert any(path.endswith(".whl") for path in asked)
    said = subprocess.run([python, "-c", "import torch; print(torch.made)"], capture_output=True)
    assert said.stdout.split() == [b"on", b"the", b"spot"]
    # The second command asks for the same pin, which that build fulfils: no other one is fetched.
    assert "torch==2.13.0" in second and "--index-url" not in second
    again = pip(python, "install", "--no-index", "torch==2.13.0")
    assert again.returncode == 0 and "already satisfied" in again.stdout
